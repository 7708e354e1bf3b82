"""Whose film it is, and which films may see which step of the training.

Everything is cut by patient, by a hash that knows nothing of the rest of the data: a patient stays in her bucket as the
dataset grows, so yesterday's calibration film is never tomorrow's training film.

Where a name leaves the patient open, films are joined rather than parted: to take two patients for one costs a little
precision, to take one for two puts her on both sides of a cut.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

# Kaggle's names (person1234_virus_1.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-1436-0001.jpeg) and those of the original
# archive at Mendeley, disease-patient-number (BACTERIA-1008087-0001.jpeg), in any case.
_PERSON = re.compile(r"(person\d+)_", re.IGNORECASE)
_NUMBERED = re.compile(r"((?:NORMAL2-)?IM-\d+|(?:BACTERIA|NORMAL|VIRUS)-\d+)-", re.IGNORECASE)

TUNE_BELOW, CALIBRATE_BELOW = 7, 15
BUCKETS = ("train", "tune", "calibrate")


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
