"""What the project publishes about accuracy is what its committed predictions say."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cxr.labels import CLASSES
from cxr.verdict import Limits, judge
from training_job import scores

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
RUNS = json.loads((RESULTS / "accuracy.json").read_text())["runs"]


def predictions(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"predictions-{name}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def columns(name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rows = predictions(name)
    labels = np.array([CLASSES.index(row["label"]) for row in rows])
    return labels, np.array([float(row["probability"]) for row in rows]), [row["status"] for row in rows]


@pytest.mark.parametrize("run", RUNS, ids=[run["run"] for run in RUNS])
def test_published_figures_can_be_recomputed_from_the_committed_predictions(run: dict) -> None:
    labels, probabilities, statuses = columns(run["run"])
    assert Counter(labels.tolist()) == {0: 234, 1: 390} and run["n_test"] == 624
    positive, ok = probabilities >= run["threshold"], np.array(statuses) == "ok"
    right = positive == (labels == 1)
    assert run["accuracy"] == pytest.approx(right.mean(), abs=1e-9)
    assert run["sensitivity"] == pytest.approx(positive[labels == 1].mean(), abs=1e-9)
    assert run["specificity"] == pytest.approx((~positive[labels == 0]).mean(), abs=1e-9)
    assert run["auroc"] == pytest.approx(scores.auroc(labels, probabilities), abs=1e-9)
    assert run["ece"] == pytest.approx(scores.ece(labels, probabilities), abs=1e-9)
    half = probabilities >= 0.5
    assert run["at_half"]["accuracy"] == pytest.approx((half == (labels == 1)).mean(), abs=1e-9)
    assert run["at_half"]["sensitivity"] == pytest.approx(half[labels == 1].mean(), abs=1e-9)
    assert run["at_half"]["specificity"] == pytest.approx((~half[labels == 0]).mean(), abs=1e-9)
    for name, hits in (
        ("accuracy", right),
        ("sensitivity", positive[labels == 1]),
        ("specificity", ~positive[labels == 0]),
    ):
        wilson = scores.share(int(hits.sum()), len(hits))
        assert run["intervals"][name] == pytest.approx([wilson["low"], wilson["high"]], abs=1e-9)
    assert run["coverage"] == pytest.approx(ok.mean(), abs=1e-9)
    expected = pytest.approx(right[ok].mean(), abs=1e-9) if ok.any() else None  # nothing answered, nothing to share
    assert run["accuracy_on_ok"] == expected


@pytest.mark.parametrize("run", RUNS, ids=[run["run"] for run in RUNS])
def test_published_statuses_are_the_verdicts_on_the_published_limits(run: dict) -> None:
    """All test films are grey."""
    limits = Limits(
        threshold=run["threshold"],
        quantile_normal=run["quantile"]["NORMAL"],
        quantile_pneumonia=run["quantile"]["PNEUMONIA"],
        alpha=run["alpha"],
        ood_limit=run["ood_limit"],
        low_confidence=run["low_confidence"],
    )
    for row in predictions(run["run"]):
        verdict = judge(float(row["probability"]), float(row["ood_distance"]), 0.0, limits)
        assert verdict.status == row["status"], row


def test_no_figure_is_published_without_the_source_of_its_weights() -> None:
    """What a run did to them first stands behind the source."""
    source = "vgg16 from scratch on the Kermany train patients"
    assert RUNS and all(run["weights"].partition(", then ")[0] == source for run in RUNS)
