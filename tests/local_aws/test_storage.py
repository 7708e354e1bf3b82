"""S3 tells each object once, completely, and decides conditional writes one at a time."""

from __future__ import annotations

import gc
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from local_aws.server import LocalAWS


@pytest.fixture
def bucket(local_aws: LocalAWS, unique: str) -> str:
    """A versioned bucket that tells a queue of the same name."""
    s3, sqs = local_aws.client("s3"), local_aws.client("sqs")
    url = sqs.create_queue(QueueName=unique)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.create_bucket(Bucket=unique)
    s3.put_bucket_versioning(Bucket=unique, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_notification_configuration(
        Bucket=unique,
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    return unique


@pytest.fixture
def events(local_aws: LocalAWS, bucket: str) -> Callable[[], list[dict[str, Any]]]:
    """The S3 records that waited in the queue."""
    sqs = local_aws.client("sqs")
    url = sqs.get_queue_url(QueueName=bucket)["QueueUrl"]

    def read() -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                records += json.loads(message["Body"]).get("Records", [])
        return records

    return read


def test_an_event_names_version_and_order_and_leaves_slashes_plain(local_aws, bucket, events) -> None:
    s3 = local_aws.client("s3")
    versions = [s3.put_object(Bucket=bucket, Key="in/a b+ü.jpeg", Body=b"x")["VersionId"] for _ in range(3)]
    objects = [record["s3"]["object"] for record in events()]
    assert {found["key"] for found in objects} == {"in/a+b%2B%C3%BC.jpeg"}
    assert [found["versionId"] for found in objects] == versions
    sequence = [found["sequencer"] for found in objects]
    assert sequence == sorted(sequence) and len(set(sequence)) == 3


def test_a_multipart_upload_is_told_once(local_aws, bucket, events) -> None:
    config = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20)
    local_aws.client("s3").upload_fileobj(io.BytesIO(b"x" * (6 * 2**20)), bucket, "large.dcm", Config=config)
    assert [record["eventName"] for record in events()] == ["ObjectCreated:CompleteMultipartUpload"]


def test_of_conditional_writes_at_once_exactly_one_wins(local_aws, bucket, hurried) -> None:
    s3 = local_aws.client("s3")
    for round_number in range(10):
        etag = s3.put_object(Bucket=bucket, Key="pointer", Body=f"{round_number}".encode())["ETag"]
        outcomes: list[str] = []
        start = threading.Barrier(4)

        def write(number: int, etag: str = etag, start: Any = start, outcomes: list[str] = outcomes) -> None:
            start.wait()
            try:
                s3.put_object(Bucket=bucket, Key="pointer", Body=f"writer {number}".encode(), IfMatch=etag)
                outcomes.append("won")
            except ClientError as error:
                outcomes.append(error.response["Error"]["Code"])

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["PreconditionFailed"] * 3 + ["won"]


def test_a_statement_without_a_condition_is_enforced(local_aws, bucket) -> None:
    s3 = local_aws.client("s3")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/no/*"}
    unless = {**deny, "Resource": f"arn:aws:s3:::{bucket}/*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny, unless]}))
    s3.put_object(Bucket=bucket, Key="yes/film", Body=b"x")
    with pytest.raises(ClientError, match="403"):
        s3.put_object(Bucket=bucket, Key="no/film", Body=b"x")


def test_objects_seeded_in_the_process_are_seen_over_http(local_aws, bucket, events) -> None:
    local_aws.objects().write(bucket, "in/film.jpeg", b"film")
    assert local_aws.client("s3").get_object(Bucket=bucket, Key="in/film.jpeg")["Body"].read() == b"film"
    assert [record["s3"]["object"]["key"] for record in events()] == ["in/film.jpeg"]


def test_listing_versions_keeps_their_bytes(local_aws, bucket) -> None:
    s3 = local_aws.client("s3")
    wanted = [s3.put_object(Bucket=bucket, Key="film", Body=b"film %d" % n)["VersionId"] for n in range(3)]
    for _ in range(2):
        listed = s3.list_object_versions(Bucket=bucket)["Versions"]
        assert [(version["VersionId"], version["Size"]) for version in listed] == [(v, 6) for v in reversed(wanted)]
        gc.collect()
    body = s3.get_object(Bucket=bucket, Key="film", VersionId=wanted[0])["Body"].read()
    assert body == b"film 0"


def test_pages_of_a_listing_hold_every_living_object_once_in_order(local_aws, bucket) -> None:
    s3 = local_aws.client("s3")
    names = [f"a/{n:02d}" for n in range(11)] + ["a/x y+ü", "b/1", "A/0"]
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
    s3.put_object(Bucket=bucket, Key="a/03", Body=b"newer")
    s3.delete_object(Bucket=bucket, Key="a/05")
    living = sorted(set(names) - {"a/05"})

    def listed(**more: object) -> list[tuple[str, int]]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3}, **more)
        found = list(pages)
        assert all(page["KeyCount"] == 3 for page in found[:-1])
        return [(item["Key"], item["Size"]) for page in found for item in page.get("Contents", [])]

    assert [key for key, _ in listed()] == living
    assert dict(listed())["a/03"] == 5
    assert [key for key, _ in listed(Prefix="a/")] == [key for key in living if key.startswith("a/")]
    assert [key for key, _ in listed(StartAfter="a/09")] == [key for key in living if key > "a/09"]
    assert listed(Prefix="none/") == []
    whole = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [found["Prefix"] for found in whole["CommonPrefixes"]] == ["A/", "a/", "b/"]
