"""Films reach the function by the backlog queue, or by a direct call whose unfinished rest is asked for again."""

from __future__ import annotations

import json
import time
from itertools import islice
from typing import Any

OBJECTS_IN_MESSAGE = 10
MESSAGES_IN_CALL = 10  # SQS' bound
FRUITLESS_CALLS = 3  # direct calls in a row that may finish nothing before the task gives up
PAUSE_SECONDS = 5.0


class NotFinished(Exception):
    """The function hands the same films back again and again."""


def enqueue(sqs: Any, queue_url: str, objects: list[dict[str, str]]) -> int:
    """Send ``objects`` to the backlog queue, ten to a message; return the number of messages."""
    parts = iter(objects)
    bodies = iter([json.dumps({"objects": part}) for part in iter(lambda: list(islice(parts, OBJECTS_IN_MESSAGE)), [])])
    sent = 0
    while batch := list(islice(bodies, MESSAGES_IN_CALL)):
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
        refused = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries).get("Failed", [])
        if refused:
            raise RuntimeError(f"the queue refused {len(refused)} of {len(batch)} messages: {refused[0]['Message']}")
        sent += len(batch)
    return sent


def waiting(sqs: Any, queue_url: str) -> int:
    """Return about how many messages the queue holds, those in flight included."""
    names = ("", "NotVisible", "Delayed")
    wanted = [f"ApproximateNumberOfMessages{name}" for name in names]
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=wanted)["Attributes"]
    return sum(int(attributes[name]) for name in wanted)


def invoke(function: Any, name: str, manifest_uri: str, expect_sha256: str | None) -> dict[str, int]:
    """Call the function with a manifest, then with what it leaves unfinished, until nothing is left.

    ``function`` is a Lambda client that does not retry (a retried call would classify twice). Returns counts of done,
    skipped and failed films. Raises NotFinished, or RuntimeError where the function itself fails.
    """
    payload: dict[str, Any] = {"manifest": manifest_uri}
    counts = {"done": 0, "skipped": 0, "failed": 0}
    fruitless = 0
    while True:
        if expect_sha256:
            payload["expect_sha256"] = expect_sha256
        answer = function.invoke(FunctionName=name, Payload=json.dumps(payload).encode())
        body = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            why = f"{body.get('errorType')}: {body.get('errorMessage')}"
            raise RuntimeError(f"the function failed on {manifest_uri}: {why}")
        for outcome in counts:
            counts[outcome] += len(body[outcome])
        left = body["unfinished"]
        if not left:
            return counts
        fruitless = 0 if body["done"] or body["skipped"] else fruitless + 1
        if fruitless == FRUITLESS_CALLS:
            raise NotFinished(f"{len(left)} films of {manifest_uri} stay unfinished after {fruitless} fruitless calls")
        if fruitless:
            time.sleep(PAUSE_SECONDS)
        payload = {"objects": left}
