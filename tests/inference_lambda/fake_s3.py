"""The three S3 calls of the function, in a dictionary: fast enough for many interleavings; every write is kept."""

from __future__ import annotations

import hashlib
import io
import itertools
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError


@dataclass
class Version:
    body: bytes
    etag: str
    version_id: str
    metadata: dict[str, str] = field(default_factory=dict)


class FakeS3:
    """Versioned buckets with conditional reads and writes; `history` holds all versions of a key, oldest first."""

    def __init__(self) -> None:
        self.history: dict[tuple[str, str], list[Version]] = {}
        self.current: dict[tuple[str, str], Version] = {}
        self._numbers = itertools.count(1)

    def put_object(
        self,
        Bucket: str,
        Key: str,
        Body: bytes | str,
        Metadata: dict[str, str] | None = None,
        IfMatch: str | None = None,
        IfNoneMatch: str | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        standing = self.current.get((Bucket, Key))
        if IfNoneMatch == "*" and standing is not None:
            raise _error("PreconditionFailed", 412)
        if IfMatch is not None and standing is None:
            raise _error("NoSuchKey", 404)
        if IfMatch is not None and standing is not None and standing.etag != IfMatch:
            raise _error("PreconditionFailed", 412)
        body = Body.encode() if isinstance(Body, str) else Body
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        version = Version(body, etag, f"v{next(self._numbers)}", dict(Metadata or {}))
        self.current[Bucket, Key] = version
        self.history.setdefault((Bucket, Key), []).append(version)
        return {"ETag": version.etag, "VersionId": version.version_id}

    def head_object(self, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        version = self._standing(Bucket, Key, "404")
        return _answer(version)

    def get_object(self, Bucket: str, Key: str, IfNoneMatch: str | None = None, **_: Any) -> dict[str, Any]:
        version = self._standing(Bucket, Key, "NoSuchKey")
        if IfNoneMatch == version.etag:
            raise _error("304", 304)
        return {**_answer(version), "Body": io.BytesIO(version.body)}

    def delete_object(self, Bucket: str, Key: str) -> None:
        self.current.pop((Bucket, Key), None)

    def _standing(self, bucket: str, key: str, code: str) -> Version:
        if (bucket, key) not in self.current:
            raise _error(code, 404)
        return self.current[bucket, key]


def _answer(version: Version) -> dict[str, Any]:
    return {
        "ETag": version.etag,
        "VersionId": version.version_id,
        "ContentLength": len(version.body),
        "Metadata": version.metadata,
    }


def _error(code: str, status: int) -> ClientError:
    response = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Operation")
