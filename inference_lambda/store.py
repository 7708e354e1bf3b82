"""S3 as this function needs it: whole objects, conditional writes, and four outcomes that callers can tell apart.

A caller decides on Gone, Conflict and NotModified; everything else that S3 answers is passed
on as it is, because only the queue may decide how often to try again. No encryption header is sent: the bucket's own
default applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

CONNECT_SECONDS = 1
READ_SECONDS = 4
ATTEMPTS = 3
"""Of botocore's standard mode, which waits up to 1 and then 2 s between them. A call to an S3 that does not answer
costs 3 x (1 + 4) + 1 + 2 = 18 s, less than what the handler keeps in reserve; and at 2 % of attempts failing, one call
in 125,000 fails three times and leaves its message to the queue.
"""

_GONE = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
_CONFLICT = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict", "OperationAborted"})
_NOT_MODIFIED = frozenset({"304", "NotModified"})
_PASSING = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
    | {"BandwidthLimitExceeded", "RequestTimeout", "InternalError", "ServiceUnavailable"}
)
"""Told by the code alone where an answer has no status of 429 or 5xx."""


class Gone(Exception):
    """There is no such object now."""


class Conflict(Exception):
    """The object changed since its ETag was read."""


class NotModified(Exception):
    """The object still has the ETag that the caller knows."""


class TooLarge(Exception):
    """The object exceeds the caller's limit and was not read. `stored` has an empty body."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(f"the object has {stored.size} bytes")
        self.stored = stored


@dataclass(frozen=True)
class Stored:
    """An object as it was at one moment. etag: without quotes; version_id: "null" in an unversioned bucket; size:
    bytes.
    """

    body: bytes
    etag: str
    version_id: str
    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)


class Store:
    """A thin face of an S3 client; the client is made on first use, because importing boto3 is a third of a cold
    start.
    """

    def __init__(self, client: Any = None) -> None:
        self._given = client

    @property
    def _client(self) -> Any:
        if self._given is None:
            import boto3
            from botocore.config import Config

            retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
            self._given = boto3.client(
                "s3", config=Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries=retries)
            )
        return self._given

    def get(
        self, bucket: str, key: str, limit: int, *, version_id: str | None = None, unless_etag: str | None = None
    ) -> Stored:
        """The object, at most `limit` bytes. Raises Gone, TooLarge and, if it has `unless_etag`, NotModified."""
        conditions = {"VersionId": version_id} if version_id else {}
        if unless_etag:
            conditions["IfNoneMatch"] = f'"{unless_etag}"'
        answer = self._call("get_object", Bucket=bucket, Key=key, **conditions)
        with closing(answer["Body"]) as stream:
            if answer["ContentLength"] > limit:
                raise TooLarge(_stored(answer, b""))
            return _stored(answer, stream.read())

    def head(self, bucket: str, key: str) -> Stored | None:
        """The object's ETag and metadata, or None if there is none."""
        try:
            return _stored(self._call("head_object", Bucket=bucket, Key=key), b"")
        except Gone:
            return None

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        """Writes unconditionally; only for keys whose name depends on their content."""
        self._call("put_object", Bucket=bucket, Key=key, Body=body, ContentType=content_type)

    def put_over(
        self, bucket: str, key: str, body: bytes, content_type: str, metadata: Mapping[str, str], over: Stored | None
    ) -> None:
        """Writes only if what stands there is still `over` (None: nothing). Raises Conflict otherwise."""
        condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": f'"{over.etag}"'}
        try:
            self._call(
                "put_object",
                Bucket=bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                Metadata=metadata,
                **condition,
            )
        except Gone:
            raise Conflict from None

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        client = self._client
        from botocore.exceptions import ClientError

        try:
            return getattr(client, operation)(**arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _GONE:
                raise Gone from None
            if code in _CONFLICT:
                raise Conflict from None
            if code in _NOT_MODIFIED:
                raise NotModified from None
            raise


def is_transient(error: BaseException) -> bool:
    """Was S3 busy, broken or out of reach, so that the same call may succeed later?"""
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
    from botocore.exceptions import ConnectionError as Unreachable

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or error.response.get("Error", {}).get("Code") in _PASSING
    return isinstance(error, (HTTPClientError, IncompleteReadError, Unreachable))


def _stored(answer: Mapping[str, Any], body: bytes) -> Stored:
    return Stored(
        body=body,
        etag=answer["ETag"].strip('"'),
        version_id=answer.get("VersionId") or "null",
        size=int(answer["ContentLength"]),
        metadata=answer.get("Metadata", {}),
    )
