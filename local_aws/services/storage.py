"""S3 as AWS behaves where it matters here: one event per object, events complete, conditional writes atomic.

Events carry `versionId` and a `sequencer` that grows per key, leave `/` plain, and CompleteMultipartUpload sends one
event, not two. One lock surrounds each request, so that If-Match is checked and applied in one step and no listing
meets a half-written object. Statements of a bucket policy that have a Condition are not enforced (moto would apply
them without looking at the condition, and refuse everything).
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any
from urllib.parse import quote

from moto.s3 import notifications
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, S3Backend, s3_backends
from moto.s3.responses import S3Response

from local_aws.patches import Patches

_lock = threading.RLock()
_sequence = itertools.count(1)
_quiet = threading.local()


def install(patches: Patches) -> None:
    """Replace moto's events and put a lock around each request."""
    patches.replace(notifications, "_get_s3_event", _complete_event, "event_name bucket key notification_id")
    patches.replace(notifications, "send_event", _unless_quiet, "account_id event_name bucket key")
    patches.replace(S3Backend, "complete_multipart_upload", _one_event, "self bucket_name multipart_id body")
    patches.replace(S3Response, "_key_response", _locked, "self request full_url")
    patches.replace(S3Response, "_bucket_response", _locked, "self request full_url")
    patches.add(FakeKey, "__deepcopy__", lambda key, memo: _listed(key))
    page = "self bucket prefix delimiter continuation_token start_after max_keys"
    patches.replace(S3Backend, "list_objects_v2", _one_page, page)
    patches.replace(S3Backend, "log_incoming_request", lambda _: _no_access_log, "self request bucket_name")
    patches.replace(FakeBucket, "get_permission", _unconditional_statements, "self action resource")


def _locked(original: Callable[..., Any]) -> Callable[..., Any]:
    def locked(*args: Any) -> Any:
        with _lock:
            return original(*args)

    return locked


class _Listed(FakeKey):
    """An object version in a listing: shares the bytes of the real one, and must not close them when it goes."""

    def dispose(self, garbage: bool = False) -> None:
        pass


def _listed(key: FakeKey) -> FakeKey:
    """moto copies every version of a bucket, bytes and all, for each page of ListObjectVersions."""
    shallow = object.__new__(_Listed)
    shallow.__dict__.update(key.__dict__)
    return shallow


def _one_page(original: Callable[..., Any]) -> Callable[..., Any]:
    """moto sorts all objects of the bucket for each page; without a delimiter the names of one page are enough."""

    def list_objects_v2(
        self: S3Backend,
        bucket: Any,
        prefix: str | None,
        delimiter: str | None,
        continuation_token: str | None,
        start_after: str | None,
        max_keys: int,
    ) -> Any:
        if delimiter or type(bucket) is not FakeBucket:
            return original(self, bucket, prefix, delimiter, continuation_token, start_after, max_keys)
        after = self._pagination_tokens.get(continuation_token) if continuation_token else start_after
        names = (name for name in iter(bucket.keys) if name > (after or "") and name.startswith(prefix or ""))
        live = (name for name in names if not isinstance(bucket.keys[name], FakeDeleteMarker))
        page = [bucket.keys[name] for name in heapq.nsmallest(max_keys + 1, live)]
        return self._truncate_result(page, max_keys)

    return list_objects_v2


def _no_access_log(self: S3Backend, request: Any, bucket_name: str) -> None:
    """S3 delivers access logs hours later, if at all; moto would write an object for each request."""


def _complete_event(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def event(event_name: str, bucket: FakeBucket, key: FakeKey, notification_id: str) -> dict[str, Any]:
        body = original(event_name, bucket, key, notification_id)
        record = body["Records"][0]
        record["userIdentity"] = {"principalId": "AWS:local"}
        record["requestParameters"] = {"sourceIPAddress": "127.0.0.1"}
        record["responseElements"] = {"x-amz-request-id": "local", "x-amz-id-2": "local"}
        record["s3"]["bucket"]["ownerIdentity"] = {"principalId": "local"}
        described = record["s3"]["object"]
        described["key"] = quote(key.name, safe="/ ").replace(" ", "+")
        if bucket.is_versioned:
            described["versionId"] = key.version_id
        described["sequencer"] = f"{next(_sequence):016X}"
        return body

    return event


def _unless_quiet(original: Callable[..., None]) -> Callable[..., None]:
    def send_event(account_id: str, event_name: Any, bucket: Any, key: Any) -> None:
        completing = getattr(_quiet, "completing", False)
        if completing and event_name == notifications.S3NotificationEvent.OBJECT_CREATED_PUT_EVENT:
            return
        original(account_id, event_name, bucket, key)

    return send_event


def _one_event(original: Callable[..., Any]) -> Callable[..., Any]:
    def complete_multipart_upload(self: S3Backend, bucket_name: str, multipart_id: str, body: Any) -> Any:
        _quiet.completing = True
        try:
            return original(self, bucket_name, multipart_id, body)
        finally:
            _quiet.completing = False

    return complete_multipart_upload


def _unconditional_statements(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_permission(self: FakeBucket, action: str, resource: str) -> Any:
        policy = self.policy
        if policy is None:
            return original(self, action, resource)
        document = json.loads(policy)
        document["Statement"] = [s for s in document["Statement"] if "Condition" not in s]
        self.policy = json.dumps(document).encode() if document["Statement"] else None
        try:
            return original(self, action, resource)
        finally:
            self.policy = policy

    return get_permission


class Objects:
    """The objects of one account, read and written inside the process: no HTTP, thousands of objects a second."""

    def __init__(self, account: str, partition: str = "aws") -> None:
        self._backend: S3Backend = s3_backends[account][partition]

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        """Names of the objects under `prefix`, sorted. Raises moto's MissingBucket."""
        with _lock:
            store = self._backend.get_bucket(bucket).keys
            names = sorted(name for name in list(store) if name.startswith(prefix))
        for name in names:
            if isinstance(store.get(name), FakeKey):
                yield name

    def read(self, bucket: str, key: str) -> bytes | None:
        """The current bytes of an object, None where there is none."""
        with _lock:
            found = self._backend.get_object(bucket, key)
            return found.value if isinstance(found, FakeKey) else None

    def stored(self, bucket: str, key: str) -> dict[str, float]:
        """When each version of an object was stored, in seconds since the epoch (S3's answers are cut to seconds)."""
        with _lock:
            versions = self._backend.get_bucket(bucket).keys.getlist(key, [])
            return {v.version_id: v.last_modified.replace(tzinfo=UTC).timestamp() for v in versions}

    def write(self, bucket: str, key: str, data: bytes) -> None:
        with _lock:
            self._backend.put_object(bucket, key, data)
