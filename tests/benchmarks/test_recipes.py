"""The search for the recipe `end_to_end` is written down whole, and the test films were opened for announced runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    return json.loads((RESULTS / "recipes.json").read_text())


def test_every_run_says_what_it_was_and_how_it_fared_on_stressed_films(recipes: dict[str, Any]) -> None:
    assert recipes["runs"]
    for run in recipes["runs"]:
        assert {"side", "epochs", "seed", "crops", "minutes", "peak_memory_mib"} <= set(run)
        assert len(run["history"]) == run["epochs"]
        assert 0.5 < run["tune"]["stressed_auroc"] <= run["tune"]["tune_auroc"] <= 1


def test_the_test_films_were_opened_for_announced_runs_alone(recipes: dict[str, Any]) -> None:
    opened = [one["run"] for one in recipes["test"]]
    assert set(opened) <= set(recipes["test_opened_for"]) and len(set(opened)) == len(opened)


def test_where_the_idea_of_crops_came_from_is_said(recipes: dict[str, Any]) -> None:
    assert "crops itself came from figures of other projects on these test films" in recipes["note"]
