"""The join of two listings finds exactly the uploads that lack a current answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cxr_pipeline.ledger import LONGEST, Ledger

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def obj(key: str, minutes: float, size: int = 9) -> dict[str, Any]:
    return {"Key": key, "LastModified": NOON + timedelta(minutes=minutes), "Size": size}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as made:
        yield made


def test_an_upload_without_a_result_is_found(ledger: Ledger) -> None:
    ledger.add_uploads([obj("a.png", 0), obj("b.png", 0)])
    ledger.add_results([obj("results/a.png.json", 1)])
    assert list(ledger.unanswered(NOON + timedelta(hours=1))) == ["b.png"]


def test_a_result_older_than_its_upload_answers_another_film(ledger: Ledger) -> None:
    ledger.add_uploads([obj("a.png", 5)])
    ledger.add_results([obj("results/a.png.json", 1)])
    assert list(ledger.unanswered(NOON + timedelta(hours=1))) == ["a.png"]


def test_byte_order_does_not_matter(ledger: Ledger) -> None:
    keys = ["a.png", "a.png.bak", "a.png-1", "a.pngz"]
    assert sorted(keys) != [k.removesuffix(".json") for k in sorted(f"{k}.json" for k in keys)]
    ledger.add_uploads(obj(key, 0) for key in sorted(keys))
    ledger.add_results(obj(key, 1) for key in sorted(f"results/{k}.json" for k in keys))
    assert list(ledger.unanswered(NOON + timedelta(hours=1))) == []


def test_young_uploads_are_left_to_the_live_queue(ledger: Ledger) -> None:
    ledger.add_uploads([obj("young.png", 0)])
    assert list(ledger.unanswered(NOON)) == []


def test_folders_and_golden_films_are_no_uploads(ledger: Ledger) -> None:
    ledger.add_uploads([obj("ward/", 0, size=0), obj("_smoke/run/x.png", 0)])
    assert ledger.counts() == (0, 0)


def test_an_empty_upload_waits_for_its_answer_too(ledger: Ledger) -> None:
    ledger.add_uploads([obj("ward/aborted.png", 0, size=0)])
    assert list(ledger.unanswered(NOON + timedelta(hours=1))) == ["ward/aborted.png"]


def test_answers_of_another_model_are_outdated(ledger: Ledger) -> None:
    ledger.add_uploads([obj("old.png", -60), obj("new.png", -60), obj("early.png", -900)])
    ledger.add_results([obj(f"results/{key}.png.json", m) for key, m in (("old", -30), ("new", 30), ("early", -800))])
    assert list(ledger.outdated(NOON, None)) == ["early.png", "old.png"]
    assert list(ledger.outdated(NOON, NOON - timedelta(hours=2))) == ["old.png"]


def test_wanted_films_are_accounted_for(ledger: Ledger) -> None:
    ledger.add_uploads([obj("a", 0), obj("b", 0), obj("c", 0)])
    ledger.add_results([obj("results/a.json", 1), obj("results/c.json", 20)])
    ledger.add_wanted(["a", "b", "c", "deleted meanwhile"])
    assert list(ledger.missing()) == ["b"]
    assert list(ledger.rewritten(NOON + timedelta(minutes=10))) == ["c"]


def test_an_upload_whose_result_s3_would_refuse_is_told_apart(ledger: Ledger) -> None:
    """Bytes count, not letters."""
    longest, longer = "ä" * (LONGEST // 2) + "x" * (LONGEST % 2), "ä" * (LONGEST // 2) + "xx"
    ledger.add_uploads([obj(longest, 0), obj(longer, 0)])
    assert list(ledger.unanswered(NOON + timedelta(hours=1))) == [longest]
    assert list(ledger.unanswerable()) == [longer]
