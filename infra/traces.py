"""Where a film, its name or its picture lies: the films of some upload keys, traced through every bucket.

A film is known by its bytes, a name by its spellings (as text, JSON, HTML, CSV and in an address). Whatever names a
film is found as a whole: a report or a model with all its files, because the other files hold pictures.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any
from urllib.parse import quote, quote_plus

from cxr.result import HEATMAPS, key_of
from cxr.spreadsheet import cell
from infra.errors import Fault
from infra.versions import Version, versions

THREADS = 16
DICOM = "dicom/"
_BLOCK = 1 << 20
_TEXTS = (".json", ".csv", ".html", ".md", ".txt", ".log")
_ANSWER_FILE = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.[a-z.]+")
_COPY = re.compile(r"(?P<stem>.+)-(?P<digest>[0-9a-f]{8,64})(\.[^.]*)?")


@dataclass(frozen=True)
class Buckets:
    """The buckets' names, and a boto3 client of S3."""

    s3: Any
    uploads: str
    results: str
    datasets: str
    models: str

    @classmethod
    def of(cls, s3: Any, outputs: Mapping[str, str]) -> Buckets:
        return cls(s3, *(outputs[f"{name}Bucket"] for name in ("Uploads", "Results", "Datasets", "Models")))


@dataclass
class Films:
    """What is known of the films: digests by their size in bytes; names: every text that names one."""

    keys: tuple[str, ...]
    digests: dict[int, set[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.names |= set(self.keys)

    def add(self, size: int, sha256: str) -> None:
        self.digests.setdefault(size, set()).add(sha256)

    def pattern(self) -> re.Pattern[bytes]:
        """Matches any spelling of any name that does not stand inside a longer one."""
        spelled = sorted({way for name in self.names for way in spellings(name)})
        return re.compile(rb"(?<![\w./-])(?:" + b"|".join(map(re.escape, spelled)) + rb")(?![\w./-])")


def spellings(name: str) -> set[bytes]:
    """The name as text, in JSON, HTML, CSV and addresses."""
    escaped, in_json = html.escape(name, quote=False), json.dumps(name)[1:-1]
    texts = {
        *(name, name.replace('"', '""'), cell(name).replace('"', '""'), json.dumps(name, ensure_ascii=False)[1:-1]),
        *(in_json, json.dumps(in_json)[1:-1]),  # the latter: an event in the envelope of SNS
        *(escaped, html.escape(name), escaped.replace('"', "&#34;").replace("'", "&#39;")),
        *(quote(name), quote(name, safe=""), quote_plus(name), quote_plus(name, safe="/")),
    }
    return {text.encode("utf-8", "surrogatepass") for text in texts}


def films(buckets: Buckets, keys: Iterable[str]) -> Films:
    """The films of these uploads, read from all their versions and from what their results say of gone ones."""
    found = Films(tuple(dict.fromkeys(keys)))
    for key in found.keys:
        for version in _of_key(buckets.s3, buckets.uploads, key):
            if version.size is not None:
                found.add(version.size, _sha256(version.read(buckets.s3, buckets.uploads)))
        for version in _of_key(buckets.s3, buckets.results, key_of(key)):
            if version.size is not None:
                _add_said(found, version.read(buckets.s3, buckets.results).read())
    return found


def _add_said(found: Films, result: bytes) -> None:
    try:
        image = json.loads(result)["image"]
        if isinstance(image["bytes"], int) and isinstance(image["sha256"], str):
            found.add(image["bytes"], image["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # not a result that this pipeline wrote; it is erased by its key all the same


def of_keys(buckets: Buckets, found: Films) -> Iterator[tuple[str, str, Version]]:
    """(place, bucket, version) of whatever has one of the keys in its own."""
    s3, results = buckets.s3, buckets.results
    for key in found.keys:
        yield from (("uploads", buckets.uploads, version) for version in _of_key(s3, buckets.uploads, key))
        yield from (("results", results, version) for version in _of_key(s3, results, key_of(key)))
        for place, prefix in (("heat maps", HEATMAPS), ("DICOM answers", DICOM)):
            for version in versions(s3, results, f"{prefix}{key}/"):
                # Below the folder of `a` lies that of an upload `a/b`.
                if _ANSWER_FILE.fullmatch(version.key.removeprefix(f"{prefix}{key}/")):
                    yield place, results, version


def in_datasets(buckets: Buckets, found: Films) -> list[Version]:
    """Versions of films of datasets that are these films by their bytes, or copies of these uploads by their names."""
    s3, bucket = buckets.s3, buckets.datasets
    every = [version for version in versions(s3, bucket) if version.size is not None]
    alike = [version for version in every if version.size in found.digests]
    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(lambda version: _sha256(version.read(s3, bucket)), alike)
        same = {v.key for v, digest in zip(alike, digests, strict=True) if digest in found.digests[v.size or 0]}
    same |= {version.key for version in every if is_copy(version.key, found.keys)}
    return [version for version in versions(s3, bucket) if version.key in same]


def is_copy(key: str, uploads: tuple[str, ...]) -> bool:
    """Whether correct_labels named the film after one of these uploads: its name, and the digest of its key."""
    match = _COPY.fullmatch(PurePosixPath(key).name)
    if not match:
        return False
    return any(
        hashlib.sha256(upload.encode("utf-8", "surrogatepass")).hexdigest().startswith(match["digest"])
        and (len(match["digest"]) >= 16 or PurePosixPath(upload).name.startswith(match["stem"]))
        for upload in uploads
    )


def path_in_dataset(key: str) -> str:
    """`train/NORMAL/a.png` of `datasets/x/train/NORMAL/a.png`: as lists, reports and models name a film."""
    match = re.search(r"(?:^|/)((?:train|test|val)/.*)", key)
    return match[1] if match else key


def naming(buckets: Buckets, bucket: str, prefix: str, found: Films) -> list[Version]:
    """Versions below a prefix that name a film, or belong to a report or a model of which some file does."""
    every = list(versions(buckets.s3, bucket, prefix))
    pattern = found.pattern()

    def names_one(version: Version) -> bool:
        return version.size is not None and _names(version, version.read(buckets.s3, bucket), pattern)

    readable = [v for v in every if v.size is not None and v.key.endswith((*_TEXTS, ".tar.gz"))]
    with ThreadPoolExecutor(THREADS) as pool:
        units = {_unit(v.key) for v, named in zip(readable, pool.map(names_one, readable), strict=True) if named}
    return [version for version in every if _unit(version.key) in units]


def _unit(key: str) -> str:
    """What is found as a whole: reports/<run>/, models/<job>/, training/<job>/; any other object by itself."""
    parts = key.split("/")
    whole = len(parts) > 2 and parts[0] in ("reports", "models", "training") and parts[1] != "fingerprints"
    return "/".join(parts[:2]) + "/" if whole else key


def _names(version: Version, body: Any, pattern: re.Pattern[bytes]) -> bool:
    if not version.key.endswith(".tar.gz"):
        return bool(pattern.search(body.read()))
    try:
        with tarfile.open(fileobj=body, mode="r|gz") as archive:
            return any(_member_names(archive.extractfile(m), pattern) for m in archive if m.name.endswith(_TEXTS))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise Fault(f"{version.key} cannot be searched ({error}); look into it, or delete it") from error


def _member_names(stream: IO[bytes] | None, pattern: re.Pattern[bytes]) -> bool:
    return bool(stream and pattern.search(stream.read()))


def _of_key(s3: Any, bucket: str, key: str) -> list[Version]:
    return [version for version in versions(s3, bucket, key) if version.key == key]


def _sha256(stream: Any) -> str:
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
