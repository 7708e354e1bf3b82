"""What a person may make answer: an approved package of the registry whose bundle is the one that was registered."""

from __future__ import annotations

import hashlib
from typing import Any

from botocore.exceptions import ClientError

from cxr.pointer import KEY, Move, Pointer, PointerMoved, PointerStore, Release
from infra.errors import Fault

_MOVED = f"{KEY} was moved by somebody else in this moment; look at `python -m infra status` and decide again"


def promote(s3: Any, sagemaker: Any, bucket: str, package_arn: str, move: Move) -> Pointer:
    """Makes an approved model package the one that answers.

    Raises:
        Fault: it is not approved, its bundle is missing or is not the one that was registered, it answers already, or
            somebody else moved the pointer meanwhile.
    """
    version = package_arn.rpartition("/")[2]
    try:
        package = sagemaker.describe_model_package(ModelPackageName=package_arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ValidationException", "ResourceNotFound"):
            raise
        raise Fault(
            f"{package_arn} is not in the registry; `aws sagemaker list-model-packages` shows what is"
        ) from error
    status = package.get("ModelApprovalStatus", "PendingManualApproval")
    if status != "Approved":
        raise Fault(f"Model package {version} is {status}; approve it in the registry first (docs/runbook.md)")
    release = _release(s3, bucket, package_arn, package.get("CustomerMetadataProperties", {}))
    pointer = PointerStore(s3, bucket)
    current = pointer.read()
    if current and current.pointer.current.sha256 == release.sha256:
        raise Fault(f"Model package {version} answers already (serial {current.pointer.current.serial})")
    try:
        return pointer.promote(release, current, move).pointer
    except PointerMoved as error:
        raise Fault(_MOVED) from error


def roll_back(s3: Any, bucket: str, move: Move) -> Pointer:
    """Makes the model that answered before answer again, under a new serial.

    Raises:
        Fault: there is no model before this one, or somebody else moved the pointer meanwhile.
    """
    pointer = PointerStore(s3, bucket)
    current = pointer.read()
    if current is None:
        raise Fault(f"s3://{bucket}/{KEY} does not exist: no model answers, so there is nothing to undo")
    if current.pointer.previous is None:
        raise Fault(
            f"Version {current.pointer.current.version} replaced no model: it is the first one, or was restored by a "
            "rollback. `python -m infra promote` makes another one answer; to stop classification disable both event "
            "sources (docs/runbook.md)"
        )
    try:
        restored = pointer.roll_back(current, move)
    except PointerMoved as error:
        raise Fault(_MOVED) from error
    assert restored is not None, "the pointer that was read names a model before it"
    return restored.pointer


def _release(s3: Any, bucket: str, package_arn: str, metadata: dict[str, str]) -> Release:
    """The bundle of a package, checked against the hash that was registered."""
    version = package_arn.rpartition("/")[2]
    job, registered = metadata.get("training_job"), metadata.get("bundle.sha256")
    if not job or not registered:
        raise Fault(
            f"Model package {version} names no training_job and bundle.sha256 in its metadata; it was not "
            "registered by the `retrain` DAG. Register it through the DAG"
        )
    key = f"models/{job}/bundle.json"
    try:
        found = s3.get_object(Bucket=bucket, Key=key)
    except s3.exceptions.NoSuchKey as error:
        raise Fault(
            f"s3://{bucket}/{key}, the bundle of model package {version}, does not exist; clear the task "
            "`register` of the run that made it"
        ) from error
    digest = hashlib.sha256(found["Body"].read()).hexdigest()
    if digest != registered:
        raise Fault(
            f"s3://{bucket}/{key} has sha256 {digest[:16]}..., but model package {version} was registered "
            f"with {registered[:16]}...; somebody changed it. Restore the registered version of the object"
        )
    return Release(version, bucket, key, found.get("VersionId"), digest, package_arn)
