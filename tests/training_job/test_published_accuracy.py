"""What the project publishes about accuracy is what its committed predictions say."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training_job import scores
from training_job.dataset import CLASSES

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
RUNS = json.loads((RESULTS / "accuracy.json").read_text())["runs"]


def predictions(name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    with (RESULTS / f"predictions-{name}.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    labels = np.array([CLASSES.index(row["label"]) for row in rows])
    return labels, np.array([float(row["probability"]) for row in rows]), [row["status"] for row in rows]


@pytest.mark.parametrize("run", RUNS, ids=[run["run"] for run in RUNS])
def test_published_figures_can_be_recomputed_from_the_committed_predictions(run: dict) -> None:
    labels, probabilities, statuses = predictions(run["run"])
    assert Counter(labels.tolist()) == {0: 234, 1: 390} and run["n_test"] == 624
    positive, ok = probabilities >= run["threshold"], np.array(statuses) == "ok"
    right = positive == (labels == 1)
    assert run["accuracy"] == pytest.approx(right.mean(), abs=1e-9)
    assert run["sensitivity"] == pytest.approx(positive[labels == 1].mean(), abs=1e-9)
    assert run["specificity"] == pytest.approx((~positive[labels == 0]).mean(), abs=1e-9)
    assert run["auroc"] == pytest.approx(scores.auroc(labels, probabilities), abs=1e-4)
    assert run["ece"] == pytest.approx(scores.ece(labels, probabilities), abs=1e-3)
    assert run["coverage"] == pytest.approx(ok.mean(), abs=1e-9)
    expected = pytest.approx(right[ok].mean(), abs=1e-9) if ok.any() else None  # nothing answered, nothing to share
    assert run["accuracy_on_ok"] == expected


def test_no_figure_is_published_without_the_source_of_its_weights() -> None:
    """What a run did to them first stands behind the source."""
    source = "vgg16 from scratch on the Kermany train patients"
    assert RUNS and all(run["weights"].partition(", then ")[0] == source for run in RUNS)
