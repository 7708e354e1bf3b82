"""SQS event source mappings that poll, as AWS does: batches, window, partial failures, bounded concurrency.

moto calls the function inside SendMessage, once per message. Here a mapping has MaximumConcurrency threads that
receive, invoke and delete. What fails is not touched: it comes back when its visibility timeout ends, and the queue
moves it to the dead-letter queue after maxReceiveCount receives. A throttled call costs a receive like any other: AWS
goes on polling for a function without concurrency, and only a disabled mapping leaves messages alone.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.awslambda.models import EventSourceMapping, LambdaBackend
from moto.sqs.models import Message, SQSBackend, sqs_backends

from local_aws.patches import Patches
from local_aws.services.functions import Functions, Throttled

log = logging.getLogger(__name__)
ERROR_CHARACTERS = 300
WAIT_SECONDS = 1
"""Long poll; AWS uses 20 s, but a disabled or deleted mapping should stop soon."""


@dataclass(frozen=True)
class Delivery:
    """One batch that a queue handed to a function. started, ended: time.time(); error: the payload of a function
    that failed as a whole, else None; failed: ids that stay in the queue.
    """

    queue: str
    messages: tuple[str, ...]
    bodies: tuple[str, ...]
    started: float
    ended: float
    error: str | None
    failed: frozenset[str]


class EventSources:
    """The polled mappings of one local AWS."""

    def __init__(
        self, functions: Functions, concurrency: int, on_delivery: Callable[[Delivery], None] | None = None
    ) -> None:
        self._functions, self._concurrency = functions, concurrency
        self._on_delivery = on_delivery
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def install(self, patches: Patches) -> None:
        """Start pollers for each mapping that is created from now on (by API or by CloudFormation)."""

        def replacement(original: Callable[..., EventSourceMapping]) -> Callable[..., EventSourceMapping]:
            def create_event_source_mapping(backend: LambdaBackend, spec: dict[str, Any]) -> EventSourceMapping:
                mapping = original(backend, spec)
                if ":sqs:" in mapping.event_source_arn:
                    self._start(backend, mapping)
                return mapping

            return create_event_source_mapping

        patches.replace(LambdaBackend, "create_event_source_mapping", replacement, "self spec")

    def end(self) -> None:
        """Receive nothing more; what is being delivered goes on."""
        self._stop.set()

    def close(self) -> None:
        self.end()
        for thread in self._threads:
            thread.join(timeout=10)

    def _start(self, backend: LambdaBackend, mapping: EventSourceMapping) -> None:
        poller = Poller(self._functions, backend, mapping, self._stop, self._on_delivery)
        wanted = int((mapping.scaling_config or {}).get("MaximumConcurrency") or self._concurrency)
        for number in range(min(wanted, self._concurrency)):
            thread = threading.Thread(target=poller.run, name=f"poll-{poller.queue}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)


class Poller:
    """What each of the concurrent loops of a mapping does."""

    def __init__(
        self,
        functions: Functions,
        backend: LambdaBackend,
        mapping: EventSourceMapping,
        stop: threading.Event,
        on_delivery: Callable[[Delivery], None] | None,
    ) -> None:
        self._functions, self._backend, self._mapping = functions, backend, mapping
        self._stop, self._on_delivery = stop, on_delivery
        self._queues: SQSBackend = sqs_backends[backend.account_id][backend.region_name]
        self.queue = mapping.event_source_arn.rsplit(":", 1)[-1]
        self._queues.queues[self.queue].lambda_event_source_mappings.clear()

    def run(self) -> None:
        mapping = self._mapping
        while not self._stop.is_set() and self._backend.get_event_source_mapping(mapping.uuid) is mapping:
            if not mapping.enabled:
                self._stop.wait(WAIT_SECONDS)
                continue
            try:
                batch = self._gather()
                if batch:
                    self._deliver(batch)
            except Exception:
                if not self._stop.is_set():
                    log.exception("polling %s failed; trying again", self.queue)
                self._stop.wait(WAIT_SECONDS)

    def _gather(self) -> list[Message]:
        """Up to BatchSize messages: what is there, or what comes within the batching window after the first."""
        size, window = self._mapping.batch_size, float(self._mapping.max_batch_window or 0)
        batch = self._receive(size, WAIT_SECONDS)
        deadline = time.monotonic() + window
        while batch and len(batch) < size and not self._stop.is_set():
            left = deadline - time.monotonic()
            more = self._receive(size - len(batch), min(max(left, 0), WAIT_SECONDS))
            batch += more
            if left <= 0 and not more:
                break
        return batch

    def _receive(self, count: int, wait: float) -> list[Message]:
        visibility = self._queues.get_queue(self.queue).visibility_timeout  # type: ignore[attr-defined]
        return self._queues.receive_message(self.queue, min(count, 10), wait, visibility, ["All"])  # type: ignore[arg-type]

    def _deliver(self, batch: list[Message]) -> None:
        function = self._backend.get_function(self._mapping.function_arn)
        event = {"Records": [self._record(message) for message in batch]}
        started = time.time()
        ids = tuple(message.id for message in batch)
        try:
            outcome = self._functions.run(function, json.dumps(event).encode())
            error = outcome.payload[:ERROR_CHARACTERS].decode(errors="replace") if outcome.error else None
        except Throttled as throttled:
            error = str(throttled)
        if error is not None:
            log.warning("batch of %d from %s failed: %s", len(batch), self.queue, error)
            failed = frozenset(ids)
        else:
            failed = frozenset(failed_messages(outcome.payload, set(ids)) if self._partial() else ())
        for message in batch:
            if message.id not in failed:
                self._queues.delete_message(self.queue, message.receipt_handle or "")
        if self._on_delivery:
            bodies = tuple(message.body for message in batch)
            self._on_delivery(Delivery(self.queue, ids, bodies, started, time.time(), error, failed))

    def _partial(self) -> bool:
        return "ReportBatchItemFailures" in (self._mapping.function_response_types or [])

    def _record(self, message: Message) -> dict[str, Any]:
        return {
            "messageId": message.id,
            "receiptHandle": message.receipt_handle,
            "body": message.body,
            "attributes": {
                "ApproximateReceiveCount": str(message.approximate_receive_count),
                "SentTimestamp": str(message.sent_timestamp),
                "SenderId": message.sender_id,
                "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
            },
            "messageAttributes": {
                name: {
                    "stringValue": value.get("StringValue"),
                    "binaryValue": value.get("BinaryValue"),
                    "dataType": value.get("DataType"),
                }
                for name, value in message.message_attributes.items()
            },
            "md5OfBody": message.body_md5,
            "eventSource": "aws:sqs",
            "eventSourceARN": self._mapping.event_source_arn,
            "awsRegion": self._backend.region_name,
        }


def failed_messages(payload: bytes, sent: set[str]) -> set[str]:
    """Ids that a partial batch response names as failed. As on AWS, a response that cannot be read fails them all."""
    try:
        response = json.loads(payload or b"null")
        failures = (response or {}).get("batchItemFailures") or []
        named = {failure["itemIdentifier"] for failure in failures}
    except (ValueError, AttributeError, KeyError, TypeError):
        return sent
    return named if named <= sent else sent
