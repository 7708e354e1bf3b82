"""A data set reaches S3 in Kaggle's layout and in no other: `train|test/NORMAL|PNEUMONIA/<film>`.

What is not a film, or lies anywhere else, is named and refused, never guessed. Archives are read member by member,
nothing is unpacked to disk.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import mimetypes
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cxr.dataset import PATIENT_LIST, PREFIX, SPLITS, UNUSED_SPLIT, WRAPPING, is_junk, judge
from cxr.labels import CLASSES
from infra.errors import Fault

KAGGLE = "paultimothymooney/chest-xray-pneumonia"
MAX_FILM_BYTES = 64 * 2**20  # Kaggle's largest film has 2.5 MB, an uncompressed 16-bit DICOM of 25 megapixels 50 MB
MAX_ARCHIVE_BYTES = 64 * 2**30  # unpacked; the whole Kaggle set has 1.2 GB
MAX_RATIO = 200  # unpacked to packed; films are compressed already, a bomb reaches 1000 and more
LEAST_LIMIT = 8


class DatasetError(Fault):
    """The source is not a data set in Kaggle's layout; the message names the file or folder and the remedy."""


@dataclass(frozen=True)
class Film:
    """One file of the data set: where it goes below the data set's prefix, its size, and how to read it."""

    path: str  # train/NORMAL/IM-0115-0001.jpeg
    size: int  # bytes
    read: Callable[[], bytes]

    @property
    def group(self) -> tuple[str, str]:
        """(split, label)."""
        split, label, _ = self.path.split("/", 2)
        return split, label


@dataclass(frozen=True)
class Dataset:
    """Films in a fixed order, the optional `patients.csv`, and how many films of `val` were left out."""

    films: tuple[Film, ...]
    patients: Film | None
    ignored: int

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of films of each split and label."""
        found: dict[str, dict[str, int]] = {split: dict.fromkeys(CLASSES, 0) for split in SPLITS}
        for film in self.films:
            split, label = film.group
            found[split][label] += 1
        return found

    def limited(self, train: int) -> Dataset:
        """At most `train` train films and a quarter as many test films, stratified; the same choice every time.

        Raises:
            DatasetError: fewer than LEAST_LIMIT, which leaves no room for both classes in both splits.
        """
        if train < LEAST_LIMIT:
            raise DatasetError(
                f"a limit of {train} is below {LEAST_LIMIT}: the quarter of it must hold a film of each class; raise it"
            )
        kept: list[Film] = []
        for split, room in (("train", train), ("test", train // 4)):
            kept += _stratified([film for film in self.films if film.group[0] == split], room)
        left_out = {film.path for film in self.films} - {film.path for film in kept}
        patients = self.patients and _without(self.patients, left_out.__contains__)
        return Dataset(tuple(sorted(kept, key=lambda film: film.path)), patients, self.ignored)


def open_dataset(source: str | Path) -> AbstractContextManager[Dataset]:
    """A data set from a folder, a zip file, or `kaggle` (downloads it with kagglehub).

    Raises:
        DatasetError: the source is missing, unsafe, or not in Kaggle's layout.
    """
    if str(source) == "kaggle":
        return nullcontext(_dataset(_folder_files(_download()), KAGGLE))
    path = Path(source)
    if path.is_dir():
        return nullcontext(_dataset(_folder_files(path), str(path)))
    if not path.exists():
        raise DatasetError(
            f"{path}: no such folder or zip file; give the folder that holds train/ and test/, a zip of it, or `kaggle`"
        )
    if not zipfile.is_zipfile(path):
        raise DatasetError(
            f"{path} is neither a folder nor a zip file; unpack it, or download it again if it is cut off"
        )
    return _OpenZip(path)


def prefix(name: str) -> str:
    """Where the data set of a name goes.

    Raises:
        DatasetError: the form of `retrain` would not accept it.
    """
    found = f"datasets/{name}/"
    if not re.fullmatch(PREFIX, found):
        raise DatasetError(
            f"{name!r} cannot name a data set: {found!r} does not fit {PREFIX!r}, which `retrain` accepts; "
            "give a folder, or folders with one slash between them"
        )
    return found


def upload(
    dataset: Dataset,
    s3: Any,
    bucket: str,
    name: str,
    *,
    threads: int = 8,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, int]]:
    """Puts a data set below `datasets/<name>/` and returns its counts.

    `progress` is called with (films put, films in all) after each film, from one thread at a time.

    Raises:
        DatasetError: no data set can have this name, or it holds other films already and `replace` was not asked for.
    """
    below = prefix(name)
    wanted = {below + film.path: film for film in (*dataset.films, *filter(None, (dataset.patients,)))}
    strangers = sorted(_keys(s3, bucket, below) - set(wanted))
    if strangers and not replace:
        raise DatasetError(
            f"s3://{bucket}/{below} already holds {len(strangers)} other files, {strangers[0]!r} first; they "
            "would be trained on too. Choose another name, or pass --replace to remove them"
        )
    for start in range(0, len(strangers), 1000):  # DeleteObjects takes so many
        batch = [{"Key": key} for key in strangers[start : start + 1000]]
        s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})

    def put(item: tuple[str, Film]) -> None:
        key, film = item
        s3.put_object(
            Bucket=bucket, Key=key, Body=film.read(), ContentType=mimetypes.guess_type(key)[0] or "application/dicom"
        )

    pool = ThreadPoolExecutor(threads)
    try:
        for done, _ in enumerate(pool.map(put, wanted.items()), 1):
            if progress:
                progress(done, len(wanted))
    finally:
        pool.shutdown(cancel_futures=True)
    return dataset.counts()


def _keys(s3: Any, bucket: str, prefix: str) -> set[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {found["Key"] for page in pages for found in page.get("Contents", [])}


def _stratified(films: list[Film], room: int) -> list[Film]:
    if len(films) <= room:
        return films
    chosen: list[Film] = []
    for label in CLASSES:
        of_label = sorted(
            (f for f in films if f.group[1] == label), key=lambda f: hashlib.sha256(f.path.encode()).digest()
        )
        share = room * len(of_label) // len(films)
        chosen += of_label[: max(1, share)]
    return chosen


def _download() -> Path:
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(KAGGLE))
    except Exception as error:  # kagglehub raises whatever its HTTP client does
        raise DatasetError(
            f"Kaggle's {KAGGLE} cannot be downloaded: {type(error).__name__}: {error}. Check the network, or "
            "download it in a browser and pass the zip file"
        ) from error


def _folder_files(root: Path) -> Iterator[Film]:
    real = root.resolve()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            if not path.resolve().is_relative_to(real):
                raise DatasetError(f"{path} is a link to a file outside {root}; copy the file into the folder")
            yield Film(path.relative_to(root).as_posix(), path.stat().st_size, path.read_bytes)


class _OpenZip(AbstractContextManager[Dataset]):
    """Keeps the archive open while its films are read, from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive = zipfile.ZipFile(path)

    def __enter__(self) -> Dataset:
        try:
            return _dataset(self._files(), str(self._path))
        except BaseException:
            self._archive.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def _files(self) -> Iterator[Film]:
        members = [member for member in self._archive.infolist() if not member.is_dir()]
        total = sum(member.file_size for member in members)
        if total > MAX_ARCHIVE_BYTES:
            raise DatasetError(
                f"{self._path} would unpack to {total:,} bytes, above {MAX_ARCHIVE_BYTES:,}; it is not this data set"
            )
        for member in members:
            where = f"{self._path}: member {member.filename!r}"
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename or "\0" in member.filename:
                raise DatasetError(f"{where} points outside the archive; do not use this file")
            if member.external_attr >> 16 & 0o170000 == 0o120000:
                raise DatasetError(f"{where} is a symbolic link; pack the file itself")
            if member.flag_bits & 1:
                raise DatasetError(f"{where} is encrypted; unpack the archive and pass the folder")
            if member.file_size > MAX_RATIO * max(1, member.compress_size) and member.file_size > 2**20:
                raise DatasetError(
                    f"{where} is {member.compress_size:,} bytes packed and {member.file_size:,} unpacked, more "
                    f"than {MAX_RATIO} times; it is a decompression bomb"
                )
            yield Film(path.as_posix(), member.file_size, functools.partial(self._read, member))

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        try:
            return self._archive.read(member)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise DatasetError(
                f"{self._path}: member {member.filename!r} is damaged ({error}); download the archive again"
            ) from error


def _without(patients: Film, left_out: Callable[[str], bool]) -> Film:
    """patients.csv without the rows of films that are left out: the training job refuses rows that name no film."""
    try:
        rows = list(csv.reader(io.StringIO(patients.read().decode("utf-8-sig"))))
    except UnicodeDecodeError:  # the training job says so, with the line
        return patients
    header = [name.strip() for name in rows[0]] if rows else []
    if "file" not in header:
        return patients
    column = header.index("file")
    kept = [row for row in rows if len(row) <= column or not left_out(row[column].strip())]
    if len(kept) == len(rows):
        return patients
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    content = text.getvalue().encode()
    return Film(patients.path, len(content), lambda: content)


def _dataset(files: Iterable[Film], source: str) -> Dataset:
    found: dict[str, Film] = {}
    patients, ignored = None, 0
    strays: list[str] = []
    kept = [file for file in files if not is_junk(PurePosixPath(file.path).parts)]
    for file, parts in zip(kept, _below_the_root([file.path for file in kept]), strict=True):
        placed = Film("/".join(parts), file.size, file.read)
        judgement = judge(placed.path, file.size)
        if judgement.kind == "film":
            _check(placed, file.path, source, found)
            found[placed.path] = placed
        elif judgement.kind == "stray":
            strays.append(f"{file.path} {judgement.why}")
        elif placed.path == PATIENT_LIST:
            patients = placed
        else:
            ignored += parts[0] == UNUSED_SPLIT
    if strays:
        more = f" (and {len(strays) - 1} other files)" if len(strays) > 1 else ""
        raise DatasetError(
            f"{source}: {strays[0]}{more}; move films into the folder of their class, remove what is none, or pass the "
            "folder that holds train/ and test/"
        )
    if patients:
        patients = _without(patients, lambda file: file.startswith(f"{UNUSED_SPLIT}/"))
    dataset = Dataset(tuple(found[path] for path in sorted(found)), patients, ignored)
    empty = [f"{split}/{label}" for split, labels in dataset.counts().items() for label, n in labels.items() if not n]
    if empty:
        raise DatasetError(
            f"{source} has no film in {', '.join(empty)}; a data set is train/ and test/, each with NORMAL/ "
            "and PNEUMONIA/"
        )
    return dataset


def _below_the_root(paths: list[str]) -> list[tuple[str, ...]]:
    """Parts of each path below the folder that holds the splits, one wrapping folder or several `chest_xray` removed.

    Kaggle's archive holds every film twice, as chest_xray/train and chest_xray/chest_xray/train: the same film then
    comes to the same place.
    """
    below = [PurePosixPath(path).parts for path in paths]
    tops = {parts[0] for parts in below}
    if len(tops) == 1 and not tops & {*SPLITS, UNUSED_SPLIT} and all(len(parts) > 1 for parts in below):
        below = [parts[1:] for parts in below]
    for i, parts in enumerate(below):
        while len(parts) > 1 and parts[0] == WRAPPING:
            parts = parts[1:]
        below[i] = parts
    return below


def _check(film: Film, path: str, source: str, found: dict[str, Film]) -> None:
    where = f"{source}: {path}"
    if film.size > MAX_FILM_BYTES:
        raise DatasetError(f"{where} has {film.size:,} bytes, above {MAX_FILM_BYTES:,}; it is no chest film")
    twin = found.get(film.path)
    if twin and (twin.size != film.size or twin.read() != film.read()):
        raise DatasetError(f"{where}: {film.path} exists twice with different content; keep one of the two")
