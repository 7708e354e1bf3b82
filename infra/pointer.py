"""Which model answers is one object, `models/current.json`, and it moves only by compare-and-swap.

Every write raises the serial, a rollback too, and the serial never starts again: the function trusts the higher one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from infra.errors import Fault

KEY = "models/current.json"
_ABSENT = ("NoSuchKey", "404")
_CONFLICT = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class PointerFault(Fault):
    """The pointer was not moved; the message says why and what to do."""


@dataclass(frozen=True)
class Pointer:
    """The document and the ETag under which it was read or written."""

    document: dict[str, Any]
    etag: str


def read(s3: Any, bucket: str) -> Pointer | None:
    """The pointer as it stands, or None while no model answers."""
    found = _get(s3, bucket, KEY)
    return None if found is None else Pointer(json.loads(found["Body"].read()), found["ETag"])


def promote(s3: Any, sagemaker: Any, bucket: str, package_arn: str, *, actor: str, reason: str) -> Pointer:
    """Makes an approved model package the one that answers.

    Raises:
        PointerFault: it is not approved, its bundle is missing or is not the one that was registered, it answers
            already, or somebody else moved the pointer meanwhile.
    """
    version = package_arn.rpartition("/")[2]
    try:
        package = sagemaker.describe_model_package(ModelPackageName=package_arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ValidationException", "ResourceNotFound"):
            raise
        raise PointerFault(
            f"{package_arn} is not in the registry; `aws sagemaker list-model-packages` shows what is"
        ) from error
    status = package.get("ModelApprovalStatus", "PendingManualApproval")
    if status != "Approved":
        raise PointerFault(f"Model package {version} is {status}; approve it in the registry first (docs/runbook.md)")
    bundle = _bundle(s3, bucket, version, package.get("CustomerMetadataProperties", {}))
    current = read(s3, bucket)
    if current and current.document["bundle"]["sha256"] == bundle["sha256"]:
        raise PointerFault(f"Model package {version} answers already (serial {current.document['serial']})")
    last = current.document["serial"] if current else _last_serial(s3, bucket)
    served = _served(current.document) if current else None
    entry = {"serial": last + 1, "version": version, "bundle": bundle, "model_package_arn": package_arn}
    return _write(s3, bucket, entry, served, current, actor, reason)


def roll_back(s3: Any, bucket: str, *, actor: str, reason: str) -> Pointer:
    """Makes the model that answered before answer again, under a new serial.

    Raises:
        PointerFault: there is no model before this one, or somebody else moved the pointer meanwhile.
    """
    current = read(s3, bucket)
    if current is None:
        raise PointerFault(f"s3://{bucket}/{KEY} does not exist: no model answers, so there is nothing to undo")
    previous = current.document["previous"]
    if previous is None:
        raise PointerFault(
            f"Version {current.document['version']} is the first model; there is none before it. To stop "
            "classification disable both event sources (docs/runbook.md)"
        )
    entry = previous | {"serial": current.document["serial"] + 1}
    return _write(s3, bucket, entry, _served(current.document), current, actor, reason)


def _bundle(s3: Any, bucket: str, version: str, metadata: dict[str, str]) -> dict[str, Any]:
    """The reference to the bundle of a package, checked against the hash that was registered."""
    job, registered = metadata.get("training_job"), metadata.get("bundle.sha256")
    if not job or not registered:
        raise PointerFault(
            f"Model package {version} names no training_job and bundle.sha256 in its metadata; it was not "
            "registered by the `retrain` DAG. Register it through the DAG"
        )
    key = f"models/{job}/bundle.json"
    found = _get(s3, bucket, key)
    if found is None:
        raise PointerFault(
            f"s3://{bucket}/{key}, the bundle of model package {version}, does not exist; clear the task "
            "`register` of the run that made it"
        )
    digest = hashlib.sha256(found["Body"].read()).hexdigest()
    if digest != registered:
        raise PointerFault(
            f"s3://{bucket}/{key} has sha256 {digest[:16]}..., but model package {version} was registered "
            f"with {registered[:16]}...; somebody changed it. Restore the registered version of the object"
        )
    return {"bucket": bucket, "key": key, "version_id": found.get("VersionId"), "sha256": digest}


def _write(
    s3: Any,
    bucket: str,
    entry: dict[str, Any],
    previous: dict[str, Any] | None,
    seen: Pointer | None,
    actor: str,
    reason: str,
) -> Pointer:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document = {
        "schema_version": 1,
        **entry,
        "actor": actor,
        "reason": reason,
        "promoted_at": now,
        "previous": previous,
    }
    condition = {"IfMatch": seen.etag} if seen else {"IfNoneMatch": "*"}
    body = json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
    try:
        answer = s3.put_object(Bucket=bucket, Key=KEY, Body=body, ContentType="application/json", **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] in (*_CONFLICT, *_ABSENT):
            raise PointerFault(
                f"s3://{bucket}/{KEY} was moved by somebody else in this moment; look at "
                "`python -m infra status` and decide again"
            ) from error
        raise
    return Pointer(document, answer["ETag"])


def _served(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("serial", "version", "bundle", "model_package_arn")}


def _last_serial(s3: Any, bucket: str) -> int:
    """The highest serial that a deleted pointer ever had; 0 if there never was one."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=KEY)
    versions = [v["VersionId"] for page in pages for v in page.get("Versions", []) if v["Key"] == KEY]
    if not versions:
        return 0
    newest = s3.get_object(Bucket=bucket, Key=KEY, VersionId=versions[0])  # listed newest first
    return int(json.loads(newest["Body"].read())["serial"])


def _get(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    try:
        return s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise
