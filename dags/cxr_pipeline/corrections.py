"""A reader's corrections become films of a new dataset version; the old version and the test split stay as they are.

Films are the same where their bytes are: by sha256, for the ETag of an encrypted object says nothing of its content. A
corrected film that is one of the test films is left out: it would leak into the training. One that the train split has
in the other class leaves that class. complete.json is written last; the same corrections complete a version without it.

No message names a key, which may hold a patient's name and would stay in Airflow's log: it names the lines of the CSV.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from cxr.dataset import COMPLETE, PATIENT_LIST
from cxr.labels import CLASSES
from cxr_pipeline.clients import error_code
from cxr_pipeline.dataset_version import interrupted, next_version
from cxr_pipeline.difference import read_results
from cxr_pipeline.objects import listing
from cxr_pipeline.settings import Settings

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16


class CorrectionsRefused(Exception):
    """No new version can be made; the text names the lines or the prefix, and what to do."""


@dataclass(frozen=True)
class Correction:
    """An upload, the label that a reader gave it, and the line of the CSV that says so."""

    key: str
    label: str
    line: int


def read(content: bytes) -> list[Correction]:
    """Read a CSV with the columns ``key`` and ``label``; raise CorrectionsRefused naming every bad line."""
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
    if not {"key", "label"} <= set(reader.fieldnames or ()):
        raise CorrectionsRefused(f"the header must name the columns key and label; it is {reader.fieldnames}")
    found: dict[str, Correction] = {}
    wrong = []
    for line, row in enumerate(reader, start=2):
        key, label = (row["key"] or "").strip(), (row["label"] or "").strip().upper()
        if not key or label not in CLASSES:
            what = f"the label is {label or 'missing'}" if key else "there is no key"
            wrong.append(f"line {line}: {what}; give a key and one of {', '.join(CLASSES)}")
        elif key not in found:
            found[key] = Correction(key, label, line)
        elif found[key].label != label:
            wrong.append(f"line {line}: {label} here and {found[key].label} in line {found[key].line}; take one out")
    if wrong:
        raise CorrectionsRefused("; ".join(wrong))
    if not found:
        raise CorrectionsRefused("the file names no film")
    return list(found.values())


def film_name(key: str) -> str:
    """Name a film in the dataset: its own name, by which the patient is known, made unique by the key's digest."""
    stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    return f"{stem}-{digest}.{suffix}" if dot else f"{suffix}-{digest}"


def with_new_paths(patient_list: bytes, moved: dict[str, str]) -> bytes:
    """Let the rows of patients.csv name the moved films where they lie now, so that they keep their patient."""
    reader, text = csv.DictReader(io.StringIO(patient_list.decode("utf-8-sig"))), io.StringIO()
    writer = csv.DictWriter(text, reader.fieldnames or (), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in reader:
        file = (row.get("file") or "").strip()
        writer.writerow({**row, "file": moved.get(file, file)})
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
        return f"train/{self.label}/{film_name(self.film.key)}"


@dataclass(frozen=True)
class Version:
    """What a new dataset version holds of the old one, and beyond it.

    moved: films of the old version that were left out, being corrected to the other class. there: films that an
    interrupted run had copied already. test_lines: lines of the CSV that were left out, for they name test films.
    """

    prefix: str
    copied: int
    added: dict[str, int]
    moved: int
    there: int
    test_lines: tuple[int, ...]


def make_version(s3: Any, names: Settings, base: str, corrections: list[Correction]) -> Version:
    """Copy ``base`` to its next version and add the corrected films to its train split.

    Nothing is written unless every corrected film can be used. Raises CorrectionsRefused.
    """
    bucket, target = names.datasets_bucket, next_version(base)
    there = _films(s3, bucket, target)
    if COMPLETE in there:
        raise CorrectionsRefused(f"s3://{bucket}/{target} exists already; correct that version instead")
    films = _films_of_base(s3, bucket, base)
    uploads = _uploads(s3, names, corrections)
    digests = _digests(s3, films, {upload.film.size for upload in uploads})
    tested = {digest for path, digest in digests.items() if path.startswith("test/")}
    added = [upload for upload in uploads if upload.sha256 not in tested]
    moved = _relabelled(digests, added)
    old = {path: film for path, film in films.items() if path not in moved}
    new = {upload.path: upload.film for upload in added}
    already = _copy(s3, bucket, target, old | new, there)
    if moved and PATIENT_LIST in old:
        listed = s3.get_object(Bucket=bucket, Key=base + PATIENT_LIST)["Body"].read()
        s3.put_object(Bucket=bucket, Key=target + PATIENT_LIST, Body=with_new_paths(listed, moved))
    made = Version(
        target,
        copied=len(old.keys() - new.keys()),
        added={label: sum(upload.label == label for upload in added) for label in CLASSES},
        moved=len(moved),
        there=already,
        test_lines=tuple(upload.line for upload in uploads if upload.sha256 in tested),
    )
    mark = {"base": base, "copied": made.copied, "added": made.added, "moved": made.moved}
    s3.put_object(Bucket=bucket, Key=target + COMPLETE, Body=json.dumps(mark).encode())
    return made


def _films(s3: Any, bucket: str, prefix: str) -> dict[str, Film]:
    """Return every object under ``prefix`` by its path below it."""
    return {
        item["Key"][len(prefix) :]: Film.of(bucket, item["Key"], item["Size"], item)
        for item in listing(s3, bucket, prefix)
    }


def _films_of_base(s3: Any, bucket: str, base: str) -> dict[str, Film]:
    """Return the films of a whole dataset; half a version, copied once more, would pass for a whole one."""
    films = _films(s3, bucket, base)
    if films and (why := interrupted(base, COMPLETE in films)):
        raise CorrectionsRefused(f"s3://{bucket}/{why}")
    if not any(path.startswith("test/") for path in films):
        raise CorrectionsRefused(f"s3://{bucket}/{base} holds no dataset: there is no test/ in it")
    films.pop(COMPLETE, None)
    return films


def _uploads(s3: Any, names: Settings, corrections: list[Correction]) -> list[Upload]:
    """Return the corrected films with the digests that their results tell, or that their bytes have."""
    given = {correction.key: correction for correction in corrections}
    found = {film.key: film for film in _each(lambda key: _head(s3, names.uploads_bucket, key), given) if film}
    missing = [given[key].line for key in given if key not in found]
    if missing:
        raise CorrectionsRefused(
            f"not in the uploads bucket: the keys of {_lines(missing)}; correct them, or take the lines out"
        )
    results = {
        key: result
        for key, result in read_results(s3, names.results_bucket, found)
        if result["image"]["etag"] == found[key].etag
    }
    unreadable = [given[key].line for key, result in results.items() if result["status"] == "unreadable"]
    if unreadable:
        raise CorrectionsRefused(
            f"unreadable, say the results: the films of {_lines(unreadable)}; no model can be trained on such a file: "
            "take the lines out, or upload the films anew and wait for their results"
        )

    def upload(film: Film) -> Upload:
        known, said = results.get(film.key), given[film.key]
        return Upload(film, said.label, said.line, known["image"]["sha256"] if known else _sha256(s3, film))

    uploads = _each(upload, found.values())
    _refuse_two_labels(uploads)
    return uploads


def _lines(numbers: Iterable[int]) -> str:
    return "line " + ", ".join(map(str, sorted(numbers)))


def _refuse_two_labels(uploads: list[Upload]) -> None:
    first: dict[str, Upload] = {}
    for upload in uploads:
        other = first.setdefault(upload.sha256, upload)
        if other.label != upload.label:
            raise CorrectionsRefused(
                f"line {other.line} ({other.label}) and line {upload.line} ({upload.label}) name the same film, byte "
                "for byte; decide which label is right, take the other line out"
            )


def _head(s3: Any, bucket: str, key: str) -> Film | None:
    try:
        head = s3.head_object(Bucket=bucket, Key=key)
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("404", "NoSuchKey"):
            return None
        raise
    return Film.of(bucket, key, head["ContentLength"], head)


def _digests(s3: Any, films: dict[str, Film], sizes: set[int]) -> dict[str, str]:
    """Return the sha256 of each train and test film of one of these sizes; films of other sizes are not read."""
    alike = [path for path, film in films.items() if film.size in sizes and path.startswith(("train/", "test/"))]
    return dict(zip(alike, _each(lambda path: _sha256(s3, films[path]), alike), strict=True))


def _sha256(s3: Any, film: Film) -> str:
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket=film.bucket, Key=film.key)["Body"].iter_chunks(2**20):
        digest.update(chunk)
    return digest.hexdigest()


def _relabelled(digests: dict[str, str], uploads: list[Upload]) -> dict[str, str]:
    """Return the train films that lie in another class than a reader chose for their bytes, with their new paths."""
    chosen = {upload.sha256: upload for upload in uploads}
    return {
        path: chosen[digest].path
        for path, digest in digests.items()
        if digest in chosen
        and path.startswith(tuple(f"train/{label}/" for label in CLASSES if label != chosen[digest].label))
    }


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
        source = {"Bucket": films[path].bucket, "Key": films[path].key}
        s3.copy_object(Bucket=bucket, Key=target + path, CopySource=source)

    _each(copy, stale)
    return len(films) - len(stale)


def _each(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return what ``function`` makes of every item; ``THREADS`` at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))
