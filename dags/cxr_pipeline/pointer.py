"""Which model answers is one object, models/current.json, written only by compare-and-swap.

A promotion names the ETag of the champion it was compared with; if that changed meanwhile, S3 answers 412 and the
comparison must be made again. The serial rises with every write, a rollback included, and never starts again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cxr_pipeline.clients import error_code

KEY = "models/current.json"
CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class ChampionChanged(Exception):
    """Somebody else wrote the pointer since it was read; compare again."""


@dataclass(frozen=True)
class Pointer:
    """The pointer's document and the ETag under which it was read."""

    document: dict[str, Any]
    etag: str

    @property
    def serial(self) -> int:
        return int(self.document["serial"])

    @property
    def bundle_prefix(self) -> str:
        """Prefix of the served bundle's files, with a trailing slash."""
        return self.document["bundle"]["key"].rpartition("/")[0] + "/"


def read(s3: Any, bucket: str) -> Pointer | None:
    """Return the current pointer, or None while no model serves."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=KEY)
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("NoSuchKey", "404"):
            return None
        raise
    return Pointer(json.loads(answer["Body"].read()), answer["ETag"])


def promote(
    s3: Any,
    bucket: str,
    champion: Pointer | None,
    *,
    bundle: dict[str, Any],
    package_arn: str,
    version: str,
    actor: str,
    reason: str,
) -> Pointer:
    """Make ``bundle`` the served model in place of ``champion`` (None: where none serves).

    ``bundle`` is ``{"bucket", "key", "version_id", "sha256"}`` of bundle.json. Raises ChampionChanged on a race.
    """
    last = champion.document if champion else _last_deleted(s3, bucket)
    document = {
        "schema_version": 1,
        "serial": int(last["serial"]) + 1 if last else 1,
        "version": version,
        "bundle": bundle,
        "model_package_arn": package_arn,
        "actor": actor,
        "reason": reason,
        "promoted_at": _now(),
        "previous": _served(champion.document) if champion else None,
    }
    return _write(s3, bucket, document, champion.etag if champion else None)


def roll_back(s3: Any, bucket: str, promotion: Pointer, *, actor: str, reason: str) -> Pointer | None:
    """Undo ``promotion``: serve its predecessor again under a new serial, or none where there was none (None).

    The withdrawn model is no ``previous``: a function that cannot load the restored one must not fall back to it.
    Raises ChampionChanged when another model was promoted since: then there is nothing to undo.
    """
    previous = promotion.document["previous"]
    if previous is None:
        _delete(s3, bucket, promotion.etag)
        return None
    document = {
        "schema_version": 1,
        "serial": promotion.serial + 1,
        "version": previous["version"],
        "bundle": previous["bundle"],
        "model_package_arn": previous["model_package_arn"],
        "actor": actor,
        "reason": reason,
        "promoted_at": _now(),
        "previous": None,
    }
    return _write(s3, bucket, document, promotion.etag)


def _served(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("serial", "version", "bundle", "model_package_arn")}


def _write(s3: Any, bucket: str, document: dict[str, Any], etag: str | None) -> Pointer:
    body = json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
    condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        answer = s3.put_object(Bucket=bucket, Key=KEY, Body=body, ContentType="application/json", **condition)
    except s3.exceptions.ClientError as error:
        if error_code(error) in (*CONFLICTS, "NoSuchKey", "404"):
            raise ChampionChanged(f"{KEY} was written by somebody else since it was read") from error
        raise
    return Pointer(document, answer["ETag"])


def _delete(s3: Any, bucket: str, etag: str) -> None:
    current = read(s3, bucket)
    if current is None or current.etag != etag:
        raise ChampionChanged(f"{KEY} was written by somebody else since it was read")
    s3.delete_object(Bucket=bucket, Key=KEY)


def history(s3: Any, bucket: str) -> Iterator[dict[str, Any]]:
    """Yield every document that the pointer ever held, newest first (the bucket is versioned)."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=KEY):
        for version in page.get("Versions", ()):
            if version["Key"] == KEY:
                body = s3.get_object(Bucket=bucket, Key=KEY, VersionId=version["VersionId"])["Body"].read()
                yield json.loads(body)


def served_as(s3: Any, bucket: str, bundle_sha256: str) -> int | None:
    """Return the last serial under which a bundle served, or None if it never did."""
    serials = (int(d["serial"]) for d in history(s3, bucket) if d["bundle"]["sha256"] == bundle_sha256)
    return next(serials, None)


def _last_deleted(s3: Any, bucket: str) -> dict[str, Any] | None:
    return next(history(s3, bucket), None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
