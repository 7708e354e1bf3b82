"""What an event asks for. Pure: JSON in, uploads out.

An event is only a hint that an object may have changed. Nothing but bucket, key and the time is taken from it, and a
body of unknown form is an error of that one message, never of its neighbours. S3's events come as S3 sends them, or in
the envelope of SNS or of EventBridge, or of one in the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

MAX_OBJECTS = 10_000
MAX_KEY_BYTES = 1024
"""S3's own limit."""
_ENVELOPES = 3
"""One in another: S3 to EventBridge to SNS to a queue has two."""


class UnknownEvent(Exception):
    """The event or message has no form that is understood; the text never quotes its content."""


@dataclass(frozen=True)
class Upload:
    """One object to answer for. uploaded_at: RFC 3339 time of the event, if one said so."""

    bucket: str
    key: str
    uploaded_at: str | None = None


@dataclass(frozen=True)
class Request:
    """A direct invocation: uploads listed or named by a manifest; expect_sha256: the model that has to answer."""

    uploads: tuple[Upload, ...]
    manifest: tuple[str, str] | None = None
    expect_sha256: str | None = None


def is_queue_batch(event: Any) -> bool:
    """SQS batches carry `messageId` in every record."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    return isinstance(records, list) and bool(records) and all("messageId" in _object(record) for record in records)


def is_direct(event: Any) -> bool:
    return isinstance(event, Mapping) and ("objects" in event or "manifest" in event)


def uploads_of_message(body: str | bytes) -> tuple[Upload, ...]:
    """The body of one queue message: what uploads_of() takes, as text. Raises UnknownEvent."""
    return uploads_of(_json(body))


def uploads_of(content: Any) -> tuple[Upload, ...]:
    """An S3 event in any envelope, {"objects": [...]} or S3's test event -> uploads, in order, each once.

    Raises UnknownEvent.
    """
    return tuple(dict.fromkeys(_uploads(content, _ENVELOPES)))


def _uploads(content: Any, envelopes: int) -> Iterator[Upload]:
    if not isinstance(content, Mapping):
        raise UnknownEvent("the event is no JSON object")
    if content.get("Event") == "s3:TestEvent":
        return
    if "objects" in content:
        yield from _listed(content["objects"])
    elif content.get("source") == "aws.s3":
        yield _bridged(content)
    elif "Type" in content and "Message" in content:
        yield from _published(content, envelopes)
    else:
        records = content.get("Records")
        if not isinstance(records, list) or not records:
            raise UnknownEvent("the event has neither Records nor objects")
        for record in map(_object, records):
            if "Sns" in record:
                yield from _published(_object(record["Sns"]), envelopes)
            else:
                yield _notified(record)


def _published(notification: Mapping[str, Any], envelopes: int) -> Iterator[Upload]:
    """What SNS carries: the subscriber's message is the publisher's, as text."""
    if notification.get("Type") != "Notification":
        raise UnknownEvent("SNS sends no notification; confirm the subscription of the queue")
    if not envelopes:
        raise UnknownEvent(f"the event has more than {_ENVELOPES} envelopes")
    yield from _uploads(_json(notification.get("Message")), envelopes - 1)


def _bridged(event: Mapping[str, Any]) -> Upload:
    """EventBridge encodes no key (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html)."""
    detail = _object(event.get("detail"))
    time = event.get("time")
    return _upload(
        _object(detail.get("bucket")).get("name"),
        _object(detail.get("object")).get("key"),
        time if isinstance(time, str) else None,
    )


def direct_request(event: Mapping[str, Any]) -> Request:
    """{"objects": [...]} or {"manifest": "s3://bucket/key"}, with an optional expect_sha256. Raises UnknownEvent."""
    expected = event.get("expect_sha256")
    if expected is not None and not isinstance(expected, str):
        raise UnknownEvent("expect_sha256 is no text")
    if "objects" in event:
        return Request(_listed(event["objects"]), None, expected)
    bucket, _, key = str(event["manifest"]).removeprefix("s3://").partition("/")
    if not str(event["manifest"]).startswith("s3://") or not bucket or not key:
        raise UnknownEvent("manifest is not of the form s3://bucket/key")
    return Request((), (bucket, key), expected)


def _notified(record: Mapping[str, Any]) -> Upload:
    """S3 encodes the key as a form does: "red flower.jpg" is red+flower.jpg."""
    s3 = _object(record.get("s3"))
    bucket, key = _object(s3.get("bucket")).get("name"), _object(s3.get("object")).get("key")
    if not isinstance(key, str):
        raise UnknownEvent("a record names no key")
    uploaded_at = record.get("eventTime")
    return _upload(bucket, unquote_plus(key), uploaded_at if isinstance(uploaded_at, str) else None)


def _listed(objects: Any) -> tuple[Upload, ...]:
    if not isinstance(objects, list) or len(objects) > MAX_OBJECTS:
        raise UnknownEvent(f"objects is no list of at most {MAX_OBJECTS}")
    return tuple(dict.fromkeys(_upload(_object(item).get("bucket"), _object(item).get("key")) for item in objects))


def _upload(bucket: Any, key: Any, uploaded_at: str | None = None) -> Upload:
    if not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
        raise UnknownEvent("an object has no bucket or no key")
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise UnknownEvent(f"a key is longer than {MAX_KEY_BYTES} bytes")
    return Upload(bucket, key, uploaded_at)


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise UnknownEvent("the message is no JSON") from None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
