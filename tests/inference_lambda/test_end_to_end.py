"""The real entry point under the real awslambdaric: S3 event -> queue -> function -> result, on the local AWS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from cxr.bundle import sha256_of

pytestmark = pytest.mark.heavy
PATIENCE = 60.0
KEYS = {"ward 3/Döe+Jane.jpeg": "ok", "broken.png": "unreadable", "dark.jpeg": "out_of_distribution"}


@pytest.fixture(scope="module")
def aws() -> Iterator:
    from local_aws.server import LocalAWS

    with LocalAWS() as running:
        yield running


@pytest.fixture(scope="module")
def deployed(aws, tiny, model_cache) -> dict[str, str]:
    """Buckets, queue, dead-letter queue, function and event source; a promoted tiny model."""
    s3, sqs, function = aws.client("s3"), aws.client("sqs"), aws.client("lambda")
    for bucket in ("e2e-uploads", "e2e-results", "e2e-models"):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    files = tiny.bundle_files(model_cache)
    for name, data in files.items():
        s3.put_object(Bucket="e2e-models", Key=f"models/job/{name}", Body=data)
    release = {"bucket": "e2e-models", "key": "models/job/bundle.json", "sha256": sha256_of(files["bundle.json"])}
    pointer = {"schema_version": 1, "serial": 1, "version": "1", "bundle": release, "previous": None}
    s3.put_object(Bucket="e2e-models", Key="models/current.json", Body=json.dumps(pointer))
    role = aws.client("iam").create_role(RoleName="e2e", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    function.create_function(
        FunctionName="e2e-classify",
        PackageType="Image",
        Code={"ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/e2e-inference:1"},
        Role=role,
        Timeout=120,
        MemorySize=1769,
        Environment={
            "Variables": {f"CXR_{name.upper()}_BUCKET": f"e2e-{name}" for name in ("uploads", "results", "models")}
        },
    )
    dead = sqs.create_queue(QueueName="e2e-dead")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": 2})
    queue = sqs.create_queue(QueueName="e2e", Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "3"})[
        "QueueUrl"
    ]
    function.create_event_source_mapping(
        EventSourceArn=arn(sqs, queue),
        FunctionName="e2e-classify",
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    notification = {"QueueConfigurations": [{"QueueArn": arn(sqs, queue), "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket="e2e-uploads", NotificationConfiguration=notification)
    return {"queue": queue, "dead": dead}


def arn(sqs, url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def count(sqs, url: str) -> int:
    return int(
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessages"]
    )


def eventually(claim) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.2)
    return False


def results(aws) -> dict[str, str]:
    """Upload key -> status, from the metadata of the results."""
    s3 = aws.client("s3")
    listed = s3.list_objects_v2(Bucket="e2e-results", Prefix="results/").get("Contents", [])
    heads = {item["Key"]: s3.head_object(Bucket="e2e-results", Key=item["Key"]) for item in listed}
    return {
        key.removeprefix("results/").removesuffix(".json"): head["Metadata"]["status"] for key, head in heads.items()
    }


def test_uploads_are_answered_and_only_what_cannot_be_is_dead_lettered(aws, deployed, tiny):
    s3, sqs = aws.client("s3"), aws.client("sqs")
    films = {"ok": tiny.grey_film(170), "unreadable": b"broken", "out_of_distribution": tiny.grey_film(45)}
    for key, status in KEYS.items():
        s3.put_object(Bucket="e2e-uploads", Key=key, Body=films[status])
    sqs.send_message(QueueUrl=deployed["queue"], MessageBody="of unknown form")
    assert eventually(lambda: results(aws) == KEYS), results(aws)
    assert eventually(lambda: count(sqs, deployed["dead"]) == 1)
    assert count(sqs, deployed["queue"]) == 0


def test_a_direct_call_skips_what_is_answered_and_names_no_key_in_its_log(aws, deployed):
    event = {"objects": [{"bucket": "e2e-uploads", "key": key} for key in [*KEYS, "never-there.jpeg"]]}
    answer = aws.client("lambda").invoke(FunctionName="e2e-classify", Payload=json.dumps(event))
    assert json.loads(answer["Payload"].read()) == {
        "done": [],
        "skipped": [*KEYS, "never-there.jpeg"],
        "unfinished": [],
        "failed": [],
    }
    said = aws.client("logs").filter_log_events(logGroupName="/aws/lambda/e2e-classify")["events"]
    text = "\n".join(entry["message"] for entry in said)
    assert '"event":"answered"' in text and "CloudWatchMetrics" in text
    assert not [word for word in ("Jane", "ward", "broken", "dark", "never-there") if word in text]


def test_an_error_of_a_direct_call_is_clear_and_quotes_nothing(aws, deployed):
    event = {"objects": [{"bucket": "e2e-uploads", "key": "broken.png"}], "expect_sha256": "0" * 64}
    answer = aws.client("lambda").invoke(FunctionName="e2e-classify", Payload=json.dumps(event))
    said = json.loads(answer["Payload"].read())
    assert answer["FunctionError"] and said["errorType"] == "WrongModel"
    assert "broken" not in json.dumps(said)


def test_a_name_in_a_key_goes_no_further_than_the_security_page_says(aws, deployed):
    s3, places = aws.client("s3"), set()
    for bucket in ("e2e-uploads", "e2e-results", "e2e-models"):
        for item in s3.list_objects_v2(Bucket=bucket)["Contents"]:
            head = s3.get_object(Bucket=bucket, Key=item["Key"])
            if "Jane" in f"{item['Key']} {head['Metadata']} {head['Body'].read()!r}":
                places.add(f"{bucket}/{item['Key'].partition('/')[0]}")
    assert places == {"e2e-uploads/ward 3", "e2e-results/results", "e2e-results/heatmaps"}
