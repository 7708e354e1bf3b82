"""The search for the recipe `end_to_end` is written down whole, and the test films were opened for announced runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.labels import CLASSES
from training_job import scores

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


def test_the_published_figures_can_be_recomputed_from_the_predictions(recipes: dict[str, Any]) -> None:
    for run in recipes["test"]:
        with (RESULTS / run["predictions"]).open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        labels = np.array([CLASSES.index(row["label"]) for row in rows])
        probabilities = np.array([float(row["probability"]) for row in rows])
        ok = np.array([row["status"] == "ok" for row in rows])
        assert len(rows) == 624
        assert run["auroc"]["value"] == pytest.approx(scores.auroc(labels, probabilities), abs=1e-4)
        for cut, figures in ((run["threshold"], run["at_threshold"]), (0.5, run["at_half"])):
            right = (probabilities >= cut) == (labels == 1)
            assert figures["accuracy"]["value"] == pytest.approx(right.mean(), abs=1e-4)
            assert figures["sensitivity"]["value"] == pytest.approx(right[labels == 1].mean(), abs=1e-4)
            assert figures["specificity"]["value"] == pytest.approx(right[labels == 0].mean(), abs=1e-4)
        assert run["answered"]["ok"] == pytest.approx(ok.mean(), abs=1e-4)


def test_the_table_of_the_documents_says_what_was_measured(recipes: dict[str, Any]) -> None:
    rows = iter(recipes["tables"]["end_to_end"]["rows"])
    for run in recipes["test"]:
        for figures in (run["at_threshold"], run["at_half"]):
            row = next(rows)
            assert row[2] == pytest.approx(run["auroc"]["value"], abs=5e-5)
            shown = [figures[name]["value"] for name in ("accuracy", "sensitivity", "specificity")]
            assert row[3:6] == [round(100 * value, 1) for value in shown]
    assert next(rows, None) is None, "a row of no run"
