from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import jsonschema
import pytest
from moto import mock_aws
from moto.backends import get_backend

from cxr.bundle import sha256_of
from inference_lambda.config import Config
from inference_lambda.handler import Function
from inference_lambda.store import Store
from tests.inference_lambda import tiny_model
from tests.inference_lambda.fake_s3 import FakeS3

UPLOADS, RESULTS, MODELS = "uploads", "results", "models"
SCHEMA = json.loads((Path(__file__).parents[2] / "cxr" / "result.schema.json").read_text())


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return tiny_model


@pytest.fixture(scope="session")
def model_cache(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.cache.mkdir("tiny_model"))


class Account:
    """Three versioned buckets and what a test does with them; `s3` is moto's client or a FakeS3."""

    def __init__(self, tiny: ModuleType, cache: Path, scratch: Path, s3: Any) -> None:
        self.tiny, self.cache, self.s3 = tiny, cache, s3
        self.config = Config(UPLOADS, RESULTS, MODELS, scratch=scratch, function_name="cxr-classify")
        self.pointer: dict[str, Any] | None = None

    def promote(self, slope: float = 12.0, name: str | None = None, **changes: Any) -> str:
        """Publishes a tiny model under a new serial; returns the model's sha256."""
        serial = 1 if self.pointer is None else self.pointer["serial"] + 1
        name = name or f"job-{serial}"
        files = self.tiny.bundle_files(self.cache, slope, name, **changes)
        for file, data in files.items():
            self.s3.put_object(Bucket=MODELS, Key=f"models/{name}/{file}", Body=data)
        bundle = {
            "bucket": MODELS,
            "key": f"models/{name}/bundle.json",
            "version_id": None,
            "sha256": sha256_of(files["bundle.json"]),
        }
        self.point(serial, bundle)
        return sha256_of(files["model.tflite"])

    def point(self, serial: int, bundle: dict[str, Any]) -> None:
        fields = ("serial", "version", "bundle", "model_package_arn")
        previous = {field: self.pointer[field] for field in fields} if self.pointer else None
        self.pointer = {
            "schema_version": 1,
            "serial": serial,
            "version": str(serial),
            "bundle": bundle,
            "model_package_arn": f"arn:aws:sagemaker:us-east-1:123456789012:model-package/cxr/{serial}",
            "actor": "test",
            "reason": "test",
            "promoted_at": "2026-01-01T00:00:00Z",
            "previous": previous,
        }
        self.s3.put_object(Bucket=MODELS, Key="models/current.json", Body=json.dumps(self.pointer))

    def function(self) -> Function:
        return Function(self.config, Store(self.s3))

    def upload(self, key: str, data: bytes) -> str:
        return self.s3.put_object(Bucket=UPLOADS, Key=key, Body=data)["VersionId"]

    def result(self, key: str) -> dict[str, Any]:
        """The standing result, checked against the schema."""
        answer = self.s3.get_object(Bucket=RESULTS, Key=f"results/{key}.json")
        document = json.loads(answer["Body"].read())
        jsonschema.validate(document, SCHEMA, format_checker=jsonschema.FormatChecker())
        return document

    def result_metadata(self, key: str) -> dict[str, str]:
        return self.s3.head_object(Bucket=RESULTS, Key=f"results/{key}.json")["Metadata"]

    def versions(self, key: str) -> int:
        """How many results were ever written for the upload."""
        listed = self.s3.list_object_versions(Bucket=RESULTS, Prefix=f"results/{key}.json")
        return len(listed.get("Versions", []))


@pytest.fixture(scope="module")
def moto_s3() -> Iterator[Any]:
    """Ends with its module: moto's state is shared with the local AWS that other tests run in this process."""
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


@pytest.fixture
def account(tiny, model_cache, tmp_path, moto_s3) -> Account:
    """An empty account in moto."""
    get_backend("s3")["123456789012"]["aws"].reset()
    for bucket in (UPLOADS, RESULTS, MODELS):
        moto_s3.create_bucket(Bucket=bucket)
        moto_s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return Account(tiny, model_cache, tmp_path / "scratch", moto_s3)


@pytest.fixture
def fake_account(tiny, model_cache, tmp_path_factory) -> Callable[[], Account]:
    """Makes empty accounts in memory."""
    return lambda: Account(tiny, model_cache, tmp_path_factory.mktemp("scratch"), FakeS3())


class Context:
    """Lambda's context with a clock that the test sets."""

    aws_request_id = "request-1"

    def __init__(self, *remaining_ms: float) -> None:
        self.remaining = list(remaining_ms) or [120_000.0]

    def get_remaining_time_in_millis(self) -> float:
        return self.remaining.pop(0) if len(self.remaining) > 1 else self.remaining[0]


@pytest.fixture
def events() -> SimpleNamespace:
    return SimpleNamespace(s3=s3_event, queue=queue_event, direct=direct_event, context=Context)


def s3_event(*keys: str, bucket: str = UPLOADS, **fields: Any) -> dict[str, Any]:
    """As S3 sends it; keys are given as they appear in the event, that is url-encoded."""
    records = [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}},
            **fields,
        }
        for key in keys
    ]
    return {"Records": records}


def queue_event(*bodies: Any) -> dict[str, Any]:
    """An SQS batch with one message per body; texts go in as they are, other values as JSON."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "handle",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1"},
                "eventSource": "aws:sqs",
            }
            for number, body in enumerate(bodies)
        ]
    }


def direct_event(*keys: str, bucket: str = UPLOADS, **fields: Any) -> dict[str, Any]:
    return {"objects": [{"bucket": bucket, "key": key} for key in keys], **fields}
