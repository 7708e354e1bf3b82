from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training_job import scores

QUANTILES = {"NORMAL": 0.5, "PNEUMONIA": None}


def test_wilsons_interval_is_the_published_one() -> None:
    """568 of 624 films: 91.03 % [88.5, 93.0]."""
    figure: dict[str, Any] = scores.share(568, 624)
    assert (round(100 * figure["low"], 1), round(100 * figure["high"], 1)) == (88.5, 93.0)
    assert scores.share(0, 0) == {"value": None, "low": None, "high": None}


def test_ece_is_zero_for_a_calibrated_and_large_for_a_boastful_model() -> None:
    labels = np.tile([1, 1, 1, 0], 100)
    assert scores.ece(labels, np.full(400, 0.75)) == pytest.approx(0.0, abs=1e-9)
    assert scores.ece(labels, np.full(400, 1.0)) == pytest.approx(0.25)


def test_the_table_counts_what_a_hand_would_count() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.array([0.1, 0.4, 0.8, 0.3, 0.7, 0.9])
    statuses = ["ok", "uncertain", "ok", "uncertain", "ok", "out_of_distribution"]
    table = scores.evaluate(labels, probabilities, statuses, list("abcdef"), 0.5, QUANTILES)
    assert table["at_threshold"]["confusion"] == {"tp": 2, "fp": 1, "tn": 2, "fn": 1}
    assert table["at_threshold"]["accuracy"]["value"] == pytest.approx(4 / 6)
    assert table["auroc"]["value"] == pytest.approx(6 / 9)
    assert table["coverage"]["ok"] == 0.5
    assert table["accuracy_on_ok"]["value"] == pytest.approx(2 / 3) and table["accuracy_on_ok"]["n"] == 3
    assert table["conformal"]["NORMAL"]["coverage"] == pytest.approx(2 / 3)
    assert table["conformal"]["PNEUMONIA"]["coverage"] == 1.0
    assert table["status_counts"] == {"ok": 3, "uncertain": 2, "out_of_distribution": 1, "unreadable": 0}


def test_the_error_of_the_conformal_sets_is_told_beside_their_coverage() -> None:
    """Quantiles 0.5 and 0.3: the set is {NORMAL} up to 0.5, empty up to 0.7, {PNEUMONIA} from there on."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    probabilities = np.array([0.1, 0.2, 0.6, 0.9, 0.3, 0.6, 0.65, 0.8, 0.9])
    sets = scores.conformal_sets(labels, probabilities, {"NORMAL": 0.5, "PNEUMONIA": 0.3})
    kinds = ("coverage", "single", "both", "empty", "wrong_single")
    found = {name: [row["coverage"], *(row[kind]["value"] for kind in kinds[1:])] for name, row in sets.items()}
    assert found == {
        "NORMAL": pytest.approx([2 / 4, 3 / 4, 0, 1 / 4, 1 / 4]),
        "PNEUMONIA": pytest.approx([2 / 5, 3 / 5, 0, 2 / 5, 1 / 5]),
    }
    wide = scores.conformal_sets(labels, probabilities, QUANTILES)["NORMAL"]
    assert (wide["both"]["value"], wide["wrong_single"]["value"]) == (pytest.approx(2 / 4), pytest.approx(2 / 4))
    assert wide["wrong_single"]["low"] < 2 / 4 < wide["wrong_single"]["high"]


def test_the_sets_are_those_of_the_verdict() -> None:
    from cxr.labels import CLASSES
    from cxr.verdict import Limits, judge

    limits = Limits(0.5, 0.42, 0.37, 0.05, 10.0)
    probabilities = np.linspace(0, 1, 41)
    sets = scores.conformal_sets(np.zeros(41, int), probabilities, {"NORMAL": 0.42, "PNEUMONIA": 0.37})["NORMAL"]
    given = [judge(float(p), 0.0, 0.0, limits).conformal_set for p in probabilities]
    assert sets["wrong_single"]["value"] == given.count((CLASSES[1],)) / 41
    assert sets["single"]["value"] == sum(len(one) == 1 for one in given) / 41


def test_a_split_with_one_class_has_no_auroc_and_breaks_nothing() -> None:
    table = scores.evaluate(np.array([1, 1]), np.array([0.2, 0.9]), ["ok", "ok"], ["a", "b"], 0.5, QUANTILES)
    assert table["auroc"] == {"value": None, "low": None, "high": None}
    assert table["at_threshold"]["specificity"]["value"] is None
    assert table["conformal"]["NORMAL"]["wrong_single"]["value"] is None


def test_intervals_widen_when_films_belong_to_few_patients() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    noise = np.repeat(rng.normal(0, 1, 20), 10)
    probabilities = 1 / (1 + np.exp(-(2 * labels - 1 + noise)))

    def width(patients: list[str]) -> float:
        figure: dict[str, Any] = scores.intervals({"a": scores.auroc}, labels, probabilities, patients)["a"]
        return figure["high"] - figure["low"]

    assert width([str(n // 10) for n in range(200)]) > 1.5 * width([str(n) for n in range(200)])


def test_auroc_by_ranks_is_the_area_under_the_curve_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(3)
    labels, probabilities = rng.integers(0, 2, 300), rng.random(300).round(1)
    assert scores.auroc(labels, probabilities) == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)


def test_the_interval_of_the_calibration_error_holds_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 splits of 624 films, probabilities 0.04 too high: percentiles of the resamples miss that in nearly all."""
    monkeypatch.setattr(scores, "RESAMPLES", 200)
    rng = np.random.default_rng(8)
    patients, held = [str(n) for n in range(624)], []
    for _ in range(40):
        truth = rng.uniform(0.05, 0.9, 624)
        labels = (rng.random(624) < truth).astype(int)
        figure: dict[str, Any] = scores.intervals({"ece": scores.ece}, labels, truth + 0.04, patients)["ece"]
        assert figure["low"] <= figure["value"] <= figure["high"]
        held.append(figure["low"] <= 0.04 <= figure["high"])
    assert np.mean(held) >= 0.85


def test_risk_is_the_share_of_wrong_answers_among_the_most_confident() -> None:
    """By confidence: 0.95 right, 0.1 (0.9) right, 0.8 wrong, 0.6 right."""
    labels, probabilities = np.array([1, 0, 0, 1]), np.array([0.95, 0.1, 0.8, 0.6])
    curve = scores.risk_coverage(labels, probabilities, 0.5)
    assert curve["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"] == pytest.approx([0.0, 0.0, 1 / 3, 1 / 4])
    assert curve["aurc"] == pytest.approx(7 / 48)
