"""models/current.json: which bundle answers now, and which one a function may fall back to.

It is written only by compare-and-swap, and its serial rises with every write, a rollback included, and never starts
again: the function trusts the higher one. A promotion names what it replaces as `previous`. A rollback names nothing: a
function that cannot load the restored model must not fall back to the withdrawn one. The document is input like any
other: one field of the wrong form refuses all of it (cxr/pointer.schema.json).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

SCHEMA_VERSION = 1
KEY = "models/current.json"
MAX_BYTES = 1 << 16
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABSENT = frozenset({"NoSuchKey", "404"})
_CONFLICT = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class PointerError(Exception):
    """The document is unusable; the message names the field."""


class PointerMoved(Exception):
    """Somebody else wrote the pointer since it was read; look again and decide again."""


@dataclass(frozen=True)
class Release:
    """One bundle that may answer. version: of the model package, as text; bucket, key, version_id, sha256: of its
    bundle.json; serial: under which it was promoted, 0 before that.
    """

    version: str
    bucket: str
    key: str
    version_id: str | None
    sha256: str
    package_arn: str | None
    serial: int = 0

    @property
    def prefix(self) -> str:
        """Prefix of the bundle's files, with its slash."""
        return self.key.rpartition("/")[0] + "/"

    def beside(self, name: str) -> str:
        """The key of a file that bundle.json names."""
        return self.prefix + name

    def as_json(self) -> dict[str, Any]:
        names = ("bucket", "key", "version_id", "sha256")
        return {
            "serial": self.serial,
            "version": self.version,
            "bundle": {name: getattr(self, name) for name in names},
            "model_package_arn": self.package_arn,
        }


@dataclass(frozen=True)
class Move:
    """Who moves the pointer, and why."""

    actor: str
    reason: str


@dataclass(frozen=True)
class Pointer:
    """The document. promoted_at: RFC 3339."""

    current: Release
    previous: Release | None
    move: Move = Move("", "")
    promoted_at: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            **self.current.as_json(),
            "actor": self.move.actor,
            "reason": self.move.reason,
            "promoted_at": self.promoted_at,
            "previous": self.previous.as_json() if self.previous else None,
        }

    def to_bytes(self) -> bytes:
        return json.dumps(self.as_json(), indent=2, sort_keys=True).encode() + b"\n"


@dataclass(frozen=True)
class Seen:
    """The pointer as it was read or written, and the ETag that a later write must still find."""

    pointer: Pointer
    etag: str


def parse(text: bytes) -> Pointer:
    """Raises PointerError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise PointerError("the pointer is not JSON; promote or roll back again") from None
    return of_document(document)


def of_document(document: Any) -> Pointer:
    """The pointer of parsed JSON. Raises PointerError."""
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise PointerError(f"the pointer's schema_version is not {SCHEMA_VERSION}; deploy a function that knows it")
    previous = document.get("previous")
    actor, reason, promoted_at = (_optional(document, name) or "" for name in ("actor", "reason", "promoted_at"))
    replaced = None if previous is None else _release(previous)
    return Pointer(_release(document), replaced, Move(actor, reason), promoted_at)


def promoted(release: Release, over: Pointer | None, last_serial: int, move: Move) -> Pointer:
    """The document that makes `release` answer in place of `over`. last_serial: the highest so far, 0 if none."""
    serial = max(last_serial, over.current.serial if over else 0) + 1
    return Pointer(replace(release, serial=serial), over.current if over else None, move, _now())


def rolled_back(promotion: Pointer, move: Move) -> Pointer | None:
    """The document that undoes `promotion`, or None where it replaced no model: then none answers."""
    if promotion.previous is None:
        return None
    return Pointer(replace(promotion.previous, serial=promotion.current.serial + 1), None, move, _now())


class PointerStore:
    """The pointer in its versioned bucket. s3: a boto3 client."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._object = s3, {"Bucket": bucket, "Key": KEY}

    def read(self) -> Seen | None:
        """None while no model answers. Raises PointerError."""
        try:
            answer = self._s3.get_object(**self._object)
        except Exception as error:
            if error_code(error) in _ABSENT:
                return None
            raise
        return Seen(parse(answer["Body"].read()), answer["ETag"])

    def promote(self, release: Release, over: Seen | None, move: Move) -> Seen:
        """Makes `release` answer in place of `over` (None: where none answers). Raises PointerMoved."""
        last = 0 if over else next((pointer.current.serial for pointer in self.history()), 0)
        return self._write(promoted(release, over.pointer if over else None, last, move), over)

    def roll_back(self, promotion: Seen, move: Move) -> Seen | None:
        """Undoes `promotion`; None where no model answers any more. Raises PointerMoved if it answers no longer."""
        restored = rolled_back(promotion.pointer, move)
        if restored is not None:
            return self._write(restored, promotion)
        current = self.read()
        if current is None or current.etag != promotion.etag:
            raise PointerMoved(f"{KEY} was written by somebody else since it was read")
        self._s3.delete_object(**self._object)
        return None

    def history(self) -> Iterator[Pointer]:
        """Every document that the pointer ever was, newest first."""
        bucket = self._object["Bucket"]
        for page in self._s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=KEY):
            for version in page.get("Versions", ()):
                if version["Key"] == KEY:
                    answer = self._s3.get_object(**self._object, VersionId=version["VersionId"])
                    yield parse(answer["Body"].read())

    def served_as(self, bundle_sha256: str) -> int | None:
        """The last serial under which a bundle answered, or None if it never did."""
        return next((old.current.serial for old in self.history() if old.current.sha256 == bundle_sha256), None)

    def _write(self, pointer: Pointer, over: Seen | None) -> Seen:
        condition = {"IfMatch": over.etag} if over else {"IfNoneMatch": "*"}
        try:
            answer = self._s3.put_object(
                **self._object, Body=pointer.to_bytes(), ContentType="application/json", **condition
            )
        except Exception as error:
            if error_code(error) in _CONFLICT | _ABSENT:
                raise PointerMoved(f"{KEY} was written by somebody else since it was read") from error
            raise
        return Seen(pointer, answer["ETag"])


def error_code(error: BaseException) -> str:
    """AWS' code of a botocore ClientError (`PreconditionFailed`, `404`), or "" for any other exception."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""


def _release(document: Any) -> Release:
    if not isinstance(document, dict) or not isinstance(bundle := document.get("bundle"), dict):
        raise PointerError("the pointer's bundle is no object")
    serial, version = document.get("serial"), document.get("version")
    if not isinstance(serial, int) or isinstance(serial, bool) or serial < 0:
        raise PointerError("the pointer's serial is no integer from 0")
    if not isinstance(version, (str, int)):
        raise PointerError("the pointer's version is no text")
    bucket, key, sha256 = (_text(bundle, name) for name in ("bucket", "key", "sha256"))
    if not _SHA256.fullmatch(sha256):
        raise PointerError("the pointer's bundle.sha256 is not 64 hexadecimal digits")
    version_id, package_arn = _optional(bundle, "version_id"), _optional(document, "model_package_arn")
    return Release(str(version), bucket, key, version_id, sha256, package_arn, serial)


def _text(mapping: Mapping[str, Any], name: str) -> str:
    value = _optional(mapping, name)
    if value is None:
        raise PointerError(f"the pointer's {name} is no text")
    return value


def _optional(mapping: Mapping[str, Any], name: str) -> str | None:
    """None for null, nothing and the empty text."""
    value = mapping.get(name)
    if not isinstance(value, (str, type(None))):
        raise PointerError(f"the pointer's {name} is no text")
    return value or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
