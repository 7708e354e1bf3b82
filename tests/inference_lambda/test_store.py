import io

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.response import StreamingBody

from inference_lambda.handler import RESERVE_MS
from inference_lambda.store import ATTEMPTS, CONNECT_SECONDS, READ_SECONDS, Store, is_transient

S3 = "https://uploads.s3.amazonaws.com"


def answered(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


def test_a_call_to_an_s3_that_does_not_answer_costs_less_than_the_reserve():
    waits = sum(2**retry for retry in range(ATTEMPTS - 1))
    assert ATTEMPTS * (CONNECT_SECONDS + READ_SECONDS) + waits < RESERVE_MS / 1000


def test_the_client_waits_and_tries_as_the_sum_says(monkeypatch):
    for name, value in {"DEFAULT_REGION": "us-east-1", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    config = Store()._client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (CONNECT_SECONDS, READ_SECONDS)
    assert config.retries == {"mode": "standard", "total_max_attempts": ATTEMPTS}


@pytest.mark.parametrize(
    "error",
    [
        answered("SlowDown", 503),
        answered("503", 503),
        answered("InternalError", 500),
        answered("TooManyRequests", 429),
        answered("RequestTimeout", 400),
        ClientError({"Error": {"Code": "SlowDown"}}, "GetObject"),
        ReadTimeoutError(endpoint_url=S3),
        ConnectTimeoutError(endpoint_url=S3),
        EndpointConnectionError(endpoint_url=S3),
        ConnectionClosedError(endpoint_url=S3),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ],
    ids=repr,
)
def test_throttles_faults_of_s3_and_timeouts_pass(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        answered("AccessDenied", 403),
        answered("KMS.DisabledException"),
        NoCredentialsError(),
        OSError(28, "No space left on device"),
        KeyError("tolerance"),
        ValueError(),
    ],
    ids=repr,
)
def test_everything_else_stays_until_somebody_mends_it(error):
    assert not is_transient(error)


class HungUp:
    """A client whose objects end before their announced length."""

    def get_object(self, **_):
        body = StreamingBody(io.BytesIO(b"half"), content_length=8)
        return {"Body": body, "ContentLength": 8, "ETag": '"0"', "VersionId": "v1"}


def test_an_object_that_ends_early_is_a_passing_fault_and_no_object():
    with pytest.raises(IncompleteReadError) as raised:
        Store(HungUp()).get("uploads", "a", 100)
    assert is_transient(raised.value)
