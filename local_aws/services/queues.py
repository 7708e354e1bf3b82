"""SQS that loses nothing under concurrent producers and stays quick when thousands of messages wait.

moto's queue rebuilds its list of messages while others append to it, and recomputes all attributes of a queue for
every message. Here one lock surrounds each operation on a region's queues, the counts are cheap, long polling waits
without the lock, and the dead-letter queue's redrive (StartMessageMoveTask) exists.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.sqs.exceptions import QueueDoesNotExist, ReceiptHandleIsInvalid
from moto.sqs.models import Message, Queue, SQSBackend
from moto.sqs.responses import SQSResponse

from local_aws.patches import Patches

POLL_SECONDS = 0.2
RECEIVE = "self queue_name count wait_seconds_timeout visibility_timeout message_attribute_names"
LOCKED = {
    "send_message": "self queue_name message_body message_attributes delay_seconds deduplication_id group_id "
    "system_attributes validate_group_id",
    "delete_message": "self queue_name receipt_handle",
    "change_message_visibility": "self queue_name receipt_handle visibility_timeout",
    "purge_queue": "self queue_name",
    "get_queue_attributes": "self queue_name attribute_names",
}
_lock = threading.RLock()
_moves: WeakKeyDictionary[Queue, dict[str, Any]] = WeakKeyDictionary()


class UnsupportedMove(ServiceException):
    code = "AWS.SimpleQueueService.UnsupportedOperation"


def install(patches: Patches, endpoint: str) -> None:
    """Replace what is slow or unsafe in moto's queues; a queue's Ref in a template is its address at `endpoint`."""

    def address(queue: Queue) -> str:
        return f"{endpoint}/{queue.account_id}/{queue.name}"

    patches.replace(Queue, "physical_resource_id", lambda _: property(address))
    patches.replace(Message, "visible", lambda _: property(lambda self: _now() > self.visible_at))
    patches.replace(Message, "delayed", lambda _: property(lambda self: _now() < self.delayed_until))
    patches.replace(Queue, "messages", lambda _: property(_deliverable))
    patches.replace(Queue, "approximate_number_of_messages", lambda _: property(lambda q: len(_deliverable(q))))
    patches.replace(Queue, "approximate_number_of_messages_delayed", lambda _: property(_delayed_count))
    patches.replace(Queue, "approximate_number_of_messages_not_visible", lambda _: property(_in_flight_count))
    patches.replace(Queue, "delete_message", lambda _: _delete_message, "self receipt_handle")
    retention = "is_message_valid_based_on_retention_period"
    patches.replace(SQSBackend, retention, lambda _: _within_retention, "self queue_name message")
    patches.replace(SQSBackend, "receive_message", _without_lock_while_waiting, RECEIVE)
    for name, parameters in LOCKED.items():
        patches.replace(SQSBackend, name, _locked, parameters)
    patches.add(SQSResponse, "start_message_move_task", _start_message_move_task)
    patches.add(SQSResponse, "list_message_move_tasks", _list_message_move_tasks)


def _now() -> float:
    return time.time() * 1000


def _deliverable(queue: Queue) -> list[Message]:
    now = _now()
    return [m for m in queue._messages if m.visible_at < now and m.delayed_until <= now]


def _delayed_count(queue: Queue) -> int:
    now = _now()
    return sum(m.delayed_until > now for m in queue._messages)


def _in_flight_count(queue: Queue) -> int:
    now = _now()
    return sum(m.visible_at >= now for m in queue._messages)


def _delete_message(self: Queue, receipt_handle: str) -> None:
    if receipt_handle in self.deleted_messages:
        return
    for index, message in enumerate(self._messages):
        if receipt_handle == message.receipt_handle or receipt_handle in message._old_receipt_handles:
            del self._messages[index]
            self.pending_messages.discard(message)
            self.deleted_messages.update(handle for handle in message.all_receipt_handles if handle)
            return
    raise ReceiptHandleIsInvalid()


def _within_retention(self: SQSBackend, queue_name: str, message: Message) -> bool:
    sent = (message.sent_timestamp or 0) / 1000
    return self.queues[queue_name].message_retention_period + sent > time.time()  # type: ignore[attr-defined]


def _locked(original: Callable[..., Any]) -> Callable[..., Any]:
    def locked(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            return original(*args, **kwargs)

    return locked


def _without_lock_while_waiting(original: Callable[..., list[Message]]) -> Callable[..., list[Message]]:
    def receive_message(
        self: SQSBackend,
        queue_name: str,
        count: int,
        wait_seconds_timeout: int,
        visibility_timeout: int,
        message_attribute_names: list[str] | None = None,
    ) -> list[Message]:
        deadline = time.monotonic() + (wait_seconds_timeout or 0)
        while True:
            with _lock:
                found = original(self, queue_name, count, 0, visibility_timeout, message_attribute_names)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            arrival = self.get_queue(queue_name)._messages_lock
            with arrival:
                arrival.wait(min(left, POLL_SECONDS))

    return receive_message


def _start_message_move_task(self: SQSResponse) -> ActionResult:
    """Redrive: every waiting message of a dead-letter queue goes back, at once, with its receive count at zero."""
    source_arn = self._get_param("SourceArn")
    backend = self.sqs_backend
    with _lock:
        source = _queue_of(backend, source_arn)
        feeders = [queue for queue in backend.queues.values() if queue.dead_letter_queue is source]
        if not feeders:
            raise UnsupportedMove(f"Source queue {source_arn} is not configured as a dead-letter queue.")
        wanted = self._get_param("DestinationArn")
        if not wanted and len(feeders) > 1:
            names = ", ".join(queue.name for queue in feeders)
            raise UnsupportedMove(f"{source_arn} has several source queues ({names}): name a DestinationArn.")
        destination = _queue_of(backend, wanted) if wanted else feeders[0]
        moved = _deliverable(source)
        source._messages = [message for message in source._messages if message not in moved]
        _moves[source] = {
            "Status": "COMPLETED",
            "SourceArn": source_arn,
            "ApproximateNumberOfMessagesMoved": len(moved),
            "ApproximateNumberOfMessagesToMove": len(moved),
            "StartedTimestamp": int(_now()),
        }
        for message in moved:
            source.pending_messages.discard(message)
            message.approximate_receive_count = 0
            message.visible_at = 0.0
            destination.add_message(message)
    return ActionResult({"TaskHandle": str(uuid4())})


def _list_message_move_tasks(self: SQSResponse) -> ActionResult:
    """The latest task alone."""
    found = _moves.get(_queue_of(self.sqs_backend, self._get_param("SourceArn")))
    return ActionResult({"Results": [found] if found else []})


def _queue_of(backend: SQSBackend, arn: str) -> Queue:
    for queue in backend.queues.values():
        if queue.queue_arn == arn:
            return queue
    raise QueueDoesNotExist()
