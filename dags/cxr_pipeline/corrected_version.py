"""A reader's corrections become films of a new dataset version; the old version and the test split stay as they are.

Films are the same where their bytes are: by sha256, for the ETag of an encrypted object says nothing of its content. A
corrected film that is one of the test films is left out: it would leak into the training. One that the train split has
in the other class leaves that class; one that it has in this class is not added again. complete.json is written last;
the same corrections complete a version without it. What is copied leaves its metadata and tags behind: they may name
the patient.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from cxr.dataset import COMPLETE, FILM_SUFFIXES, LISTS, SPLITS, SUBTYPE_LIST, suffix_of
from cxr.labels import CLASSES
from cxr.pointer import error_code
from cxr_pipeline import results
from cxr_pipeline.corrections import Correction, CorrectionsRefused, lines
from cxr_pipeline.dataset_version import interrupted, next_version
from cxr_pipeline.objects import MAX_KEY_BYTES, copy_bytes, listing, read_bytes, write_json
from cxr_pipeline.settings import Settings

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16
MAX_NAME_BYTES = 255  # of the disks of training jobs
TRAIN, TEST = (f"{split}/" for split in SPLITS)


def film_name(key: str) -> str:
    """Name a film in the dataset: its own name, by which the patient is known, made unique by the key's digest.

    The name is cut where a disk would not take it; a suffix that no film has, and dots in front, are left out.
    """
    name = key.rpartition("/")[2]
    suffix = suffix_of(name)
    stem = name[: len(name) - len(suffix)].lstrip(".")
    tail = f"-{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix if suffix in FILM_SUFFIXES else ''}"
    return stem.encode()[: MAX_NAME_BYTES - len(tail)].decode(errors="ignore") + tail


def with_new_paths(film_list: bytes, moved: dict[str, str | None], but: str | None = None) -> bytes:
    """Let the rows of patients.csv or subtypes.csv name the moved films where they lie now, so that they keep theirs.

    The row of a film that is gone (None) goes, and of one that lies in the class folder ``but``.
    """
    reader, text = csv.DictReader(io.StringIO(film_list.decode("utf-8-sig"), newline="")), io.StringIO()
    writer = csv.DictWriter(text, reader.fieldnames or (), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in reader:
        file = (row.get("file") or "").strip()
        if (place := moved.get(file, file)) is not None and but not in place.split("/"):
            writer.writerow({**row, "file": place})
    return text.getvalue().encode()


@dataclass(frozen=True)
class Film:
    """An object in S3, as it was when it was listed."""

    bucket: str
    key: str
    size: int
    etag: str
    modified: datetime

    @classmethod
    def of(cls, bucket: str, key: str, size: int, said: dict[str, Any]) -> Film:
        return cls(bucket, key, size, said["ETag"].strip('"'), said["LastModified"])


@dataclass(frozen=True)
class Upload:
    """A film that a reader gave a label, in some line of the CSV."""

    film: Film
    label: str
    line: int
    sha256: str

    @property
    def path(self) -> str:
        """Where it lies in the new version."""
        return f"{TRAIN}{self.label}/{film_name(self.film.key)}"


@dataclass(frozen=True)
class Decision:
    """What becomes of the corrected films.

    added: to the train split. moved: train films of the other class, with their new paths, None where the film lies
    there already. test_lines, known_lines: lines of the CSV that are left out, for they name test films, or films that
    have this label in the train split, or in another line, already.
    """

    added: list[Upload]
    moved: dict[str, str | None]
    test_lines: tuple[int, ...]
    known_lines: tuple[int, ...]

    def left_out(self) -> str:
        """Say which lines are left out and why."""
        why = (("test films", self.test_lines), ("in the train split with this label already", self.known_lines))
        return "".join(f"; left out, being {what}: {lines(numbers)}" for what, numbers in why if numbers)


@dataclass(frozen=True)
class Version:
    """What a new dataset version holds: films of the old one, corrected ones by label, and what was decided.

    there: films that an interrupted run had copied already.
    """

    prefix: str
    copied: int
    added: dict[str, int]
    there: int
    decision: Decision


def make_version(s3: Any, names: Settings, base: str, corrections: list[Correction]) -> Version:
    """Copy ``base`` to its next version and add the corrected films to its train split.

    Nothing is written unless every corrected film can be used and something changes. Raises CorrectionsRefused.
    """
    bucket, target = names.datasets_bucket, next_version(base)
    there = _films(s3, bucket, target)
    if COMPLETE in there:
        raise CorrectionsRefused(f"s3://{bucket}/{target} exists already; correct that version instead")
    films = _films_of_base(s3, bucket, base)
    uploads = _uploads(s3, names, corrections)
    decision = decide(uploads, _digests(s3, films, {upload.film.size for upload in uploads}))
    if not decision.added and not decision.moved:
        raise CorrectionsRefused(f"these corrections change nothing{decision.left_out()}")
    old = {path: film for path, film in films.items() if path not in decision.moved}
    new = {upload.path: upload.film for upload in decision.added}
    _refuse_long_keys(target, old | new)
    already = _copy(s3, bucket, target, old | new, there)
    for name in LISTS:
        if decision.moved and name in old:
            normal = CLASSES[0] if name == SUBTYPE_LIST else None
            listed = with_new_paths(read_bytes(s3, bucket, base + name), decision.moved, normal)
            s3.put_object(Bucket=bucket, Key=target + name, Body=listed)
    added: dict[str, int] = {label: sum(upload.label == label for upload in decision.added) for label in CLASSES}
    made = Version(target, len(old.keys() - new.keys()), added, already, decision)
    mark = {"base": base, "copied": made.copied, "added": added, "moved": len(decision.moved)}
    write_json(s3, bucket, target + COMPLETE, mark)
    return made


def decide(uploads: list[Upload], digests: dict[str, str]) -> Decision:
    """Decide by the sha256 of the base's films, {path: digest}, what becomes of each corrected film."""
    of_test = {digest for path, digest in digests.items() if path.startswith(TEST)}
    of_train: dict[str, list[str]] = {}
    for path, digest in digests.items():
        if path.startswith(TRAIN):
            of_train.setdefault(digest, []).append(path)
    added: dict[str, Upload] = {}
    moved: dict[str, str | None] = {}
    test_lines, known_lines = [], []
    for upload in uploads:
        paths = of_train.get(upload.sha256, [])
        right = [path for path in paths if path.startswith(f"{TRAIN}{upload.label}/")]
        if upload.sha256 in of_test:
            test_lines.append(upload.line)
        elif right or upload.sha256 in added:
            known_lines.append(upload.line)
        else:
            added[upload.sha256] = upload
        if upload.sha256 not in of_test:
            place = added[upload.sha256].path if upload.sha256 in added else None
            moved |= dict.fromkeys((path for path in paths if path not in right), place)
    return Decision(list(added.values()), moved, tuple(test_lines), tuple(known_lines))


def _films(s3: Any, bucket: str, prefix: str) -> dict[str, Film]:
    """Return every object under ``prefix`` by its path below it."""
    return {
        item["Key"].removeprefix(prefix): Film.of(bucket, item["Key"], item["Size"], item)
        for item in listing(s3, bucket, prefix)
    }


def _films_of_base(s3: Any, bucket: str, base: str) -> dict[str, Film]:
    """Return the films of a whole dataset; half a version, copied once more, would pass for a whole one."""
    films = _films(s3, bucket, base)
    if films and (why := interrupted(base, COMPLETE in films)):
        raise CorrectionsRefused(f"s3://{bucket}/{why}")
    if not any(path.startswith(TEST) for path in films):
        raise CorrectionsRefused(f"s3://{bucket}/{base} holds no dataset: there is no {TEST} in it")
    films.pop(COMPLETE, None)
    return films


def _uploads(s3: Any, names: Settings, corrections: list[Correction]) -> list[Upload]:
    """Return the corrected films with the digests that their results tell, or that their bytes have."""
    given = {correction.key: correction for correction in corrections}
    found = {film.key: film for film in _each(lambda key: _head(s3, names.uploads_bucket, key), given) if film}
    missing = [given[key].line for key in given if key not in found]
    if missing:
        raise CorrectionsRefused(
            f"not in the uploads bucket: the keys of {lines(missing)}; correct them, or take the lines out"
        )
    answered = {
        key: result
        for key, result in results.read(s3, names.results_bucket, found)
        if isinstance(result, dict) and (result.get("image") or {}).get("etag") == found[key].etag
    }
    unreadable = [given[key].line for key, result in answered.items() if result.get("status") == "unreadable"]
    unreadable += [given[key].line for key, film in found.items() if film.size == 0 and key not in answered]
    if unreadable:
        raise CorrectionsRefused(
            f"unreadable, or empty: the films of {lines(unreadable)}; no model can be trained on such a file: take "
            "the lines out, or upload the films anew and wait for their results"
        )

    def upload(film: Film) -> Upload:
        known, said = answered.get(film.key), given[film.key]
        return Upload(film, said.label, said.line, known["image"]["sha256"] if known else _sha256(s3, film))

    uploads = _each(upload, found.values())
    _refuse_two_labels(uploads)
    return uploads


def _refuse_two_labels(uploads: list[Upload]) -> None:
    first: dict[str, Upload] = {}
    for upload in uploads:
        other = first.setdefault(upload.sha256, upload)
        if other.label != upload.label:
            raise CorrectionsRefused(
                f"line {other.line} ({other.label}) and line {upload.line} ({upload.label}) name the same film, byte "
                "for byte; decide which label is right, take the other line out"
            )


def _refuse_long_keys(target: str, films: Iterable[str]) -> None:
    """A version's prefix is longer than its base's: a key that fitted there may not fit here."""
    long = sum(len((target + path).encode()) > MAX_KEY_BYTES for path in films)
    if long:
        raise CorrectionsRefused(
            f"{long} films would have keys of more than {MAX_KEY_BYTES} bytes below {target}; give the dataset a "
            "shorter prefix, or its films shorter names"
        )


def _head(s3: Any, bucket: str, key: str) -> Film | None:
    if len(key.encode()) > MAX_KEY_BYTES:
        return None
    try:
        head = s3.head_object(Bucket=bucket, Key=key)
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("404", "NoSuchKey"):
            return None
        raise
    return Film.of(bucket, key, head["ContentLength"], head)


def _digests(s3: Any, films: dict[str, Film], sizes: set[int]) -> dict[str, str]:
    """Return the sha256 of each train and test film of one of these sizes; films of other sizes are not read."""
    alike = [path for path, film in films.items() if film.size in sizes and path.startswith((TRAIN, TEST))]
    return dict(zip(alike, _each(lambda path: _sha256(s3, films[path]), alike), strict=True))


def _sha256(s3: Any, film: Film) -> str:
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket=film.bucket, Key=film.key)["Body"].iter_chunks(2**20):
        digest.update(chunk)
    return digest.hexdigest()


def _copy(s3: Any, bucket: str, target: str, films: dict[str, Film], there: dict[str, Film]) -> int:
    """Copy what ``there`` lacks or holds of an older state; return how many films needed no copy."""
    strangers = sorted(there.keys() - films.keys())
    if strangers:
        raise CorrectionsRefused(
            f"s3://{bucket}/{target} holds {len(strangers)} objects that these corrections do not make: a run with "
            "other corrections was interrupted, or another dataset has this name. Run those again first, or delete "
            "what nobody needs"
        )
    stale = [
        path
        for path, film in films.items()
        if path not in there or there[path].size != film.size or there[path].modified < film.modified
    ]

    def copy(path: str) -> None:
        copy_bytes(s3, (films[path].bucket, films[path].key), (bucket, target + path))

    _each(copy, stale)
    return len(films) - len(stale)


def _each(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return what ``function`` makes of every item; ``THREADS`` at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))
