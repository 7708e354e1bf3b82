"""Is this dataset fit to be learned from and measured on? Answered before any network is built.

What would make the figures dishonest stops the job (a byte-identical film in train and test or in both classes, a
patient on both sides according to patients.csv); what is merely suspicious is reported, with numbers. Films are named
by digest: file names may hold patients' names, and reports and logs outlive the films.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from cxr.dataset import some
from cxr.labels import CLASSES
from cxr.patients import patient_of
from cxr.verdict import SATURATION_LIMIT
from training_job.dataset import DIGITS, HOW, BadDataset, Dataset, Films

THUMBNAIL = 32
# On the Kermany films two different patients correlate up to 0.977 at 32x32; twins re-encoded as JPEG stay above 0.99.
NEAR_DUPLICATE = 0.99
CHUNK = 1024
SHOWN = 20


def validate(dataset: Dataset) -> dict[str, Any]:
    """The report (see `describe`). Raises BadDataset on what would be dishonest."""
    train, test = dataset.train, dataset.test
    _refuse_shared_films(train, test)
    refuse_two_labels(train)
    refuse_two_labels(test)
    _refuse_shared_patients(dataset)
    pairs = near_duplicates(train, test)
    unchecked = _unchecked_names(dataset)
    return {
        "digest": dataset.digest,
        "counts": dataset.counts(),
        "patients": {name: len({train.patients[row] for row in rows}) for name, rows in dataset.rows.items()}
        | {"test": len(set(test.patients))},
        "listed_films": len(dataset.listed),
        "exact_duplicates": {"train": _groups(train), "test": _groups(test)},
        "near_duplicates": {name: {"count": len(found), "pairs": found[:SHOWN]} for name, found in pairs.items()},
        "shared_patient_names": {"count": len(unchecked), "films": list(unchecked.values())[:SHOWN]},
        "coloured": len(_coloured(dataset)),
        "warnings": _warnings(dataset, pairs, unchecked),
    }


def _warnings(dataset: Dataset, pairs: dict[str, list[list[Any]]], unchecked: dict[str, str]) -> list[str]:
    warnings = []
    if unchecked:
        warnings.append(
            f"{len(unchecked)} patient names occur in train/ and in test/ (for example that of the film "
            f"{next(iter(unchecked.values()))}); in Kaggle's archive "
            "the numbering restarts, so this proves no overlap: list the films in patients.csv (file,patient) to have "
            "it checked"
        )
    if pairs["across"]:
        one, other, correlation = pairs["across"][0]
        warnings.append(
            f"{len(pairs['across'])} near-duplicates between train/ and test/ (for example {one} and {other}, "
            f"correlation {correlation}); look at them, the test figures may flatter"
        )
    labels = dict(zip(_names(dataset.train), dataset.train.labels.tolist(), strict=True))
    if torn := [pair for pair in pairs["train"] if labels[pair[0]] != labels[pair[1]]]:
        warnings.append(
            f"{len(torn)} near-duplicates in train/ have different labels; look which is right: {_named(torn)}"
        )
    trained = _names(dataset.train)
    buckets = {trained[row]: name for name, rows in dataset.rows.items() for row in rows}
    if leaks := [pair for pair in pairs["train"] if buckets[pair[0]] != buckets[pair[1]]]:
        warnings.append(
            f"{len(leaks)} near-duplicates lie in different buckets of train/, as if of different patients; list them "
            f"in patients.csv: {_named(leaks)}"
        )
    if coloured := _coloured(dataset):
        warnings.append(
            f"{len(coloured)} films are coloured (saturation above {SATURATION_LIMIT}), which the service turns away; "
            f"look at them: {some(coloured)}"
        )
    for bucket, counts in dataset.counts().items():
        for name, count in counts.items():
            if count < 20:
                warnings.append(f"only {count} {name} films in {bucket}: its figures and limits are coarse")
    return warnings


def _names(films: Films) -> list[str]:
    return [digest[:DIGITS] for digest in films.digests]


def _named(pairs: list[list[Any]]) -> str:
    return some([f"{one} and {other}" for one, other, _ in pairs])


def _coloured(dataset: Dataset) -> list[str]:
    return [
        name
        for films in (dataset.train, dataset.test)
        for name, saturation in zip(_names(films), films.saturations.tolist(), strict=True)
        if saturation > SATURATION_LIMIT
    ]


def _refuse_shared_films(train: Films, test: Films) -> None:
    known = set(train.digests)
    shared = [name for name, digest in zip(_names(test), test.digests, strict=True) if digest in known]
    if shared:
        raise BadDataset(
            f"{len(shared)} films lie byte for byte in train/ and in test/, for example {shared[0]}; remove one of "
            f"each, or the test figures are not honest ({HOW})"
        )


def refuse_two_labels(films: Films) -> None:
    """Raises BadDataset when byte-identical films have different labels."""
    seen: dict[str, int] = {}
    for digest, label in zip(films.digests, films.labels.tolist(), strict=True):
        if seen.setdefault(digest, label) != label:
            raise BadDataset(
                f"the film {digest[:DIGITS]} has two labels; decide which is right, remove the other ({HOW})"
            )


def _refuse_shared_patients(dataset: Dataset) -> None:
    """Only ids that patients.csv gives are compared: a name proves nothing (see `_unchecked_names`)."""
    train, test = (
        {dataset.listed[file] for file in films.files if file in dataset.listed}
        for films in (dataset.train, dataset.test)
    )
    shared = sorted(train & test)
    if shared:
        film = next(
            name
            for name, file in zip(_names(dataset.test), dataset.test.files, strict=True)
            if dataset.listed.get(file) == shared[0]
        )
        raise BadDataset(
            f"patients.csv puts {len(shared)} patients into both train/ and test/, for example that of the test film "
            f"{film}; move all films of a patient to one side ({HOW})"
        )


def _unchecked_names(dataset: Dataset) -> dict[str, str]:
    """Patient names in the file names of both splits, unless patients.csv lists every film that bears them; each with
    the name of a test film.
    """
    files = (dataset.train.files, dataset.test.files)
    train, test = ({patient_of(file) for file in split} for split in files)
    unlisted = {patient_of(file) for split in files for file in split if file not in dataset.listed}
    films = {patient_of(file): name for file, name in zip(dataset.test.files, _names(dataset.test), strict=True)}
    return {patient: films[patient] for patient in sorted(train & test & unlisted)}


def _groups(films: Films) -> dict[str, Any]:
    groups = {name: count for name, count in Counter(_names(films)).items() if count > 1}
    return {"groups": len(groups), "films": sum(groups.values()), "first": dict(list(groups.items())[:SHOWN])}


def near_duplicates(train: Films, test: Films) -> dict[str, list[list[Any]]]:
    """{"train", "test", "across"}: [film, film, correlation] of pairs alike at 32x32 that are not byte-identical."""
    a, b = _thumbnails(train.pixels), _thumbnails(test.pixels)
    return {
        "train": _alike(train, a, train, a, same=True),
        "test": _alike(test, b, test, b, same=True),
        "across": _alike(train, a, test, b, same=False),
    }


def _thumbnails(pixels: np.ndarray) -> np.ndarray:
    """Unit vectors float32 [n, 1024] of uint8 films [n, s, s]: means over blocks, centred."""
    films = (Image.fromarray(film).convert("F") for film in pixels)
    small = np.stack([np.asarray(film.resize((THUMBNAIL, THUMBNAIL), Resampling.BOX)).ravel() for film in films])
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def _alike(one: Films, a: np.ndarray, other: Films, b: np.ndarray, same: bool) -> list[list[Any]]:
    found = []
    for start in range(0, len(a), CHUNK):
        correlation = a[start : start + CHUNK] @ b.T
        for i, j in zip(*np.nonzero(correlation >= NEAR_DUPLICATE), strict=True):
            row = start + int(i)
            if (same and row >= j) or one.digests[row] == other.digests[j]:
                continue
            found.append([one.digests[row][:DIGITS], other.digests[j][:DIGITS], round(float(correlation[i, j]), 4)])
    return sorted(found, key=lambda pair: -pair[2])


def describe(report: dict[str, Any]) -> str:
    """The report for people, a few lines."""
    lines = [f"dataset {report['digest'][:12]}"]
    for name, counts in report["counts"].items():
        films = ", ".join(f"{counts[label]} {label}" for label in CLASSES)
        lines.append(f"  {name:9} {films}; {report['patients'][name]} patients")
    for name, groups in report["exact_duplicates"].items():
        if groups["groups"]:
            lines.append(f"  {groups['films']} films of {name}/ are byte-identical twins ({groups['groups']} groups)")
    for name, near in report["near_duplicates"].items():
        if near["count"]:
            lines.append(f"  {near['count']} near-duplicate pairs ({name})")
    warnings = [f"  warning: {text}" for text in report["warnings"]]
    return "\n".join([*lines, *warnings, *([f"  {HOW}"] if warnings else [])])
