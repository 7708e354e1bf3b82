"""A dataset reaches S3 in Kaggle's layout and in no other: `train|test/NORMAL|PNEUMONIA/<film>`.

What is not a film, or lies anywhere else, is named and refused, never guessed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import mimetypes
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cxr.dataset import LISTS, PREFIX, SPLITS, UNUSED_SPLIT, WRAPPING, is_junk, judge
from cxr.labels import CLASSES
from infra.source import MAX_FILE_BYTES, DatasetError, File, open_source

MAX_KEY_BYTES = 1024  # S3's own
MAX_LIST_BYTES = 16 * 2**20  # of patients.csv, subtypes.csv; a row has about 60 bytes
LEAST_LIMIT = 8


@dataclass(frozen=True)
class Dataset:
    """Films in a fixed order, the lists of them (see cxr.dataset.LISTS), and how many films of `val` were left out."""

    films: tuple[File, ...]
    lists: tuple[File, ...]
    ignored: int

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of films of each split and label."""
        found: dict[str, dict[str, int]] = {split: dict.fromkeys(CLASSES, 0) for split in SPLITS}
        for film in self.films:
            split, label = group(film)
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
        kept: list[File] = []
        for split, room in (("train", train), ("test", train // 4)):
            kept += _stratified([film for film in self.films if group(film)[0] == split], room)
        left_out = {film.path for film in self.films} - {film.path for film in kept}
        lists = tuple(_without(one, left_out.__contains__) for one in self.lists)
        return Dataset(tuple(sorted(kept, key=lambda film: film.path)), lists, self.ignored)


def group(film: File) -> tuple[str, str]:
    """(split, label) of a film of a dataset."""
    split, label, _ = film.path.split("/", 2)
    return split, label


@contextmanager
def open_dataset(source: str | Path) -> Iterator[Dataset]:
    """A dataset from a folder, a zip file, or `kaggle`; its films can be read while it is open, from any thread.

    Raises:
        DatasetError: the source is missing, unsafe, or not in Kaggle's layout.
    """
    with open_source(source) as (files, name):
        yield _dataset(files, name)


def prefix(name: str) -> str:
    """Where the dataset of a name goes.

    Raises:
        DatasetError: the form of `retrain` would not accept it.
    """
    found = f"datasets/{name}/"
    if not re.fullmatch(PREFIX, found):
        raise DatasetError(
            f"{name!r} cannot name a dataset: {found!r} does not fit {PREFIX!r}, which `retrain` accepts; "
            "give a folder, or folders with one slash between them"
        )
    return found


@dataclass(frozen=True)
class Target:
    """Where a dataset goes: below `datasets/<name>/` of a bucket. replace: other films there are removed."""

    s3: Any
    bucket: str
    name: str
    replace: bool = False

    def keys(self) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix(self.name))
        return {found["Key"] for page in pages for found in page.get("Contents", [])}


def upload(
    dataset: Dataset, target: Target, progress: Callable[[int, int], None] | None = None, threads: int = 8
) -> dict[str, dict[str, int]]:
    """Puts a dataset into its place and returns its counts.

    `progress` is called with (films put, films in all) after each film, from one thread at a time.

    Raises:
        DatasetError: no dataset can have this name, a key would be too long or no text, or the place holds other films
            already and is not to be replaced.
    """
    s3, bucket, below = target.s3, target.bucket, prefix(target.name)
    wanted = {below + film.path: film for film in (*dataset.films, *dataset.lists)}
    for key in wanted:
        _check_key(key)
    strangers = sorted(target.keys() - set(wanted))
    if strangers and not target.replace:
        raise DatasetError(
            f"s3://{bucket}/{below} already holds {len(strangers)} other files, {strangers[0]!r} first; they "
            "would be trained on too. Choose another name, or pass --replace to remove them"
        )
    for start in range(0, len(strangers), 1000):  # DeleteObjects takes so many
        batch = [{"Key": key} for key in strangers[start : start + 1000]]
        s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})

    def put(item: tuple[str, File]) -> None:
        key, film = item
        kind = mimetypes.guess_type(key)[0] or "application/dicom"
        s3.put_object(Bucket=bucket, Key=key, Body=film.read(), ContentType=kind)

    pool = ThreadPoolExecutor(threads)
    try:
        for done, _ in enumerate(pool.map(put, wanted.items()), 1):
            if progress:
                progress(done, len(wanted))
    finally:
        pool.shutdown(cancel_futures=True)
    return dataset.counts()


def _check_key(key: str) -> None:
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise DatasetError(f"{key!r} is not UTF-8, and S3 takes no other names; rename the file") from error
    if length > MAX_KEY_BYTES:
        raise DatasetError(f"{key!r} has {length} bytes, S3 takes {MAX_KEY_BYTES}; shorten the file's name")


def _stratified(films: list[File], room: int) -> list[File]:
    if len(films) <= room:
        return films
    chosen: list[File] = []
    for label in CLASSES:
        of_label = sorted(
            (f for f in films if group(f)[1] == label), key=lambda f: hashlib.sha256(f.path.encode()).digest()
        )
        share = room * len(of_label) // len(films)
        chosen += of_label[: max(1, share)]
    return chosen


def _without(listed: File, left_out: Callable[[str], bool]) -> File:
    """A list without the rows of films that are left out: the training job refuses rows that name no film."""
    try:
        rows = list(csv.reader(io.StringIO(listed.read().decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{listed.path} is no CSV in UTF-8 ({error}); save it as that") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if "file" not in header:
        return listed
    column = header.index("file")
    kept = [row for row in rows if len(row) <= column or not left_out(row[column].strip())]
    if len(kept) == len(rows):
        return listed
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    content = text.getvalue().encode()
    return File(listed.path, len(content), lambda: content)


def _dataset(files: Iterable[File], source: str) -> Dataset:
    found: dict[str, File] = {}
    ignored = 0
    strays: list[str] = []
    kept = [file for file in files if not is_junk(PurePosixPath(file.path).parts)]
    for file, parts in zip(kept, _below_the_root([file.path for file in kept]), strict=True):
        placed = replace(file, path="/".join(parts))
        judgement = judge(placed.path, file.size)
        if judgement.kind == "film" or placed.path in LISTS:
            _check(placed, f"{source}: {file.path}", found)
            found[placed.path] = placed
        elif judgement.kind == "stray":
            strays.append(f"{file.path} {judgement.why}")
        else:
            ignored += parts[0] == UNUSED_SPLIT
    if strays:
        more = f" (and {len(strays) - 1} other files)" if len(strays) > 1 else ""
        raise DatasetError(
            f"{source}: {strays[0]}{more}; move films into the folder of their class, remove what is none, or pass the "
            "folder that holds train/ and test/"
        )
    listed = [found.pop(name) for name in LISTS if name in found]
    lists = tuple(_without(one, lambda file: file.startswith(f"{UNUSED_SPLIT}/")) for one in listed)
    dataset = Dataset(tuple(found[path] for path in sorted(found)), lists, ignored)
    empty = [f"{split}/{label}" for split, labels in dataset.counts().items() for label, n in labels.items() if not n]
    if empty:
        raise DatasetError(
            f"{source} has no film in {', '.join(empty)}; a dataset is train/ and test/, each with NORMAL/ "
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


def _check(file: File, where: str, found: dict[str, File]) -> None:
    limit, what = (MAX_LIST_BYTES, "list of films") if file.path in LISTS else (MAX_FILE_BYTES, "chest film")
    if file.size > limit:
        raise DatasetError(f"{where} has {file.size:,} bytes, above {limit:,}; it is no {what}")
    twin = found.get(file.path)
    if twin and (twin.size != file.size or twin.read() != file.read()):
        raise DatasetError(f"{where}: {file.path} exists twice with different content; keep one of the two")
