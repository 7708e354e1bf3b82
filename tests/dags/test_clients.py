"""What S3 or the network says of a failure is logged by Airflow; no key of an object is in it."""

from __future__ import annotations

import traceback

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber
from cxr_pipeline.clients import client, promoting_s3
from cxr_pipeline.objects import find

from cxr.pointer import error_code

KEY = "ward/DoeJane.jpeg"


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


def said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def test_a_refusal_keeps_its_code_and_loses_the_key() -> None:
    for s3 in (client("s3"), promoting_s3("")):
        with Stubber(s3) as refusing:
            refusing.add_client_error(
                "get_object", "AccessDenied", f"not authorized on arn:aws:s3:::uploads/{KEY}", 403
            )
            with pytest.raises(ClientError) as refused:
                s3.get_object(Bucket="uploads", Key=KEY)
            refusing.add_client_error("get_object", "NoSuchKey", KEY, 404)
            assert find(s3, "uploads", KEY) is None
        assert error_code(refused.value) == "AccessDenied"
        assert "GetObject" in said(refused.value) and "DoeJane" not in str(refused.value) + repr(refused.value.response)


def test_a_network_fault_keeps_its_type_and_loses_the_address() -> None:
    s3 = client("s3", retries={"max_attempts": 0}, connect_timeout=1)
    with pytest.raises(EndpointConnectionError) as fault:
        s3.head_object(Bucket="uploads", Key=KEY)
    assert "DoeJane.jpeg" not in str(fault.value) + repr(fault.value)
    assert fault.value.__context__ is None and fault.value.__cause__ is None
