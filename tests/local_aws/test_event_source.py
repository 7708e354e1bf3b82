"""Queues feed functions in batches; what fails comes back, and goes to the dead-letter queue in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_aws.server import LocalAWS
from local_aws.services.event_source import failed_messages


@pytest.fixture
def queue(local_aws: LocalAWS, unique: str) -> Callable[..., tuple[str, str]]:
    """Makes a queue with a dead-letter queue; returns both URLs."""

    def make(receives: int = 2, visibility: int = 1) -> tuple[str, str]:
        sqs = local_aws.client("sqs")
        dead = sqs.create_queue(QueueName=f"{unique}-dead")["QueueUrl"]
        policy = {"deadLetterTargetArn": arn_of(local_aws, dead), "maxReceiveCount": receives}
        attributes = {"VisibilityTimeout": str(visibility), "RedrivePolicy": json.dumps(policy)}
        return sqs.create_queue(QueueName=unique, Attributes=attributes)["QueueUrl"], dead

    return make


def arn_of(aws: LocalAWS, url: str) -> str:
    return aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def connect(aws: LocalAWS, url: str, function: str, **settings: Any) -> str:
    arguments = {"BatchSize": 10, "FunctionResponseTypes": ["ReportBatchItemFailures"], **settings}
    mapping = aws.client("lambda").create_event_source_mapping(
        EventSourceArn=arn_of(aws, url), FunctionName=function, **arguments
    )
    return mapping["UUID"]


def waiting(aws: LocalAWS, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


def send(aws: LocalAWS, url: str, *bodies: str) -> None:
    for body in bodies:
        aws.client("sqs").send_message(QueueUrl=url, MessageBody=body)


def test_one_bad_message_of_a_batch_goes_to_the_dead_letter_queue_alone(
    local_aws, queue, make_function, seen, eventually
) -> None:
    url, dead = queue(receives=2, visibility=2)  # a busy machine must not deliver a good one twice
    send(local_aws, url, *(f"good {n}" for n in range(7)), "bad film")
    connect(local_aws, url, make_function())
    assert eventually(lambda: waiting(local_aws, dead) == 1)
    assert waiting(local_aws, url) == 0
    bodies = seen()
    assert sorted(body for body in bodies if body != "bad film") == [f"good {n}" for n in range(7)]
    assert bodies.count("bad film") == 2


def test_a_failing_function_acknowledges_nothing(local_aws, queue, make_function, eventually) -> None:
    url, dead = queue(receives=1)
    send(local_aws, url, "good", "boom")
    connect(local_aws, url, make_function())
    assert eventually(lambda: waiting(local_aws, dead) == 2)


def test_a_batching_window_gathers_messages_into_one_call(
    local_aws, queue, make_function, tmp_path: Path, eventually
) -> None:
    url, _ = queue(visibility=60)
    connect(local_aws, url, make_function(), MaximumBatchingWindowInSeconds=3, ScalingConfig={"MaximumConcurrency": 2})
    send(local_aws, url, *(f"film {n}" for n in range(5)))
    assert eventually(lambda: waiting(local_aws, url) == 0)
    calls = (tmp_path / "seen.jsonl").read_text().splitlines()
    assert sorted(body for call in calls for body in json.loads(call)[1]) == [f"film {n}" for n in range(5)]
    assert len(calls) <= 2


def test_a_disabled_mapping_leaves_messages_alone_until_it_is_enabled(
    local_aws, queue, make_function, seen, eventually
) -> None:
    url, _ = queue()
    mapping = connect(local_aws, url, make_function(), Enabled=False)
    send(local_aws, url, "later")
    assert not eventually(seen, timeout=1.5)
    local_aws.client("lambda").update_event_source_mapping(UUID=mapping, Enabled=True)
    assert eventually(seen) == ["later"]


def test_a_function_without_concurrency_costs_each_message_its_receives(
    local_aws, queue, make_function, seen, eventually
) -> None:
    url, dead = queue(receives=1)
    function, client = make_function(), local_aws.client("lambda")
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    connect(local_aws, url, function)
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        local_aws.client("lambda", config=Config(retries={"total_max_attempts": 1})).invoke(FunctionName=function)
    send(local_aws, url, "throttled")
    assert eventually(lambda: waiting(local_aws, dead) == 1)
    assert not seen()


def test_dead_letters_can_be_sent_back_to_their_queue(local_aws, queue, make_function, eventually) -> None:
    url, dead = queue(receives=1)
    function = make_function()
    mapping = connect(local_aws, url, function)
    send(local_aws, url, "bad film")
    assert eventually(lambda: waiting(local_aws, dead) == 1)
    local_aws.client("lambda").update_event_source_mapping(UUID=mapping, Enabled=False)
    task = local_aws.client("sqs").start_message_move_task(SourceArn=arn_of(local_aws, dead))
    assert task["TaskHandle"]
    assert (waiting(local_aws, dead), waiting(local_aws, url)) == (0, 1)


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        (b"null", set()),
        (b"", set()),
        (b"{}", set()),
        (b'{"batchItemFailures": []}', set()),
        (b'{"batchItemFailures": null}', set()),
        (b'{"batchItemFailures": [{"itemIdentifier": "a"}]}', {"a"}),
        (b'{"batchItemFailures": [{"itemIdentifier": "unknown"}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"wrong": "a"}]}', {"a", "b"}),
        (b'"text"', {"a", "b"}),
        (b"not json", {"a", "b"}),
    ],
)
def test_a_response_that_cannot_be_read_fails_the_whole_batch(payload: bytes, failed: set[str]) -> None:
    assert failed_messages(payload, {"a", "b"}) == failed
