"""Whose film it is, and which films may see which step of the training.

Everything is cut by patient, by a hash that knows nothing of the rest of the data: a patient stays in her bucket as the
dataset grows, so yesterday's calibration film is never tomorrow's training film.

Where a name leaves the patient open, films are joined rather than parted: to take two patients for one costs a little
precision, to take one for two puts her on both sides of a cut.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from cxr.dataset import some

# Kaggle's names (person1234_virus_1.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-1436-0001.jpeg) and those of the original
# archive at Mendeley, disease-patient-number (BACTERIA-1008087-0001.jpeg), in any case.
_PERSON = re.compile(r"(person\d+)_", re.IGNORECASE)
_NUMBERED = re.compile(r"((?:NORMAL2-)?IM-\d+|(?:BACTERIA|NORMAL|VIRUS)-\d+)-", re.IGNORECASE)

TUNE_BELOW, CALIBRATE_BELOW = 7, 15
BUCKETS = ("train", "tune", "calibrate")


class BadPatientList(ValueError):
    """patients.csv cannot be used."""


def patient_of(file: str) -> str:
    """The patient in a film's name, whatever folder it lies in.

    A name that fits no pattern is its own patient: `test/NORMAL/a.png` and `test/PNEUMONIA/a.png` are one.
    """
    name = PurePosixPath(file).name
    if person := _PERSON.match(name):
        return person[1].lower()
    numbered = _NUMBERED.match(name)
    return numbered[1].upper() if numbered else name


def bucket_of(patient: str) -> str:
    """`tune` (7 %), `calibrate` (8 %) or `train` (85 %) by the patient's id alone."""
    number = int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 100
    return "tune" if number < TUNE_BELOW else "calibrate" if number < CALIBRATE_BELOW else "train"


def with_twins(patients: list[str], digests: list[str]) -> list[str]:
    """The ids again, where patients who share a byte-identical film, with all their films, are the first of them.

    First in text order; sharing is transitive.
    """
    seen: dict[str, str] = {}
    joined: dict[str, str] = {}

    def root(patient: str) -> str:
        while (other := joined.get(patient, patient)) != patient:
            patient = other
        return patient

    for patient, digest in zip(patients, digests, strict=True):
        first, second = sorted((root(patient), root(seen.setdefault(digest, patient))))
        joined[second] = first
    return [root(patient) for patient in patients]


def read_patient_list(path: Path, films: Collection[str]) -> dict[str, str]:
    """{file: patient} of a CSV with the columns `file` (relative to the dataset's root) and `patient`.

    Every row names one of `films` (not every film needs a row): a list that matches nothing would check nothing. Raises
    BadPatientList naming the lines.
    """
    patients: dict[str, str] = {}
    strangers: list[str] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadPatientList(f"{path} is not UTF-8 ({error.reason}); save it as CSV UTF-8") from error
    with io.StringIO(text, newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames is None or not {"file", "patient"} <= set(reader.fieldnames):
            raise BadPatientList(f"{path} needs a header with the columns file and patient; it has {reader.fieldnames}")
        for number, row in enumerate(reader, start=2):
            file, patient = (row["file"] or "").strip(), (row["patient"] or "").strip()
            if not file or not patient:
                raise BadPatientList(f"{path}, line {number}: file or patient is empty; fill both or drop the line")
            if patients.get(file, patient) != patient:
                raise BadPatientList(f"{path}, line {number}: {file} belongs to {patients[file]} and to {patient}")
            patients[file] = patient
            if file not in films:
                strangers.append(f"line {number}: {file}")
    if not patients:
        raise BadPatientList(f"{path} has a header and no row; list the films, or take the file away")
    if strangers:
        raise BadPatientList(
            f"{path}: {len(strangers)} of its rows name no film; give each film's path relative to the dataset folder, "
            f"with forward slashes, as {min(films)}, or drop the row: {some(strangers)}"
        )
    return patients
