"""What a person made in the local AWS survives a restart: datasets, uploads, models, reports, the registry's record.

Results are not kept: the uploads come back as new objects, so their events have them answered again, by the model that
serves. Completed training jobs are kept with their artifacts, so that unchanged data are not trained on twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr.pointer import KEY, Pointer, Release, parse
from local_aws.server import ACCOUNT, REGION, LocalAWS
from local_aws.services import training_record

KEPT = {
    "datasets_bucket": ("",),
    "models_bucket": ("models/", "training/"),
    "results_bucket": ("reports/",),
    "uploads_bucket": ("",),
}
DROPPED = re.compile("^_smoke/|^training/[^/]+/checkpoints/")
INDEX = "index.json"  # {alias of the bucket: {file: key}}
RECORD = ("ModelPackageDescription", "InferenceSpecification", "ModelMetrics", "CustomerMetadataProperties")
DECISION = ("ModelApprovalStatus", "ApprovalDescription")


def save(aws: LocalAWS, settings: Mapping[str, str], folder: Path) -> None:
    """Write the current objects and model packages to ``folder``, all or nothing."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    objects = aws.objects()
    index: dict[str, dict[str, str]] = {alias: {} for alias in KEPT}
    for alias, prefixes in KEPT.items():
        (fresh / alias).mkdir(parents=True)
        for key in (key for prefix in prefixes for key in objects.keys(settings[alias], prefix)):
            content = objects.read(settings[alias], key)
            if content is not None and not DROPPED.search(key):
                index[alias][_file_name(key)] = key
                (fresh / alias / _file_name(key)).write_bytes(content)
    (fresh / INDEX).write_text(json.dumps(index, indent=2))
    packages = [_package(aws, arn) for arn in _packages(aws, settings["model_package_group"])]
    (fresh / "packages.json").write_text(json.dumps(packages, indent=2))
    (fresh / "jobs.json").write_text(training_record.dump(ACCOUNT, REGION))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def restore(aws: LocalAWS, settings: Mapping[str, str], folder: Path) -> bool:
    """Put back what `save` wrote; whether there was anything. Raises RuntimeError where its index is missing."""
    if not folder.is_dir():
        return False
    if not (folder / INDEX).is_file():
        raise RuntimeError(
            f"{folder} has no {INDEX}: an older version kept its files under other names; move the folder away, "
            "and the next start is a first one"
        )
    sagemaker, s3 = aws.client("sagemaker"), aws.client("s3")
    for package in json.loads((folder / "packages.json").read_text()):
        group = settings["model_package_group"]
        arn = sagemaker.create_model_package(ModelPackageGroupName=group, **package["record"])["ModelPackageArn"]
        sagemaker.update_model_package(ModelPackageArn=arn, **package["decision"])
    training_record.load(ACCOUNT, REGION, (folder / "jobs.json").read_text())
    versions: dict[str, str] = {}
    for alias, keys in json.loads((folder / INDEX).read_text()).items():
        pointer = None
        for file, key in keys.items():
            body = (folder / alias / file).read_bytes()
            if (alias, key) == ("models_bucket", KEY):
                pointer = parse(body)
            else:
                versions[key] = s3.put_object(Bucket=settings[alias], Key=key, Body=body)["VersionId"]
        if pointer is not None:
            s3.put_object(Bucket=settings[alias], Key=KEY, Body=_present(pointer, versions).to_bytes())
    return True


def _present(pointer: Pointer, versions: Mapping[str, str]) -> Pointer:
    """The pointer with the version ids that its bundles have now."""

    def now(release: Release) -> Release:
        return replace(release, version_id=versions[release.key])

    return replace(pointer, current=now(pointer.current), previous=pointer.previous and now(pointer.previous))


def _packages(aws: LocalAWS, group: str) -> Iterator[str]:
    pages = (
        aws.client("sagemaker")
        .get_paginator("list_model_packages")
        .paginate(ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Ascending")
    )
    for page in pages:
        yield from (package["ModelPackageArn"] for package in page["ModelPackageSummaryList"])


def _package(aws: LocalAWS, arn: str) -> dict[str, Any]:
    described = aws.client("sagemaker").describe_model_package(ModelPackageName=arn)
    return {
        part: {name: described[name] for name in names if described.get(name)}
        for part, names in (("record", RECORD), ("decision", DECISION))
    }


def _file_name(key: str) -> str:
    """A key as one file name: a key has up to 1,024 bytes of any alphabet, a file system's name 255."""
    return hashlib.sha256(key.encode()).hexdigest()
