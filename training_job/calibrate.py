"""The numbers that a verdict needs, each from the outputs on some films. Pure functions of arrays: nothing here sees a
network; which films serve which number is said in limits.py.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from sklearn.covariance import LedoitWolf

OOD_PERCENTILE = 99.0


def conformal_quantile(probabilities_of_class: np.ndarray, alpha: float) -> float | None:
    """The split-conformal quantile of 1 - p over films of one class: the ceil((n + 1)(1 - alpha))-th smallest.

    None (infinite: the class is never excluded, its films are answered only if the other class is) when n is too small
    for alpha, i.e. n < 1 / alpha - 1.
    """
    scores = np.sort(1.0 - np.asarray(probabilities_of_class, np.float64))
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return float(np.clip(scores[rank - 1], 0.0, 1.0)) if 1 <= rank <= len(scores) else None


def patients_needed(alpha: float) -> int:
    """The fewest patients of a class whose conformal quantile is finite: n >= 1 / alpha - 1."""
    return math.ceil(1 / alpha - 1 - 1e-9)


def one_per_patient(patients: list[str], labels: np.ndarray, files: list[str]) -> np.ndarray:
    """Rows of one film per patient and class, picked by the hash of its path: films of a patient are not exchangeable
    with those of others, patients are."""
    chosen: dict[tuple[str, int], tuple[str, int]] = {}
    for row, (patient, label, file) in enumerate(zip(patients, labels.tolist(), files, strict=True)):
        rank = (hashlib.sha256(file.encode()).hexdigest(), row)
        chosen[(patient, label)] = min(rank, chosen.get((patient, label), rank))
    return np.array(sorted(row for _, row in chosen.values()), np.int64)


def whitening(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean [d], matrix [d, d]) such that |(x - mean) @ matrix| is Mahalanobis' distance; Ledoit-Wolf covariance.

    Directions without any variance (dead channels) are floored at a millionth of the largest variance.
    """
    fitted = LedoitWolf().fit(np.asarray(embeddings, np.float64))
    values, vectors = np.linalg.eigh(fitted.covariance_)
    floor = max(values.max() * 1e-6, 1e-12)
    return fitted.location_, vectors / np.sqrt(np.maximum(values, floor))


def distances(embeddings: np.ndarray, mean: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Mahalanobis distances [n] of embeddings [n, d]."""
    return np.linalg.norm((np.asarray(embeddings, np.float64) - mean) @ matrix, axis=1)


def ood_limit(calibrate_distances: np.ndarray) -> float:
    """The 99th percentile of the calibrate films' distances."""
    return float(max(np.percentile(calibrate_distances, OOD_PERCENTILE), 1e-6))
