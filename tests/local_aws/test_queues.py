"""The queue loses and doubles nothing, however many send and receive at once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from botocore.exceptions import ClientError
from moto.sqs.models import sqs_backends

from local_aws.server import ACCOUNT, REGION


def test_no_message_is_lost_between_concurrent_producers_and_consumers(local_aws, unique: str, hurried: None) -> None:
    backend = sqs_backends[ACCOUNT][REGION]
    backend.create_queue(unique, VisibilityTimeout="60")
    got: Counter[str] = Counter()
    done = threading.Event()

    def produce(start: int) -> None:
        for number in range(start, start + 300):
            backend.send_message(unique, str(number))

    def consume() -> None:
        while not (done.is_set() and not backend.get_queue(unique)._messages):
            for message in backend.receive_message(unique, 10, 0, 60):
                got[message.body] += 1
                backend.delete_message(unique, message.receipt_handle or "")

    producers = [threading.Thread(target=produce, args=(300 * n,)) for n in range(3)]
    consumers = [threading.Thread(target=consume) for _ in range(3)]
    for thread in (*producers, *consumers):
        thread.start()
    for thread in producers:
        thread.join()
    done.set()
    for thread in consumers:
        thread.join()
    assert len(got) == 900 and set(got.values()) == {1}


def test_long_polling_returns_when_a_message_comes_and_blocks_no_sender(local_aws, unique: str) -> None:
    sqs = local_aws.client("sqs")
    url = sqs.create_queue(QueueName=unique)["QueueUrl"]
    answers: list[dict] = []
    waiter = threading.Thread(
        target=lambda: answers.append(local_aws.client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=20))
    )
    waiter.start()
    sqs.send_message(QueueUrl=url, MessageBody="film")
    waiter.join(timeout=10)
    assert [message["Body"] for message in answers[0]["Messages"]] == ["film"]


def test_a_message_in_flight_is_counted_and_hidden(local_aws, unique: str) -> None:
    sqs = local_aws.client("sqs")
    url = sqs.create_queue(QueueName=unique)["QueueUrl"]
    for body in ("one", "two"):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "1"
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_a_queue_that_no_other_queue_redrives_to_cannot_be_moved(local_aws, unique: str) -> None:
    sqs = local_aws.client("sqs")
    url = sqs.create_queue(QueueName=unique)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    with pytest.raises(ClientError, match="not configured as a dead-letter queue"):
        sqs.start_message_move_task(SourceArn=arn)
