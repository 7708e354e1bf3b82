"""A reader's corrections become films of a new dataset version; the old version and the test split stay as they are.

A corrected film that is one of the test films (same size and ETag) is refused: it would leak into the training.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.clients import error_code
from pipeline.dataset import CLASSES, listing

THREADS = 16
AT_ONCE = 1000  # copies in flight
VERSION = re.compile(r"(?P<stem>.*?)(?:-v(?P<number>\d+))?/")


class CorrectionsRefused(Exception):
    """corrections.csv cannot be used; the text names the lines."""


@dataclass(frozen=True)
class Correction:
    """An upload and the label that a reader gave it."""

    key: str
    label: str


def read(content: bytes) -> list[Correction]:
    """Read a CSV with the columns ``key`` and ``label``; raise CorrectionsRefused naming every bad line."""
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
    if not {"key", "label"} <= set(reader.fieldnames or ()):
        raise CorrectionsRefused(f"the header must name the columns key and label; it is {reader.fieldnames}")
    found: dict[str, str] = {}
    wrong = []
    for line, row in enumerate(reader, start=2):
        key, label = (row["key"] or "").strip(), (row["label"] or "").strip().upper()
        if not key or label not in CLASSES:
            wrong.append(f"line {line}: {key or 'no key'}, label {label or 'missing'} (one of {', '.join(CLASSES)})")
        elif found.get(key, label) != label:
            wrong.append(f"line {line}: {key} is {label} here and {found[key]} before")
        else:
            found[key] = label
    if wrong:
        raise CorrectionsRefused("; ".join(wrong))
    if not found:
        raise CorrectionsRefused("the file names no film")
    return [Correction(key, label) for key, label in found.items()]


def next_version(dataset: str) -> str:
    """Return the prefix of the version after ``dataset``: datasets/x/ -> datasets/x-v2/ -> datasets/x-v3/."""
    match = VERSION.fullmatch(dataset)
    if match is None:
        raise CorrectionsRefused(f"{dataset!r} is no dataset prefix")
    return f"{match['stem']}-v{int(match['number'] or 1) + 1}/"


def film_name(key: str) -> str:
    """Name a film in the dataset: its own name, by which the patient is known, made unique by the key's digest."""
    stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    return f"{stem}-{digest}.{suffix}" if dot else f"{suffix}-{digest}"


@dataclass(frozen=True)
class Version:
    """What a new dataset version holds beyond the old one."""

    prefix: str
    copied: int
    added: dict[str, int]
    test_films: tuple[str, ...]


def make_version(
    s3: Any, datasets_bucket: str, uploads_bucket: str, base: str, corrections: list[Correction]
) -> Version:
    """Copy ``base`` to its next version and add the corrected films to its train split.

    Nothing is written unless every corrected film exists. Raises CorrectionsRefused.
    """
    target = next_version(base)
    if next(listing(s3, datasets_bucket, target), None):
        raise CorrectionsRefused(f"s3://{datasets_bucket}/{target} exists already; correct that version instead")
    tests = {(o["Size"], o["ETag"]) for o in listing(s3, datasets_bucket, f"{base}test/")}
    if not tests:
        raise CorrectionsRefused(f"s3://{datasets_bucket}/{base} holds no dataset: there is no test/ in it")
    added, leaked, missing = [], [], []
    for correction in corrections:
        identity = _identity(s3, uploads_bucket, correction.key)
        if identity is None:
            missing.append(correction.key)
        elif identity in tests:
            leaked.append(correction.key)
        else:
            added.append(correction)
    if missing:
        raise CorrectionsRefused(f"not in the uploads bucket: {', '.join(missing)}")
    copies = ((datasets_bucket, o["Key"], target + o["Key"][len(base) :]) for o in listing(s3, datasets_bucket, base))
    copied = _copy(s3, datasets_bucket, copies)
    films = ((uploads_bucket, c.key, f"{target}train/{c.label}/{film_name(c.key)}") for c in added)
    _copy(s3, datasets_bucket, films)
    labels = {label: sum(c.label == label for c in added) for label in CLASSES}
    return Version(target, copied, labels, tuple(leaked))


def _identity(s3: Any, bucket: str, key: str) -> tuple[int, str] | None:
    try:
        head = s3.head_object(Bucket=bucket, Key=key)
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("404", "NoSuchKey"):
            return None
        raise
    return head["ContentLength"], head["ETag"]


def _copy(s3: Any, target_bucket: str, copies: Iterator[tuple[str, str, str]]) -> int:
    def copy(source: tuple[str, str, str]) -> None:
        bucket, key, target = source
        s3.copy_object(Bucket=target_bucket, Key=target, CopySource={"Bucket": bucket, "Key": key})

    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(copies, AT_ONCE)):
            done += sum(1 for _ in pool.map(copy, part))
    return done
