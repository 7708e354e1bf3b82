"""A dataset is judged by its listing, before a GPU is paid for: no film is opened here.

The digest covers name, size and ETag of every film and of patients.csv, by which the training job cuts the splits: it
changes with any of them and costs one listing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cxr_pipeline.clients import error_code
from cxr_pipeline.dataset_version import COMPLETE, interrupted

CLASSES = ("NORMAL", "PNEUMONIA")
SPLITS = ("train", "test")
FILM_SUFFIXES = (".jpeg", ".jpg", ".png", ".dcm", ".dicom")
PATIENT_LIST = "patients.csv"

CURRENT = "datasets/current.json"
FIRST = "datasets/chest_xray/"


class DatasetRefused(Exception):
    """The dataset cannot be trained on; the text says what was found and what to do."""


@dataclass
class Dataset:
    """What a listing of ``prefix`` holds."""

    prefix: str
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: {s: dict.fromkeys(CLASSES, 0) for s in SPLITS})
    ignored: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    complete: bool = False  # complete.json was seen


def listing(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield ``{"Key", "Size", "ETag", "LastModified"}`` of every object under ``prefix``, in S3's order."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", ())


def read_listing(prefix: str, objects: Iterable[dict[str, Any]]) -> Dataset:
    """Count the films of each split and class; digest the names, sizes and ETags of films and patients.csv.

    Junk is counted, not read.
    """
    dataset, lines = Dataset(prefix), []
    for item in objects:
        relative = item["Key"][len(prefix) :]
        line = f"{relative}\t{item['Size']}\t{item['ETag']}\n"
        if relative == PATIENT_LIST:
            lines.append(line)
            continue
        dataset.complete = dataset.complete or relative == COMPLETE
        junk = _junk(relative, item["Size"])
        if junk:
            dataset.ignored[junk] = dataset.ignored.get(junk, 0) + 1
            continue
        split, label, _ = relative.split("/")
        dataset.counts[split][label] += 1
        lines.append(line)
    dataset.digest = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    return dataset


def _junk(relative: str, size: int) -> str | None:
    """Say why an object is no film of the dataset, or None if it is one."""
    parts = relative.split("/")
    if size == 0:
        return "empty object"
    if "__MACOSX" in parts or parts[-1].startswith(".") or parts[-1] in ("Thumbs.db", PATIENT_LIST):
        return "not a film (__MACOSX, dot file, Thumbs.db, patients.csv below the root)"
    if relative == COMPLETE:
        return "complete.json (the mark of a corrected version)"
    if parts[0] == "val":
        return "val/ (16 films, not used)"
    if parts[0] == "chest_xray":
        return "nested chest_xray/"
    if len(parts) != 3 or parts[0] not in SPLITS or parts[1] not in CLASSES:
        return "outside train|test/NORMAL|PNEUMONIA/"
    if "." in parts[2] and not parts[2].lower().endswith(FILM_SUFFIXES):
        return "neither " + ", ".join(FILM_SUFFIXES) + " nor without a suffix (DICOM)"
    return None


def current(s3: Any, bucket: str) -> str:
    """Return the prefix of the dataset that is trained on where none is named."""
    try:
        body = s3.get_object(Bucket=bucket, Key=CURRENT)["Body"].read()
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("NoSuchKey", "404"):
            return FIRST
        raise
    return str(json.loads(body)["prefix"])


def make_current(s3: Any, bucket: str, prefix: str) -> None:
    """Name the dataset that is trained on where none is named."""
    s3.put_object(Bucket=bucket, Key=CURRENT, Body=json.dumps({"prefix": prefix}).encode())


def digest_of(objects: Iterable[dict[str, Any]], suffix: str) -> tuple[str, int]:
    """Return the digest over names, sizes and ETags of the objects ending in ``suffix``, and how many there are."""
    lines = sorted(f"{o['Key']}\t{o['Size']}\t{o['ETag']}\n" for o in objects if o["Key"].endswith(suffix))
    return hashlib.sha256("".join(lines).encode()).hexdigest(), len(lines)


def check(dataset: Dataset, min_films: int) -> None:
    """Raise DatasetRefused unless the dataset is whole and every class of both splits has ``min_films`` films."""
    poor = [
        f"{split}/{label}: {n}"
        for split, labels in dataset.counts.items()
        for label, n in labels.items()
        if n < min_films
    ]
    if not poor:
        if why := interrupted(dataset.prefix, dataset.complete):
            raise DatasetRefused(why)
        return
    ignored = "; ".join(f"{n} x {reason}" for reason, n in sorted(dataset.ignored.items())) or "nothing"
    nested = ""
    if "nested chest_xray/" in dataset.ignored:
        nested = f" The archive is nested: use {dataset.prefix}chest_xray/."
    raise DatasetRefused(
        f"{dataset.prefix} has too few films ({', '.join(poor)}; at least {min_films} each are needed). "
        f"Ignored: {ignored}.{nested} Expected {dataset.prefix}train|test/NORMAL|PNEUMONIA/<film>."
    )
