"""A reader's corrections become the next version of the dataset, or nothing is written at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pipeline import dataset
from pipeline.corrections import Correction, CorrectionsRefused, film_name, next_version, read


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "header"),
        (b"film,label\nx,NORMAL\n", "header"),
        (b"key,label\n", "names no film"),
        (b"key,label\nx.jpeg,MAYBE\n", "line 2: x.jpeg, label MAYBE"),
        (b"key,label\n,NORMAL\n", "line 2: no key"),
        (b"key,label\nx,NORMAL\nx,PNEUMONIA\n", "line 3: x is PNEUMONIA here and NORMAL before"),
    ],
)
def test_bad_corrections_are_refused_by_line(content: bytes, why: str) -> None:
    with pytest.raises(CorrectionsRefused, match=why):
        read(content)


def test_labels_are_read_in_any_case_and_a_spreadsheet_s_mark_is_dropped() -> None:
    assert read("\ufeffkey,label\nw/ä.jpeg, pneumonia\n".encode()) == [Correction("w/ä.jpeg", "PNEUMONIA")]


def test_versions_are_counted() -> None:
    assert next_version("datasets/x/") == "datasets/x-v2/"
    assert next_version("datasets/x-v9/") == "datasets/x-v10/"


def test_a_film_keeps_the_name_by_which_its_patient_is_known() -> None:
    assert film_name("ward 1/person12_virus_3.jpeg").startswith("person12_virus_3-")
    assert film_name("a/x.jpeg") != film_name("b/x.jpeg")
    assert "." not in film_name("a/IM0001")


@pytest.mark.heavy
def test_corrections_become_the_next_version_of_the_dataset(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    aws.put("uploads_bucket", "w/c.jpeg", b"a film")
    done = run("correct_labels", {"dataset": small["dataset"], "corrections": "key,label\nw/c.jpeg,normal\n"})
    assert done.state == "success"
    s3, bucket = aws.client("s3"), aws.settings["datasets_bucket"]
    found = dataset.read_listing("datasets/small-v2/", dataset.listing(s3, bucket, "datasets/small-v2/"))
    assert found.counts["train"] == {"NORMAL": 11, "PNEUMONIA": 10}
    assert found.counts["test"] == {"NORMAL": 4, "PNEUMONIA": 4}
    assert dataset.current(s3, bucket) == "datasets/small-v2/"


@pytest.mark.heavy
def test_a_corrected_test_film_does_not_leak_into_the_training(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    aws.put("datasets_bucket", "datasets/leak/test/NORMAL/1.jpeg", b"a test film")
    aws.put("uploads_bucket", "again.jpeg", b"a test film")
    done = run("correct_labels", {"dataset": "datasets/leak/", "corrections": "key,label\nagain.jpeg,NORMAL\n"})
    assert done.returned["new_version"]["test_films"] == ["again.jpeg"]
    assert done.returned["new_version"]["added"] == {"NORMAL": 0, "PNEUMONIA": 0}


@pytest.mark.heavy
def test_a_film_that_does_not_exist_stops_the_new_version(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    aws.put("datasets_bucket", "datasets/gap/test/NORMAL/1.jpeg", b"a test film")
    done = run("correct_labels", {"dataset": "datasets/gap/", "corrections": "key,label\nmissing.jpeg,NORMAL\n"})
    assert done.state == "failed"
    assert any("missing.jpeg" in line for line in done.headlines)
    assert not list(dataset.listing(aws.client("s3"), aws.settings["datasets_bucket"], "datasets/gap-v2/"))
