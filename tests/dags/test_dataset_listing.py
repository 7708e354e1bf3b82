"""A dataset is judged by its listing: junk is counted, poor datasets are refused with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cxr_pipeline.dataset import DatasetRefused, check, read_listing

PREFIX = "datasets/x/"


def films(n: int = 3, prefix: str = PREFIX) -> list[dict[str, Any]]:
    return [
        {"Key": f"{prefix}{split}/{label}/{i}.jpeg", "Size": 10, "ETag": f'"{split}{label}{i}"'}
        for split in ("train", "test")
        for label in ("NORMAL", "PNEUMONIA")
        for i in range(n)
    ]


def one(key: str, size: int = 5) -> dict[str, Any]:
    return {"Key": PREFIX + key, "Size": size, "ETag": '"e"'}


def test_films_are_counted_by_split_and_class() -> None:
    found = read_listing(PREFIX, films(3))
    assert found.counts == {s: {"NORMAL": 3, "PNEUMONIA": 3} for s in ("train", "test")}
    check(found, 3)


@pytest.mark.parametrize(
    "key",
    ["__MACOSX/train/NORMAL/._1.jpeg", "train/NORMAL/.DS_Store", "train/NORMAL/Thumbs.db", "val/NORMAL/1.jpeg",
     "complete.json", "train/NORMAL/", ".ipynb_checkpoints/train/NORMAL/1.jpeg", "train/.gitkeep"],
)  # fmt: skip
def test_what_lies_beside_the_films_is_not_read(key: str) -> None:
    found = read_listing(PREFIX, [*films(), one(key)])
    assert (found.strays, found.counts) == ({}, read_listing(PREFIX, films()).counts)
    assert found.digest == read_listing(PREFIX, films()).digest
    check(found, 3)


@pytest.mark.parametrize(
    "key",
    ["train/OTHER/1.jpeg", "readme.txt", "train/NORMAL/notes.txt", "train/patients.csv", "Train/NORMAL/1.jpeg",
     "chest_xray/train/NORMAL/1.jpeg", "train/NORMAL/1.jpeg.bak"],
)  # fmt: skip
def test_what_would_be_overlooked_is_refused_by_its_place_and_not_by_its_name(key: str) -> None:
    found = read_listing(PREFIX, [*films(), one(key)])
    with pytest.raises(DatasetRefused, match=r"place 13 of the listing") as refused:
        check(found, 3)
    assert key.rpartition("/")[2] not in str(refused.value)


def test_the_training_job_reads_what_the_listing_counts(tmp_path: Path) -> None:
    """One rule: what is a film here is one there, also where a film lies deeper or is named by its DICOM UID."""
    from training_job.dataset import listing

    paths = [*(f["Key"].removeprefix(PREFIX) for f in films()), "train/NORMAL/ward 3/x.PNG", "complete.json"]
    paths += ["train/NORMAL/CR.1.2.840.113619.2.55", "train/PNEUMONIA/IM0001", "train/NORMAL/.gitkeep"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = read_listing(PREFIX, map(one, paths))
    assert {split: sum(found.counts[split].values()) for split in found.counts} == {
        split: len(there) for split, there in listing(tmp_path).items()
    }
    assert found.counts["train"] == {"NORMAL": 5, "PNEUMONIA": 4}


def test_a_nested_archive_is_refused_with_the_prefix_to_use() -> None:
    with pytest.raises(DatasetRefused, match="use datasets/x/chest_xray/"):
        check(read_listing(PREFIX, films(prefix=f"{PREFIX}chest_xray/")), 1)


def test_too_few_films_are_refused_with_the_numbers() -> None:
    with pytest.raises(DatasetRefused, match=r"train/NORMAL: 3.*at least 4"):
        check(read_listing(PREFIX, films(3)), 4)


def test_an_empty_film_is_refused() -> None:
    with pytest.raises(DatasetRefused, match="1 x is empty"):
        check(read_listing(PREFIX, [*films(), one("train/NORMAL/empty.jpeg", size=0)]), 3)


def test_the_digest_changes_with_any_film_and_not_with_the_order() -> None:
    base = read_listing(PREFIX, films()).digest
    assert read_listing(PREFIX, list(reversed(films()))).digest == base
    changed = films()
    changed[4]["ETag"] = '"other"'
    assert read_listing(PREFIX, changed).digest != base
    assert read_listing(PREFIX, films()[1:]).digest != base


@pytest.mark.parametrize("name", ["patients.csv", "subtypes.csv"])
def test_the_digest_changes_with_the_lists_which_are_no_junk(name: str) -> None:
    without = read_listing(PREFIX, films())
    listed = read_listing(PREFIX, [*films(), one(name)])
    assert (listed.counts, listed.ignored) == (without.counts, {})
    changed = read_listing(PREFIX, [*films(), {**one(name), "ETag": '"other"'}])
    assert len({without.digest, listed.digest, changed.digest}) == 3


def test_half_a_corrected_version_is_refused_and_a_whole_one_is_not() -> None:
    """A first dataset needs no mark; the remedy names the version before."""
    prefix = "datasets/x-v3/"
    mark = {"Key": f"{prefix}complete.json", "Size": 9, "ETag": '"m"'}
    with pytest.raises(DatasetRefused, match=r"x-v3/ lacks complete\.json.*corrections on datasets/x-v2/ again"):
        check(read_listing(prefix, films(3, prefix)), 3)
    check(read_listing(prefix, [*films(3, prefix), mark]), 3)
