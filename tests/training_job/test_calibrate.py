from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from training_job import calibrate


def test_temperature_recovers_the_factor_by_which_logits_were_inflated() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    labels = (rng.random(40_000) < expit(logits)).astype(int)
    assert calibrate.temperature(logits * 3.0, labels) == pytest.approx(3.0, rel=0.03)


def test_perfect_separation_does_not_make_the_model_certain() -> None:
    labels = np.array([0, 0, 1, 1])
    assert calibrate.temperature(np.array([-3.0, -2, 2, 3]), labels) >= calibrate.TEMPERATURE_RANGE[0] - 1e-6
    assert calibrate.temperature(np.array([2.0, 3.0]), np.array([1, 1])) == 1.0


def test_the_threshold_keeps_the_sensitivity_floor_even_where_it_costs_balance() -> None:
    probabilities = np.array([0.1, 0.2, 0.3, 0.6, 0.25, 0.7, 0.8, 0.9])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    free, strict = (calibrate.threshold(probabilities, labels, floor) for floor in (0.0, 1.0))
    assert 0.3 < free < 0.7 and free > 0.6
    assert 0.2 < strict < 0.25
    assert (probabilities[labels == 1] >= strict).all()


def test_the_threshold_lies_in_the_middle_of_a_gap() -> None:
    cut = calibrate.threshold(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 1]), 0.95)
    assert cut == pytest.approx(0.5, abs=1e-6)


def test_a_one_class_tune_set_falls_back_to_one_half() -> None:
    assert calibrate.threshold(np.array([0.2, 0.4]), np.array([0, 0]), 0.95) == 0.5


def test_the_quantile_is_infinite_exactly_when_the_films_are_too_few() -> None:
    assert calibrate.conformal_quantile(np.full(18, 0.9), 0.05) is None
    assert calibrate.conformal_quantile(np.full(19, 0.9), 0.05) == pytest.approx(0.1)
    assert calibrate.conformal_quantile(np.array([]), 0.05) is None


def test_the_conformal_sets_cover_fresh_films_of_the_class() -> None:
    """Split conformal promises at least 1 - alpha on average over calibration sets: 600 of them, 40 films each."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(600):
        scores = rng.beta(2, 5, 140)
        quantile = calibrate.conformal_quantile(1 - scores[:40], 0.1)
        covered.append((scores[40:] <= quantile).mean())
    assert 0.895 <= np.mean(covered) <= 0.92


def test_a_patient_with_many_films_counts_once_per_class() -> None:
    rows = calibrate.one_per_patient(["a", "a", "a", "b"], np.array([0, 0, 1, 0]), ["1", "2", "3", "4"])
    assert len(rows) == 3 and set(rows) >= {2, 3}
    assert list(rows) == list(calibrate.one_per_patient(["a", "a", "a", "b"], np.array([0, 0, 1, 0]), list("1234")))


def test_distances_are_mahalanobis_and_survive_dead_channels() -> None:
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(6, 6))
    films = rng.normal(size=(20_000, 6)) @ mixing + 3.0
    films = np.hstack([films, np.zeros((len(films), 1))])
    mean, matrix = calibrate.whitening(films)
    point = rng.normal(size=(5, 6)) @ mixing
    inverse = np.linalg.inv(mixing.T @ mixing)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", point - 3.0, inverse, point - 3.0))
    got = calibrate.distances(np.hstack([point, np.zeros((5, 1))]), mean, matrix)
    assert got == pytest.approx(expected, rel=0.05)
    assert math.isfinite(calibrate.ood_limit(got))
