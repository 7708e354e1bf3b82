"""Bad input is named, with the remedy, before anything is trained."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.bundle import SIDE
from cxr.film_list import BadFilmList
from cxr.patients import bucket_of, patient_of
from training_job import validation
from training_job.container import Container, explain
from training_job.dataset import BadDataset, Films, read_dataset, read_films
from training_job.stop import Stop


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))


def read(root: Path):
    return read_dataset(root, SIDE, Stop())


def first(root: Path, folder: str) -> Path:
    return sorted((root / folder).iterdir())[0]


def test_buckets_are_disjoint_by_patient_and_cover_the_train_folder(dataset: Path) -> None:
    films = read(dataset)
    assert {name: sum(c.values()) for name, c in films.counts().items()} == {
        "train": 28,
        "tune": 10,
        "calibrate": 10,
        "test": 10,
    }
    patients = {name: {films.train.patients[row] for row in rows} for name, rows in films.rows.items()}
    assert not patients["train"] & patients["tune"] and not patients["tune"] & patients["calibrate"]
    assert sorted(np.concatenate(list(films.rows.values()))) == list(range(len(films.train)))


def test_the_digest_depends_on_bytes_and_paths_and_on_nothing_else(dataset: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(dataset, tmp_path / "other"))
    assert read(dataset).digest == read(elsewhere).digest
    film = first(elsewhere, "train/NORMAL")
    film.rename(film.with_name("IM-9999-0001.jpeg"))
    assert read(dataset).digest != read(elsewhere).digest


def test_a_patient_list_that_moves_films_between_buckets_is_another_dataset(dataset: Path) -> None:
    digests = []
    for patient in ("p1", "p2"):
        file = first(dataset, "train/NORMAL").relative_to(dataset).as_posix()
        (dataset / "patients.csv").write_text(f"file,patient\n{file},{patient}\n")
        digests.append(read(dataset).digest)
    assert len(set(digests)) == 2


@pytest.mark.parametrize("name", ["Patients.csv", "patients.CSV", "patients.txt", "Test"])
def test_what_is_nearly_called_as_one_of_ours_is_not_passed_over(dataset: Path, name: str) -> None:
    if name == "Test":
        (dataset / name / "NORMAL").mkdir(parents=True)
        name = "Test/NORMAL/1.png"
    (dataset / name).write_text("file,patient\n")
    with pytest.raises(
        BadDataset, match=rf"left of .*{digest_of_file(dataset / name)} .*must be called (patients\.csv|test)"
    ):
        read(dataset)


def test_the_mark_of_a_corrected_version_may_lie_beside_its_films(dataset: Path) -> None:
    (dataset / "complete.json").write_text("{}")
    (dataset / "val").mkdir()
    assert len(read(dataset).train) == 48


def test_films_in_folders_below_their_class_are_read(dataset: Path) -> None:
    inside = dataset / "train" / "NORMAL" / "part2"
    inside.mkdir()
    film = first(dataset, "train/NORMAL")
    film.rename(inside / film.name)
    assert len(read(dataset).train) == 48


def test_a_linked_folder_whose_films_would_be_missed_is_refused(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (dataset / "train" / "NORMAL" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadDataset, match=r"a folder in .* is a link, which is not followed; .*find DIR -type l"):
        read(dataset)


def test_a_folder_that_cannot_be_listed_is_refused(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may list every folder: the system's answer is given here instead."""
    closed = dataset / "train" / "NORMAL" / "part2"
    closed.mkdir()
    listed = os.scandir

    def denied(path: str) -> Any:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(
        BadDataset, match=r"a folder in .* cannot be listed \(Permission denied\); let the job's user read it"
    ):
        read(dataset)


def test_suspicious_films_are_named_in_the_warnings(dataset: Path) -> None:
    """A film saved again under the other class, one under another patient's name, and a coloured one."""
    twice, other = first(dataset, "train/NORMAL"), bucket_neighbour(dataset)
    Image.open(twice).save(dataset / "train" / "PNEUMONIA" / "saved_again.png")
    Image.open(first(dataset, "train/PNEUMONIA")).save(dataset / "train" / "PNEUMONIA" / other)
    grey = np.asarray(Image.open(first(dataset, "test/NORMAL")).convert("L"))
    colours = np.stack([grey, np.roll(grey, 60, axis=1), grey[::-1]], axis=-1)
    Image.fromarray(colours).save(dataset / "test" / "NORMAL" / "photo.png")
    report = validation.validate(read(dataset))
    text = validation.describe(report)
    again, neighbour, photo = (
        digest_of_file(dataset / path)
        for path in ("train/PNEUMONIA/saved_again.png", f"train/PNEUMONIA/{other}", "test/NORMAL/photo.png")
    )
    assert "near-duplicates in train/ have different labels" in text and again in text
    assert "lie in different buckets of train/" in text and neighbour in text
    assert report["coloured"] == 1 and "1 films are coloured" in text and photo in text
    assert not [
        name for name in ("saved_again", "photo", "person", "IM-", ".jpeg") if name in json.dumps(report) + text
    ]


def digest_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[: validation.DIGITS]


def bucket_neighbour(dataset: Path) -> str:
    """A file name of a patient in another bucket than the first PNEUMONIA film's."""
    ours = bucket_of(patient_of(first(dataset, "train/PNEUMONIA").name))
    return next(f"person{n}_virus_1.png" for n in range(10_000, 11_000) if bucket_of(f"person{n}") != ours)


def test_junk_of_archivers_is_no_film(dataset: Path) -> None:
    (dataset / "train" / "NORMAL" / ".DS_Store").write_bytes(b"x")
    (dataset / "train" / "NORMAL" / "._IM-1.jpeg").write_bytes(b"x")
    (dataset / "train" / "Thumbs.db").write_bytes(b"x")
    for folder in (dataset / "train", dataset / "train" / "NORMAL"):
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "IM-1.jpeg").write_bytes(b"x")
    assert len(read(dataset).train) == 48


@pytest.mark.parametrize(
    "stray",
    ["train/BACTERIA/person1_bacteria_1.jpeg", "train/Normal/IM-1.jpeg", "test/IM-1.jpeg", "train/patients.csv"],
)
def test_what_lies_beside_the_class_folders_is_refused_by_digest(dataset: Path, stray: str) -> None:
    (dataset / stray).parent.mkdir(exist_ok=True)
    (dataset / stray).write_bytes(b"x")
    found = digest_of_file(dataset / stray)
    with pytest.raises(BadDataset, match=rf"1 files in .* are neither films .*; move films .* left of .*: {found} "):
        read(dataset)


def test_films_for_recalibration_may_come_with_a_patient_list_and_nothing_else(dataset: Path) -> None:
    folder = dataset / "test"
    name = first(dataset, "test/NORMAL").name
    (folder / "patients.csv").write_text(f"file,patient\nNORMAL/{name},p1\n")
    films, listed = read_films(folder, SIDE, Stop())
    assert "p1" in films.patients and listed == {f"NORMAL/{name}": "p1"}
    (folder / "loose.png").write_bytes(b"x")
    with pytest.raises(BadDataset, match=r"1 files in .* left of .*: [0-9a-f]{16} lies outside"):
        read_films(folder, SIDE, Stop())


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda root: shutil.rmtree(root / "test"), r"test is missing; .* holds \['train'\]"),
        (lambda root: (root / "train" / "NORMAL").rename(root / "train" / "Normal"), "Normal must be called NORMAL"),
        (lambda root: shutil.rmtree(root / "train" / "PNEUMONIA"), "PNEUMONIA is missing"),
        (lambda root: [file.unlink() for file in (root / "test" / "NORMAL").iterdir()], "NORMAL holds no film"),
        (lambda root: root.rename(root.with_name("gone")), "give the job a `dataset` channel"),
    ],
)
def test_a_wrong_layout_is_named_with_its_remedy(dataset: Path, spoil, why: str) -> None:
    spoil(dataset)
    with pytest.raises(BadDataset, match=why):
        read(dataset)


def test_a_dataset_one_level_too_deep_says_which_folder_to_pass(dataset: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    dataset.rename(outer / "chest_xray")
    with pytest.raises(BadDataset, match=r"pass .*outer/chest_xray"):
        read(outer)


def png_header(side: int) -> bytes:
    """The beginning of a PNG that claims to be side x side."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = side.to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"<html>not found</html>", b"", png_header(30_000), b"\xff\xd8\xff\xe0 broken"],
    ids=["html", "empty", "bomb", "truncated"],
)
def test_an_unusable_file_is_named_and_the_job_does_not_train_without_it(dataset: Path, content: bytes) -> None:
    film = dataset / "train" / "NORMAL" / "IM-8888-0001.jpeg"
    film.write_bytes(content)
    with pytest.raises(BadDataset, match=rf"1 of 49 files .*replace or remove.*{digest_of_file(film)}: ") as refusal:
        read(dataset)
    assert film.stem not in str(refusal.value), "a file's name may be a patient's"


def test_two_hundred_corrupt_files_are_counted_and_ten_are_named(dataset: Path) -> None:
    for number in range(200):
        (dataset / "train" / "PNEUMONIA" / f"person{70_000 + number}_virus_1.jpeg").write_bytes(b"junk %d" % number)
    with pytest.raises(BadDataset, match="200 of 248 files") as refusal:
        read(dataset)
    assert str(refusal.value).count("upload it again") + str(refusal.value).count("export it as one") == 10
    assert "and 190 more" in str(refusal.value) and ".jpeg" not in str(refusal.value)
    Container(dataset).fail(explain(refusal.value))
    shown = (dataset / "output" / "failure").read_text()
    assert "200 of 248 files in" in shown and "replace or remove them" in shown


def test_too_few_patients_for_a_bucket_is_said(dataset: Path) -> None:
    films = read(dataset)
    for row in films.rows["calibrate"]:
        (dataset / films.train.files[row]).unlink()
    with pytest.raises(BadDataset, match="falls into the calibrate bucket"):
        read(dataset)


def test_a_film_in_train_and_test_stops_the_job(dataset: Path) -> None:
    shutil.copy(first(dataset, "train/NORMAL"), dataset / "test" / "NORMAL" / "copy.jpeg")
    film = digest_of_file(first(dataset, "train/NORMAL"))
    with pytest.raises(BadDataset, match=rf"byte for byte in train/ and in test/.*{film}.*sha256sum"):
        validation.validate(read(dataset))


def test_a_film_with_two_labels_stops_the_job(dataset: Path) -> None:
    shutil.copy(first(dataset, "train/NORMAL"), dataset / "train" / "PNEUMONIA" / "copy.jpeg")
    with pytest.raises(BadDataset, match="two labels"):
        validation.validate(read(dataset))


def test_a_patient_on_both_sides_of_the_list_stops_the_job(dataset: Path) -> None:
    one, other = first(dataset, "train/NORMAL"), first(dataset, "test/NORMAL")
    rows = [f"{path.relative_to(dataset).as_posix()},p1" for path in (one, other)]
    (dataset / "patients.csv").write_text("\n".join(["file,patient", *rows]) + "\n")
    with pytest.raises(BadDataset, match=f"1 patients into both train/ and test/, .* film {digest_of_file(other)}"):
        validation.validate(read(dataset))


def listed(dataset: Path, **patients: str) -> None:
    """Write patients.csv: the first film of a folder (`train_NORMAL`) -> its patient."""
    rows = [f"{first(dataset, at.replace('_', '/')).relative_to(dataset).as_posix()},{p}" for at, p in patients.items()]
    (dataset / "patients.csv").write_text("\n".join(["file,patient", *rows]) + "\n")


def test_a_patient_list_that_names_no_film_does_not_switch_the_check_off(dataset: Path) -> None:
    (dataset / "patients.csv").write_text("file,patient\nchest_xray/train/NORMAL/IM-1.jpeg,p1\n")
    with pytest.raises(BadFilmList, match=r"1 of its rows name no film.*as train/NORMAL/\S+, .*: line 2$"):
        read(dataset)


def test_a_twin_without_a_row_does_not_hide_a_listed_patient(dataset: Path) -> None:
    film = first(dataset, "train/NORMAL")
    shutil.copy(film, film.with_name("IM-0000-0001.jpeg"))
    (dataset / "patients.csv").write_text(
        f"file,patient\ntrain/NORMAL/{film.name},p1\n"
        f"{first(dataset, 'test/NORMAL').relative_to(dataset).as_posix()},p1\n"
    )
    with pytest.raises(BadDataset, match="1 patients into both"):
        validation.validate(read(dataset))


def test_a_film_without_a_row_is_never_the_patient_of_one_with(dataset: Path) -> None:
    """An id of the list may look like a file name's."""
    other = first(dataset, "test/PNEUMONIA")
    other.rename(other.with_name("person7_virus_1.jpeg"))
    listed(dataset, train_NORMAL="person7")
    assert validation.validate(read(dataset))["listed_films"] == 1


def test_a_partial_list_keeps_the_warning_for_the_names_of_films_that_it_leaves_out(dataset: Path) -> None:
    for label in ("NORMAL", "PNEUMONIA"):
        other = first(dataset, f"test/{label}")
        other.rename(other.with_name(first(dataset, f"train/{label}").name))
    listed(dataset, train_NORMAL="p1", test_NORMAL="p2", train_PNEUMONIA="p3")
    report = validation.validate(read(dataset))
    assert report["shared_patient_names"]["count"] == 1 == len(report["shared_patient_names"]["films"])
    assert any("1 patient names" in warning for warning in report["warnings"])
    listed(dataset, train_NORMAL="p1", test_NORMAL="p2", train_PNEUMONIA="p3", test_PNEUMONIA="p4")
    report = validation.validate(read(dataset))
    assert report["shared_patient_names"]["count"] == 0
    assert not any("patient names" in warning for warning in report["warnings"])


def test_shared_kaggle_names_are_a_warning_only(dataset: Path) -> None:
    name = first(dataset, "train/PNEUMONIA").name
    other = first(dataset, "test/PNEUMONIA")
    other.rename(other.with_name(name))
    report = validation.validate(read(dataset))
    assert report["shared_patient_names"]["count"] == 1
    assert any("numbering restarts" in warning for warning in report["warnings"])


def test_twins_follow_one_patient_and_are_reported(dataset: Path) -> None:
    film = first(dataset, "train/NORMAL")
    shutil.copy(film, film.with_name("IM-9998-0001.jpeg"))
    films = read(dataset)
    ids = [
        p
        for f, p in zip(films.train.files, films.train.patients, strict=True)
        if f.endswith((film.name, "9998-0001.jpeg"))
    ]
    assert len(ids) == 2 and len(set(ids)) == 1
    assert validation.validate(films)["exact_duplicates"]["train"]["groups"] == 1


def test_a_reencoded_film_across_the_splits_is_a_near_duplicate(dataset: Path) -> None:
    film = first(dataset, "train/NORMAL")
    Image.open(film).save(dataset / "test" / "NORMAL" / "again.jpeg", quality=40)
    found = validation.near_duplicates(read(dataset).train, read(dataset).test)["across"]
    assert [digest_of_file(film), digest_of_file(dataset / "test/NORMAL/again.jpeg")] in [pair[:2] for pair in found]


@pytest.mark.parametrize("side", [80, 112, 224])
def test_films_of_any_side_are_compared(side: int) -> None:
    """Blocks of a film are a fraction of a pixel where 32 does not divide the side."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side), dtype=np.uint8)
    one, two = (
        Films(
            [f"{split}/{n}.png" for n in "01"],
            films,
            np.arange(2),
            ["p", "q"],
            [f"{split}{n}" for n in "01"],
            np.zeros(2),
        )
        for split, films in (("train", pixels), ("test", np.flip(pixels // 2, axis=0)))
    )
    found = validation.near_duplicates(one, two)
    assert [pair[:2] for pair in found["across"]] == [["train0", "test1"], ["train1", "test0"]]
    assert found["train"] == found["test"] == []


@pytest.mark.realdata
def test_the_real_train_and_test_films_share_no_twin(shared_data: Path) -> None:
    report = validation.validate(read(shared_data / "chest_xray"))
    assert report["counts"]["test"] == {"NORMAL": 234, "PNEUMONIA": 390}
    assert report["near_duplicates"]["across"]["count"] == 0
    assert report["shared_patient_names"]["count"] == 170
