"""What a person made in the local AWS survives a restart: datasets, uploads, models, reports, the registry's record.

Results are not kept: the uploads come back as new objects, so their events have them answered again, by the model that
serves. Completed training jobs are kept with their artifacts, so that unchanged data are not trained on twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cxr.pointer import KEY, Pointer, Release, parse
from local_aws.server import ACCOUNT, REGION, LocalAWS
from local_aws.services import record

KEPT = {
    "datasets_bucket": ("",),
    "models_bucket": ("models/", "training/"),
    "results_bucket": ("reports/",),
    "uploads_bucket": ("",),
}
DROPPED = re.compile("^_smoke/|^training/[^/]+/checkpoints/")
INDEX = "index.json"  # {alias of the bucket: {file: key}}
RECORD = "sagemaker.json"


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
    (fresh / RECORD).write_text(record.dump(ACCOUNT, REGION))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def restore(aws: LocalAWS, settings: Mapping[str, str], folder: Path) -> bool:
    """Put back what `save` wrote; whether there was anything. Raises RuntimeError where its index is missing."""
    if not folder.is_dir():
        return False
    for name in (INDEX, RECORD):
        if not (folder / name).is_file():
            raise RuntimeError(
                f"{folder} has no {name}: another version kept its files there; move the folder away, and the next "
                "start is a first one"
            )
    record.load(ACCOUNT, REGION, (folder / RECORD).read_text())
    s3 = aws.client("s3")
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


def _file_name(key: str) -> str:
    """A key as one file name: a key has up to 1,024 bytes of any alphabet, a file system's name 255."""
    return hashlib.sha256(key.encode()).hexdigest()
