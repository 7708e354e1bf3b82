from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr.dataset import PREFIX_OR_NONE, WRAPPING, is_junk, judge, some, suffix_of
from infra.dataset import DatasetError, open_dataset
from training_job.dataset import BadDataset, listing

FILMS = [
    "train/NORMAL/IM-0115-0001.jpeg",
    "test/PNEUMONIA/person1_virus_6.JPG",
    "train/NORMAL/IM0001",  # DICOM often comes without a suffix
    "train/NORMAL/CR.1.2.840.113619.2.203.4.2147483647.1",  # storescp's name for a DICOM film
    "train/NORMAL/1.2.840.113619.2.5",
    "train/PNEUMONIA/CR.1.2.840.113619.2.5-1a2b3c4d",  # the same as a correction names it
    "train/PNEUMONIA/CR.1.2.840.113619.2-1a2b3c4d.5",  # and as earlier corrections did
    "train/NORMAL/part2/1.png",
]
BESIDE = [
    "patients.csv",
    "complete.json",
    "val/NORMAL/1.jpeg",
    "train/NORMAL/",
    "train/NORMAL/.gitkeep",
    "train/NORMAL/.ipynb_checkpoints/1-checkpoint.jpeg",
    ".ipynb_checkpoints/notes.ipynb",
    "__MACOSX/train/NORMAL/._1.jpeg",
    "train/NORMAL/._1.jpeg",
    "train/.DS_Store",
    "train/NORMAL/Thumbs.db",
    "train/NORMAL/Desktop.ini",
]
STRAYS = {
    "train/NORMAL/notes.txt": "neither",
    "train/NORMAL/films.7z": "neither",
    "train/patients.csv": "outside",
    "train/1.jpeg": "outside",
    "readme.txt": "outside",
    "val": "outside",
    "train/COVID/1.jpeg": "outside",
    "chest_xray/train/NORMAL/1.jpeg": "outside",
    "Train/NORMAL/1.jpeg": "must be called train",
    "train/Normal/1.jpeg": "must be called NORMAL",
    "Patients.csv": "must be called patients.csv",
    "patients.txt": "must be called patients.csv",
    "train/NORMAL/PNEUMONIA/1.jpeg": "a class within a class",
    "train/NORMAL/chest_xray/1.jpeg": "a class within a class",
}


@pytest.mark.parametrize("path", FILMS)
def test_a_film_is_a_film(path: str) -> None:
    assert judge(path, 10).kind == judge(path).kind == "film"


@pytest.mark.parametrize("path", BESIDE)
def test_what_lies_beside_the_films_is_known(path: str) -> None:
    assert judge(path).kind == judge(path, 0).kind == "beside"


@pytest.mark.parametrize(("path", "why"), STRAYS.items())
def test_what_is_neither_is_a_stray_and_says_why_without_naming_it(path: str, why: str) -> None:
    assert judge(path).kind == "stray" and why in judge(path).why and path not in judge(path).why


def test_an_empty_film_is_a_stray() -> None:
    assert judge("train/NORMAL/1.jpeg", 0).why == "is empty"


def test_class_folders_may_lie_at_the_top_where_there_are_no_splits() -> None:
    judged = {
        path: judge(path, splits=()).kind for path in ("NORMAL/1.png", "1.png", "train/NORMAL/1.png", "val/1.png")
    }
    assert judged == {"NORMAL/1.png": "film", "1.png": "stray", "train/NORMAL/1.png": "stray", "val/1.png": "stray"}
    assert judge("patients.csv", splits=()).kind == "beside"


def test_a_number_after_a_dot_is_no_suffix() -> None:
    assert [suffix_of(name) for name in ("a.JPEG", "CR.1.2.5", "IM0001", "1.2.5-0a1b", "a.b.dcm")] == [
        ".jpeg", "", "", "", ".dcm",
    ]  # fmt: skip


WHOLE = [f"{split}/{label}/film.png" for split in ("train", "test") for label in ("NORMAL", "PNEUMONIA")]


@pytest.fixture
def with_one_more(tmp_path: Path) -> Callable[[str], Path]:
    """Make a folder of a whole dataset and another file."""

    def make(path: str) -> Path:
        for file in (*WHOLE, path):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            if not file.endswith("/"):
                (tmp_path / file).write_bytes(b"a film")
        return tmp_path

    return make


@pytest.fixture(scope="module")
def dag(repo: Path) -> Any:
    """The DAGs' module of datasets, with dags/ on the path as Airflow has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repo / "dags")
        return importlib.import_module("cxr_pipeline.dataset")


def as_listed(*paths: str) -> list[dict[str, Any]]:
    """What S3 would say of these."""
    return [{"Key": f"datasets/x/{path}", "Size": 0 if path.endswith("/") else 6, "ETag": path} for path in paths]


@pytest.mark.parametrize(("path", "kind"), [*((p, "film") for p in FILMS), *((p, "beside") for p in BESIDE)])
def test_upload_dag_and_job_judge_a_file_alike(
    with_one_more: Callable[[str], Path], dag: Any, path: str, kind: str
) -> None:
    root = with_one_more(path)
    expected = {*WHOLE, path} if kind == "film" else {*WHOLE}
    with open_dataset(root) as found:
        assert {film.path for film in found.films} == expected
    assert {file for films in listing(root).values() for file, _ in films} == expected
    listed, without = (dag.read_listing("datasets/x/", as_listed(*paths)) for paths in ([*WHOLE, path], WHOLE))
    assert sum(n for labels in listed.counts.values() for n in labels.values()) == len(expected)
    assert listed.strays == {} and (listed.digest != without.digest) == (kind == "film" or path == "patients.csv")


@pytest.mark.parametrize("path", [path for path in STRAYS if not path.startswith(WRAPPING)])
def test_upload_dag_and_job_refuse_a_stray_alike(with_one_more: Callable[[str], Path], dag: Any, path: str) -> None:
    """But for Kaggle's wrapping folder, into which the upload looks."""
    root, why = with_one_more(path), judge(path).why
    with pytest.raises(DatasetError, match=re.escape(f"{path} {why}")), open_dataset(root):
        pass
    with pytest.raises(BadDataset, match=rf"[0-9a-f]{{16}} {re.escape(why)}"):
        listing(root)
    with pytest.raises(dag.DatasetRefused, match=re.escape(why)):
        dag.check(dag.read_listing("datasets/x/", as_listed(*WHOLE, path)), 1)


def test_junk_is_known_at_any_depth() -> None:
    assert is_junk(("a", "__MACOSX", "b")) and is_junk((".git", "config")) and not is_junk(("train", "NORMAL", "a.png"))


def test_a_prefix_lies_below_datasets_and_ends_in_a_slash() -> None:
    accepted = [
        text
        for text in ("", "datasets/a/", "datasets/a/b/", "datasets/", "datasets/a", "a/", "datasets/a//")
        if re.fullmatch(PREFIX_OR_NONE, text)
    ]
    assert accepted == ["", "datasets/a/", "datasets/a/b/"]


def test_ten_names_are_told_and_the_rest_is_counted() -> None:
    assert some(["a", "b"]) == "a; b" and some([str(n) for n in range(12)]).endswith("9 and 2 more")
