from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from cxr.hyperparameters import Hyperparameters
from training_job import calibrate, limits
from training_job.dataset import Dataset, Films


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
        assert quantile is not None
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


def test_the_covariance_is_shrunk_where_films_are_fewer_than_dimensions() -> None:
    """Thirty films span 29 directions of a hundred: unshrunk, any step out of them would be infinitely far."""
    rng = np.random.default_rng(3)
    films = rng.normal(size=(30, 100))
    mean, matrix = calibrate.whitening(films)
    covariance = LedoitWolf().fit(films).covariance_
    fresh = rng.normal(size=(5, 100))
    expected = np.sqrt(np.einsum("ni,ij,nj->n", fresh - mean, np.linalg.inv(covariance), fresh - mean))
    assert calibrate.distances(fresh, mean, matrix) == pytest.approx(expected, rel=1e-6)


def test_one_film_in_a_hundred_lies_beyond_the_distance_limit() -> None:
    distances = np.arange(1.0, 1001.0)
    assert (distances > calibrate.ood_limit(distances)).sum() == 10


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.1, 9), (0.2, 4), (0.3, 3)])
def test_the_fewest_patients_for_alpha_are_those_of_a_finite_quantile(alpha: float, needed: int) -> None:
    assert calibrate.patients_needed(alpha) == needed
    assert calibrate.conformal_quantile(np.full(needed, 0.5), alpha) is not None
    assert calibrate.conformal_quantile(np.full(needed - 1, 0.5), alpha) is None


def calibrated(**changes: dict[str, Any]) -> limits.Calibration:
    """limits.calibrated of three buckets of 60 films of 40 patients; `logits` and `embeddings` may be changed."""
    rng = np.random.default_rng(4)
    names = ("tune", "calibrate", "train")
    rows = {name: np.arange(60 * i, 60 * (i + 1)) for i, name in enumerate(names)}
    labels = np.tile([0, 1], 90)
    logits = {name: np.where(labels[rows[name]] == 1, 1.0, -1.0) + rng.normal(0, 1.5, 60) for name in names}
    embeddings = {name: rng.normal(size=(60, 8)).astype(np.float32) for name in names}
    for bucket, values in changes.get("logits", {}).items():
        logits[bucket] = logits[bucket] + values
    for bucket, values in changes.get("embeddings", {}).items():
        embeddings[bucket] = embeddings[bucket] * values
    films = Films(
        [f"{row}.png" for row in range(180)],
        np.zeros((180, 1, 1), np.uint8),
        labels,
        [f"p{row % 60 // 3 * 2 + row % 2}" for row in range(180)],
        [str(row) for row in range(180)],
        np.zeros(180),
    )
    dataset = Dataset(Path(), films, films, rows, "d", {})
    raw = {name: limits.Raw(logits[name], embeddings[name]) for name in names}
    for name, copies in limits.STRESSED_COPIES.items():
        raw[limits.stressed(name)] = limits.Raw(np.tile(logits[name] * 0.9, copies), np.empty((0, 8), np.float32))
    return limits.calibrated(raw, dataset, Hyperparameters(alpha=0.1))


def moved(**changes: dict[str, Any]) -> set[str]:
    """Which of the numbers of a calibration other outputs on one bucket move."""
    before, after = calibrated(), calibrated(**changes)
    numbers: dict[str, Callable[[limits.Calibration], Any]] = {
        "line": lambda one: one.line,
        "threshold": lambda one: one.limits.threshold,
        "quantiles": lambda one: (one.limits.quantile_normal, one.limits.quantile_pneumonia),
        "ood_limit": lambda one: one.limits.ood_limit,
        "mean": lambda one: one.mean.tolist(),
    }
    return {name for name, number in numbers.items() if number(before) != number(after)}


def test_each_bucket_sets_its_own_numbers_and_no_other() -> None:
    """The line shifts the calibrate films' probabilities with them, so the quantiles follow."""
    spread = np.linspace(-1, 1, 60)
    assert moved(logits={"tune": spread}) == {"line", "threshold", "quantiles"}
    assert moved(logits={"calibrate": spread}) == {"quantiles"}
    assert moved(logits={"train": spread}) == set()
    assert moved(embeddings={"tune": np.float32(2)}) == set()
    assert moved(embeddings={"calibrate": np.float32(2)}) == {"ood_limit"}
    assert moved(embeddings={"train": np.float32(2)}) == {"mean", "ood_limit"}


def test_the_quantiles_count_patients_not_films() -> None:
    """60 calibrate films of 20 patients per class, some with two films of their class."""
    counts = calibrated().counts
    assert counts == {"NORMAL": 20, "PNEUMONIA": 20} and sum(counts.values()) < 60
