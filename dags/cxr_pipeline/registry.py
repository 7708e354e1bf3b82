"""The Model Registry is the record of what was trained, measured and decided; every decision carries its reason.

A refusal by a person stands. A refusal by the gate or the comparison is a verdict on figures and may be made anew
with other floors; those begin with ``gate:`` or ``comparison:``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MACHINE_REASONS = ("gate:", "comparison:")
METADATA_VALUE = 256  # SageMaker's bound on a value of CustomerMetadataProperties
UNSAFE = re.compile(r"[^\w\s.:/=+\-@]")  # what CustomerMetadataProperties may not hold


@dataclass(frozen=True)
class Package:
    """What the registry records of a model.

    metadata: at most 50 pairs for CustomerMetadataProperties; characters that SageMaker refuses become "_".
    """

    model_data: str
    image: str
    metrics_uri: str
    metadata: dict[str, str]


class PackageRefused(Exception):
    """The package was refused by somebody whose word this run must not overrule."""


def find(sagemaker: Any, group: str, job: str) -> str | None:
    """Return the ARN of the newest package registered for training job ``job``, or None."""
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending"
    )
    summaries = (package for page in pages for package in page["ModelPackageSummaryList"])
    return next((p["ModelPackageArn"] for p in summaries if p.get("ModelPackageDescription") == _title(job)), None)


def register(sagemaker: Any, group: str, job: str, package: Package) -> str:
    """Create the package of training job ``job``, pending approval, unless it exists; return its ARN."""
    existing = find(sagemaker, group, job)
    if existing:
        return existing
    answer = sagemaker.create_model_package(
        ModelPackageGroupName=group,
        ModelPackageDescription=_title(job),
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [{"Image": package.image, "ModelDataUrl": package.model_data}],
            "SupportedContentTypes": ["image/jpeg", "image/png", "application/dicom"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        ModelMetrics={
            "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": package.metrics_uri}},
        },
        CustomerMetadataProperties={
            name: UNSAFE.sub("_", value)[:METADATA_VALUE] for name, value in package.metadata.items()
        },
    )
    return str(answer["ModelPackageArn"])


def version(package_arn: str) -> str:
    """Return the version of a package as text: the last part of its ARN."""
    return package_arn.rpartition("/")[2]


def status(sagemaker: Any, package_arn: str) -> tuple[str, str]:
    """Return (ModelApprovalStatus, ApprovalDescription or "")."""
    package = sagemaker.describe_model_package(ModelPackageName=package_arn)
    return str(package["ModelApprovalStatus"]), str(package.get("ApprovalDescription") or "")


def decide(sagemaker: Any, package_arn: str, decision: str, reason: str) -> None:
    """Write ``decision`` (Approved, Rejected or PendingManualApproval) with its reason into the registry."""
    sagemaker.update_model_package(
        ModelPackageArn=package_arn, ModelApprovalStatus=decision, ApprovalDescription=reason[:1024]
    )


def await_decision(sagemaker: Any, package_arn: str, reason: str) -> None:
    """Make a package pending, also one that figures refused earlier; an approved one stays so.

    Raises PackageRefused where a person, or the smoke test, refused it.
    """
    decision, description = status(sagemaker, package_arn)
    if decision == "Approved":
        return
    if decision == "Rejected" and not description.startswith(MACHINE_REASONS):
        raise PackageRefused(
            f"model package {version(package_arn)} was refused earlier: {description or 'no reason given'}. "
            "Approve it in the registry, or train a new one with `force`."
        )
    decide(sagemaker, package_arn, "PendingManualApproval", reason)


def _title(job: str) -> str:
    return f"training job {job}"
