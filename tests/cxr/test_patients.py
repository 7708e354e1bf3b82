from __future__ import annotations

from collections import Counter

import pytest

from cxr.patients import bucket_of, patient_of, with_twins


@pytest.mark.parametrize(
    ("file", "patient"),
    [
        ("train/PNEUMONIA/person1234_virus_1.jpeg", "person1234"),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("train/NORMAL/NORMAL2-IM-1436-0001.jpeg", "NORMAL2-IM-1436"),
        ("train/PNEUMONIA/BACTERIA-1008087-0001.jpeg", "BACTERIA-1008087"),
        ("train/PNEUMONIA/virus-69980-0002.JPEG", "VIRUS-69980"),
        ("NORMAL-1003233-0001-1a2b3c4d.jpeg", "NORMAL-1003233"),
        ("Person1234_bacteria_2.jpeg", "person1234"),
        ("test/NORMAL/CR.1.2.840.113619.2.55", "CR.1.2.840.113619.2.55"),
        ("train/NORMAL/film.png", "film.png"),
    ],
)
def test_the_patient_is_read_from_the_file_name(file: str, patient: str) -> None:
    assert patient_of(file) == patient


def test_one_name_in_two_folders_is_one_patient() -> None:
    assert patient_of("test/NORMAL/a.png") == patient_of("test/PNEUMONIA/a.png") != patient_of("test/NORMAL/b.png")


def test_no_patient_of_the_original_archive_straddles_the_buckets() -> None:
    names = [
        f"{kind}-{n}-{film:04}.jpeg" for kind in ("BACTERIA", "VIRUS", "NORMAL") for n in range(80) for film in (1, 2)
    ]
    buckets = {(name.rpartition("-")[0], bucket_of(patient_of(name))) for name in names}
    assert len(buckets) == 3 * 80


def test_a_patient_stays_in_her_bucket_for_ever() -> None:
    known = {"person1": "calibrate", "person30": "tune", "IM-0115": "train", "person20": "train"}
    assert {name: bucket_of(name) for name in known} == known


def test_buckets_take_seven_eight_and_eighty_five_percent() -> None:
    counts = Counter(bucket_of(f"person{n}") for n in range(20_000))
    assert counts["tune"] / 20_000 == pytest.approx(0.07, abs=0.01)
    assert counts["calibrate"] / 20_000 == pytest.approx(0.08, abs=0.01)


def test_byte_identical_films_share_one_patient() -> None:
    assert with_twins(["b", "a", "c"], ["x", "x", "y"]) == ["a", "a", "c"]


def test_patients_who_share_a_film_are_one_patient_with_all_their_films_however_long_the_chain() -> None:
    patients, digests = ["p2", "p3", "p3", "p1", "p2", "p9"], ["x", "x", "y", "z", "z", "w"]
    assert with_twins(patients, digests) == ["p1", "p1", "p1", "p1", "p1", "p9"]
