"""A dataset is judged by its listing, before a GPU is paid for: no film is opened here.

What is a film is said by cxr.dataset, as it is to the training job. No message names a film: a name may be a patient's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cxr.dataset import COMPLETE, LISTS, SPLITS, WRAPPING, judge
from cxr.labels import CLASSES
from cxr_pipeline.dataset_version import interrupted
from cxr_pipeline.objects import find_json, write_json

CURRENT = "datasets/current.json"
FIRST = "datasets/chest_xray/"


class DatasetRefused(Exception):
    """The dataset cannot be trained on; the text says what was found and what to do."""


@dataclass
class Dataset:
    """What a listing of ``prefix`` holds.

    counts: films of each split and class. ignored: how many objects lie beside the films, by what they are. strays: the
    places in the listing, from 1 on, of what might be overlooked, by what is wrong with them. digest: over name, size
    and ETag of every film, of patients.csv, by which the training job cuts the splits, and of subtypes.csv, by which it
    tells pneumonias apart. complete: whether complete.json is there. nested: whether the archive's folder holds itself
    once more.
    """

    prefix: str
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: {s: dict.fromkeys(CLASSES, 0) for s in SPLITS})
    ignored: Counter[str] = field(default_factory=Counter)
    strays: dict[str, list[int]] = field(default_factory=dict)
    digest: str = ""
    complete: bool = False
    nested: bool = False


def read_listing(prefix: str, objects: Iterable[dict[str, Any]]) -> Dataset:
    """Judge every object of the listing of ``prefix``."""
    dataset, lines = Dataset(prefix), []
    for place, item in enumerate(objects, start=1):
        path = item["Key"].removeprefix(prefix)
        judgement = judge(path, item["Size"])
        if judgement.kind == "film" or path in LISTS:
            lines.append(f"{path}\t{item['Size']}\t{item['ETag']}\n")
        if judgement.kind == "film":
            split, label, _ = path.split("/", 2)
            dataset.counts[split][label] += 1
        elif judgement.kind == "stray":
            dataset.strays.setdefault(judgement.why, []).append(place)
            dataset.nested = dataset.nested or path.startswith(f"{WRAPPING}/")
        elif path == COMPLETE:
            dataset.complete = True
        elif path not in LISTS:
            dataset.ignored[judgement.why] += 1
    dataset.digest = digest_of(lines)
    return dataset


def digest_of(lines: Iterable[str]) -> str:
    """Return the sha256 of lines in text order."""
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def current(s3: Any, bucket: str) -> str:
    """Return the prefix of the dataset that is trained on where none is named."""
    found = find_json(s3, bucket, CURRENT)
    return FIRST if found is None else str(found["prefix"])


def make_current(s3: Any, bucket: str, prefix: str) -> None:
    """Name the dataset that is trained on where none is named."""
    write_json(s3, bucket, CURRENT, {"prefix": prefix})


def check(dataset: Dataset, min_films: int) -> None:
    """Raise DatasetRefused unless every class of both splits has ``min_films`` films, and all of it is whole and known.

    The training job refuses strays too, once it is paid for.
    """
    poor = [
        f"{split}/{label}: {n}"
        for split, labels in dataset.counts.items()
        for label, n in labels.items()
        if n < min_films
    ]
    strays = [
        f"{len(places)} x {why} (place {', '.join(map(str, places[:5]))} of the listing)"
        for why, places in sorted(dataset.strays.items())
    ]
    found = []
    if poor:
        found.append(f"too few films ({', '.join(poor)}; at least {min_films} each are needed)")
    if strays:
        found.append(f"objects that are neither films nor known to lie beside them: {'; '.join(strays)}")
    if found:
        nested = f" The archive is nested: use {dataset.prefix}{WRAPPING}/." if dataset.nested else ""
        raise DatasetRefused(
            f"{dataset.prefix} has {' and '.join(found)}.{nested} Expected {dataset.prefix}"
            f"{'|'.join(SPLITS)}/{'|'.join(CLASSES)}/<film> and nothing else; "
            "`aws s3 ls --recursive` lists what is there"
        )
    if why := interrupted(dataset.prefix, dataset.complete):
        raise DatasetRefused(why)
