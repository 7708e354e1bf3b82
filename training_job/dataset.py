"""The films of a dataset in Kaggle's layout, read once into a compact cache, cut by patient.

A job trains on every film that it reports, or not at all: an unreadable film is an error that names it by digest, for
file names may hold patients' names, and logs outlive the films.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cxr.bundle import sha256_of
from cxr.dataset import PATIENT_LIST, SPLITS, SUBTYPE_LIST, judge, some
from cxr.film import UnreadableImage
from cxr.film_list import read_film_list
from cxr.labels import CLASSES
from cxr.patients import BUCKETS, bucket_of, patient_of, with_twins
from cxr.reader import read_film
from cxr.subtypes import read_subtypes
from training_job.console import progress
from training_job.litert import cores
from training_job.stop import Stop

DIGITS = 16
"""Of a film's sha256, by which it is named."""
HOW = f"films are named by the first {DIGITS} digits of their sha256; `sha256sum` finds them"


class BadDataset(ValueError):
    """The dataset cannot be trained on honestly; the text says what was found, by digest, and the remedy."""


@dataclass(frozen=True)
class Films:
    """The films of one split, in text order of their paths.

    files: paths relative to the dataset's root. pixels: uint8 [n, side, side]. labels: int64 [n], index into CLASSES.
    patients: ids after twins were joined. digests: sha256 of each file's bytes. saturations: float64 [n], cxr.film's.
    """

    files: list[str]
    pixels: np.ndarray
    labels: np.ndarray
    patients: list[str]
    digests: list[str]
    saturations: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def counts(self) -> dict[str, int]:
        return {name: int((self.labels == index).sum()) for index, name in enumerate(CLASSES)}

    def take(self, rows: np.ndarray) -> Films:
        def pick(values: list[str]) -> list[str]:
            return [values[row] for row in rows]

        return Films(
            pick(self.files),
            self.pixels[rows],
            self.labels[rows],
            pick(self.patients),
            pick(self.digests),
            self.saturations[rows],
        )


@dataclass(frozen=True)
class Dataset:
    """`train`: the films of the train folder. `rows`: which of them each bucket owns. `digest` names it all.

    listed: {film: patient} of patients.csv, subtypes: {film: subtype} of subtypes.csv; empty without one.
    """

    root: Path
    train: Films
    test: Films
    rows: dict[str, np.ndarray]
    digest: str
    listed: dict[str, str]
    subtypes: dict[str, str] = field(default_factory=dict)

    def bucket(self, name: str) -> Films:
        return self.train.take(self.rows[name])

    def counts(self) -> dict[str, dict[str, int]]:
        return {**{name: self.bucket_counts(name) for name in BUCKETS}, "test": self.test.counts()}

    def bucket_counts(self, name: str) -> dict[str, int]:
        labels = self.train.labels[self.rows[name]]
        return {label: int((labels == index).sum()) for index, label in enumerate(CLASSES)}


def listing(root: Path) -> dict[str, list[tuple[str, int]]]:
    """{split: [(relative path, label)]} of a dataset's root, in text order. Raises BadDataset on a wrong layout."""
    if not root.is_dir():
        raise BadDataset(f"{root} is missing: give the job a `dataset` channel that holds train/ and test/")
    for split in SPLITS:
        _require_classes(_folder(root, split))
    films = _films(root, SPLITS)
    return {split: _of_both_classes(root / split, films, f"{split}/") for split in SPLITS}


def _require_classes(folder: Path) -> None:
    for name in CLASSES:
        _folder(folder, name)


def _of_both_classes(folder: Path, films: list[str], below: str) -> list[tuple[str, int]]:
    """[(path, label)] of the films whose path begins with `below`. Raises BadDataset where a class has none."""
    found = [(path, CLASSES.index(path[len(below) :].split("/")[0])) for path in films if path.startswith(below)]
    for label, name in enumerate(CLASSES):
        if label not in {of_film for _, of_film in found}:
            raise BadDataset(f"{folder / name} holds no film: both classes need films in {folder}")
    return found


def _films(root: Path, splits: Sequence[str]) -> list[str]:
    """Paths of the films below `root`, relative to it, in text order. Raises BadDataset naming what is a stray."""
    films, strays = [], []
    for path in sorted(_files(root, splits)):
        judgement = judge(path, splits=splits)
        if judgement.kind == "film":
            films.append(path)
        elif judgement.kind == "stray":
            strays.append(f"{_digest(root / path)} {judgement.why}")
    if strays:
        raise BadDataset(
            f"{len(strays)} files in {root} are neither films nor known to lie beside them, and would be overlooked; "
            f"move films into the folder of their class and take away what is left of ({HOW}): {some(strays)}"
        )
    return films


def _digest(file: Path) -> str:
    try:
        return sha256_of(file)[:DIGITS]
    except OSError as error:
        return f"one that cannot be read ({error.strerror})"


def _files(root: Path, splits: Sequence[str]) -> Iterator[str]:
    """Paths of all files but junk, relative to `root`. Raises BadDataset where a folder would be overlooked."""

    def cannot(error: OSError) -> None:
        raise BadDataset(
            f"a folder in {root} cannot be listed ({error.strerror}); let the job's user read it, or its films are "
            "overlooked (`find DIR -type d ! -readable` names it)"
        ) from error

    for folder, inside, files in os.walk(root, onerror=cannot, followlinks=True):
        parts = Path(folder).relative_to(root).parts
        inside[:] = [name for name in inside if judge("/".join((*parts, name, "_")), splits=splits).kind != "beside"]
        if len(parts) > len(splits[:1]):
            for link in (Path(folder, name) for name in inside):
                if link.is_symlink():
                    raise BadDataset(
                        f"a folder in {root} is a link, which is not followed; put the films themselves there "
                        "(`find DIR -type l` names it)"
                    )
        yield from ("/".join((*parts, name)) for name in files)


def read_films(root: Path, side: int, stop: Stop) -> tuple[Films, dict[str, str]]:
    """The films of one folder that holds NORMAL/ and PNEUMONIA/, and {film: patient} of its patients.csv if it has one.

    Raises BadDataset, BadFilmList.
    """
    if not root.is_dir():
        raise BadDataset(f"{root} is missing: name a folder that holds NORMAL/ and PNEUMONIA/")
    _require_classes(root)
    entries = _of_both_classes(root, _films(root, ()), "")
    listed = _listed_patients(root, entries)
    return _read_split(root, "", entries, listed, side, stop), listed


def _listed_patients(root: Path, entries: list[tuple[str, int]]) -> dict[str, str]:
    """{film: patient} of patients.csv, empty where there is none. Raises BadFilmList."""
    path = root / PATIENT_LIST
    return read_film_list(path, "patient", {file for file, _ in entries}) if path.is_file() else {}


def _listed_subtypes(root: Path, entries: list[tuple[str, int]]) -> dict[str, str]:
    """{film: subtype} of subtypes.csv, empty where there is none. Raises BadFilmList."""
    path = root / SUBTYPE_LIST
    if not path.is_file():
        return {}
    ill = {file for file, label in entries if CLASSES[label] == "PNEUMONIA"}
    return read_subtypes(path, {file for file, _ in entries}, ill)


def _folder(parent: Path, name: str) -> Path:
    """The named subfolder. Raises BadDataset with what is there instead (other case, one level deeper)."""
    if (parent / name).is_dir():
        return parent / name
    there = sorted(path.name for path in parent.iterdir() if path.is_dir())
    for other in there:
        if other.lower() == name.lower():
            raise BadDataset(f"{parent / other} must be called {name}: folder names are case-sensitive; rename it")
    nested = [other for other in there if (parent / other / name).is_dir()]
    if nested:
        inner = parent / nested[0]
        raise BadDataset(f"{parent / name} is missing, but {inner / name} is there: pass {inner}")
    raise BadDataset(f"{parent / name} is missing; {parent} holds {there or 'no folder'}; add {name}/ with its films")


def read_dataset(root: Path, side: int, stop: Stop) -> Dataset:
    """Read, check the files one by one, and cut the train folder into buckets. Raises BadDataset, BadFilmList."""
    found = listing(root)
    entries = [entry for of_split in found.values() for entry in of_split]
    listed, subtypes = _listed_patients(root, entries), _listed_subtypes(root, entries)
    films = {split: _read_split(root, split, of_split, listed, side, stop) for split, of_split in found.items()}
    train = films["train"]
    buckets = np.array([bucket_of(patient) for patient in train.patients])
    rows = {name: np.flatnonzero(buckets == name) for name in BUCKETS}
    for index, label in enumerate(CLASSES):
        if not (train.labels[rows["train"]] == index).any():
            raise BadDataset(f"no {label} film is left to learn from once patients are held out; add some to {root}")
    for name in ("tune", "calibrate"):
        if not len(rows[name]):
            raise BadDataset(
                f"no patient of {root / 'train'} falls into the {name} bucket ({len(set(train.patients))} patients, it "
                "gets about one in 13); add films of more patients"
            )
    digest = digest_of(listed, *films.values(), subtypes=subtypes)
    return Dataset(root, train, films["test"], rows, digest, listed, subtypes)


def films_at(root: Path, films: Films, side: int, stop: Stop) -> Films:
    """The same films for a model of another side. Raises BadDataset, Stopped."""
    entries = list(zip(films.files, films.labels.tolist(), strict=True))
    there = _read_split(root, "", entries, {}, side, stop)
    return replace(films, pixels=there.pixels)


def _read_split(
    root: Path, split: str, entries: list[tuple[str, int]], listed: dict[str, str], side: int, stop: Stop
) -> Films:
    pixels = np.empty((len(entries), side, side), np.uint8)
    saturations = np.zeros(len(entries))
    digests = [""] * len(entries)
    broken: list[str] = []

    def read(row: int) -> None:
        file = entries[row][0]
        try:
            data = (root / file).read_bytes()
            film = read_film(data, side)
        except UnreadableImage as error:
            broken.append(f"{hashlib.sha256(data).hexdigest()[:DIGITS]}: {error.sentence}")
        except OSError as error:
            broken.append(f"the {row + 1}. by name: {error.strerror}")
        else:
            pixels[row], saturations[row] = film.pixels, film.saturation
            digests[row] = hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(cores()) as pool:
        for _ in progress(pool.map(read, range(len(entries))), f"reading {split or root.name}/", total=len(entries)):
            stop.check()
    if broken:
        raise BadDataset(
            f"{len(broken)} of {len(entries)} files in {root / split} cannot be used as films; replace or remove them "
            f"({HOW}): {some(sorted(broken))}"
        )
    files = [file for file, _ in entries]
    ids = [listed.get(file) or patient_of(file) for file in files]
    labels = np.array([label for _, label in entries], np.int64)
    return Films(files, pixels, labels, with_twins(ids, digests), digests, saturations)


def digest_of(listed: Mapping[str, str], *splits: Films, subtypes: Mapping[str, str] | None = None) -> str:
    """sha256 over every path, every file's sha256 and every row of patients.csv (it decides the buckets) and of
    subtypes.csv (it decides what is learned).

    The same data, wherever it lies, has the same digest.
    """
    lines = [f"{file} {digest}" for films in splits for file, digest in zip(films.files, films.digests, strict=True)]
    lines += [f"{file} belongs to {patient}" for file, patient in sorted(listed.items())]
    lines += [f"{file} is {subtype}" for file, subtype in sorted((subtypes or {}).items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def summary(dataset: Dataset) -> str:
    """Counts per bucket and class, one line."""
    parts = [f"{name} {counts['NORMAL']}+{counts['PNEUMONIA']}" for name, counts in dataset.counts().items()]
    patients = len(Counter(dataset.train.patients))
    return f"films (NORMAL+PNEUMONIA): {', '.join(parts)}; {patients} patients in train/; digest {dataset.digest[:12]}"
