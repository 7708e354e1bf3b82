"""What became of the uploads, from S3's own versions and the queues: never from the function's word.

An upload is answered when its current version has a result that names that version. In the order in which S3
stored them, the results of one upload never go back to an earlier upload version nor to a lower serial.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_plus

from benchmarks.load import Put
from local_aws.services.storage import Objects


@dataclass(frozen=True)
class Version:
    """A stored version of an upload. stored: seconds since the epoch, by S3."""

    key: str
    version: str
    stored: float


@dataclass(frozen=True)
class Result:
    """A stored version of a result and what its metadata say it is about."""

    key: str
    stored: float
    upload_version: str
    serial: int
    model: str
    status: str


@dataclass
class Audit:
    """Figures of one run; lists hold the keys concerned."""

    uploads: int = 0
    upload_versions: int = 0
    result_versions: int = 0
    lost: list[str] = field(default_factory=list)
    wrong_version: list[str] = field(default_factory=list)
    wrong_bytes: list[str] = field(default_factory=list)
    dishonest: list[str] = field(default_factory=list)
    status_counts: dict[str, int] = field(default_factory=dict)
    by_serial: dict[str, int] = field(default_factory=dict)
    latency_s: dict[str, float] = field(default_factory=dict)
    uploads_per_second: float = 0.0

    def summary(self) -> dict[str, Any]:
        """The figures alone, as they are published."""
        values = asdict(self)
        for name in ("lost", "wrong_version", "wrong_bytes", "dishonest"):
            values[name] = len(values[name])
        return values


def audit(
    uploads: Iterable[Version],
    results: Iterable[Result],
    documents: Mapping[str, Mapping[str, Any]],
    puts: Iterable[Put],
    dead_keys: Iterable[str],
) -> Audit:
    """Judge a run. uploads, results: as S3 lists versions, newest first; documents: current result JSON by upload."""
    versions, answers = _by_key(uploads), _by_key(results)
    known, dead = {put.version: put for put in puts}, set(dead_keys)
    found = Audit(uploads=len(versions), upload_versions=sum(map(len, versions.values())))
    found.result_versions = sum(map(len, answers.values()))
    latencies, ends = [], []
    for key, stored in versions.items():
        current, written = stored[-1], answers.get(key, [])
        if goes_back(written, [version.version for version in stored]):
            found.wrong_version.append(key)
        if not written or written[-1].upload_version != current.version:
            if key not in dead:
                (found.wrong_version if written else found.lost).append(key)
            continue
        first = next(result for result in written if result.upload_version == current.version)
        latencies.append(first.stored - current.stored)
        ends.append(first.stored)
        _judge_document(found, key, documents.get(key, {}), known[current.version])
    current_results = [written[-1] for written in answers.values()]
    found.status_counts = dict(Counter(result.status for result in current_results))
    found.by_serial = {str(n): c for n, c in sorted(Counter(result.serial for result in current_results).items())}
    if ends:
        begun = min(version.stored for stored in versions.values() for version in stored)
        found.uploads_per_second = round(len(ends) / (max(ends) - begun), 2)
        found.latency_s = quantiles(latencies)
    return found


def goes_back(written: list[Result], order: list[str]) -> bool:
    """Whether a later result is about an earlier upload version, or was written under a lower serial."""
    places = {version: place for place, version in enumerate(order)}
    steps = [(places.get(result.upload_version, -1), result.serial) for result in written]
    return any(later[0] < earlier[0] or later[1] < earlier[1] for earlier, later in pairwise(steps))


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the maximum, in the values' unit."""
    if len(values) == 1:
        values = values * 2
    cut = statistics.quantiles(values, n=100, method="inclusive")
    named = {"p50": cut[49], "p95": cut[94], "p99": cut[98], "max": max(values)}
    return {name: round(value, 3) for name, value in named.items()}


def _judge_document(found: Audit, key: str, document: Mapping[str, Any], put: Put) -> None:
    image = document.get("image", {})
    if image.get("sha256") != put.sha256 or image.get("version_id") != put.version:
        found.wrong_bytes.append(key)
    unreadable = document.get("status") == "unreadable"
    if (put.kind == "broken") != unreadable or (unreadable and document.get("label") is not None):
        found.dishonest.append(key)


def _by_key(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Versions by key, oldest first; S3 lists the versions of a key newest first."""
    grouped: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        grouped[item.key].insert(0, item)
    return grouped


def read_uploads(s3: Any, objects: Objects, bucket: str) -> list[Version]:
    """Every version of every upload, as S3 lists them."""
    listed = ((v["Key"], v["VersionId"]) for v in _versions(s3, bucket, ""))
    return [Version(key, version, objects.stored(bucket, key)[version]) for key, version in listed]


def read_results(s3: Any, objects: Objects, bucket: str) -> list[Result]:
    """Every version of every result, as S3 lists them, with its metadata."""

    def described(version: Mapping[str, Any]) -> Result:
        head = s3.head_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])["Metadata"]
        return Result(
            key=upload_key(version["Key"]),
            stored=objects.stored(bucket, version["Key"])[version["VersionId"]],
            upload_version=head["upload-version"],
            serial=int(head["serial"]),
            model=head["model-sha256"],
            status=head["status"],
        )

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(described, _versions(s3, bucket, "results/")))


def read_documents(s3: Any, bucket: str, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The current result of each upload key."""

    def read(key: str) -> tuple[str, dict[str, Any]]:
        return key, json.loads(s3.get_object(Bucket=bucket, Key=f"results/{key}.json")["Body"].read())

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(read, set(keys)))


def upload_key(result_key: str) -> str:
    return result_key.removeprefix("results/").removesuffix(".json")


def keys_of(body: str) -> list[str]:
    """Upload keys that an SQS message (an S3 event, or a list of objects) is about."""
    message = json.loads(body)
    records = [unquote_plus(record["s3"]["object"]["key"]) for record in message.get("Records", [])]
    return records + [entry["key"] for entry in message.get("objects", [])]


def _versions(s3: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return [version for page in pages for version in page.get("Versions", [])]
