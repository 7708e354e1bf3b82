"""From a model's raw outputs on held-out films to the limits of its bundle.

Temperature and threshold come from the tune films, conformal quantiles and the distance limit from the calibrate films,
mean and covariance from the train films; no film serves two of these, and none is a test film.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from cxr.hyperparameters import Hyperparameters
from cxr.labels import CLASSES
from cxr.verdict import Limits
from training_job import calibrate
from training_job.dataset import Dataset, Films
from training_job.scoring import Scored, scored

# Below, the interpolated 99th percentile is hardly more than the largest of them (30 films: 3.5 % of fresh ones lie
# beyond it, 400: 1.2 %, by simulation).
OOD_FILMS = 100


@dataclass(frozen=True)
class Raw:
    """Outputs before calibration: logits float64 [n], embeddings float32 [n, 512]."""

    logits: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """All numbers of one precision; `limits` is cxr.verdict's view of them.

    whitening: see calibrate.whitening. counts: patients per class behind the quantiles. n_ood: films behind the
    distance limit.
    """

    temperature: float
    mean: np.ndarray
    whitening: np.ndarray
    limits: Limits
    counts: dict[str, int]
    n_ood: int

    def apply(self, raw: Raw, saturations: np.ndarray) -> Scored:
        """The served graph's arithmetic on raw outputs."""
        probabilities = expit(raw.logits / self.temperature)
        return scored(
            probabilities, calibrate.distances(raw.embeddings, self.mean, self.whitening), saturations, self.limits
        )


def calibrated(raw: dict[str, Raw], dataset: Dataset, settings: Hyperparameters) -> Calibration:
    """Every limit, from the raw outputs on the films of the three buckets."""
    tune = dataset.train.labels[dataset.rows["tune"]]
    temperature = calibrate.temperature(raw["tune"].logits, tune)
    cut = calibrate.threshold(expit(raw["tune"].logits / temperature), tune, settings.sensitivity_floor)
    mean, whitening = calibrate.whitening(raw["train"].embeddings)
    distances = calibrate.distances(raw["calibrate"].embeddings, mean, whitening)
    probabilities = expit(raw["calibrate"].logits / temperature)
    quantiles, counts = conformal(probabilities, dataset.bucket("calibrate"), settings.alpha)
    limits = Limits(
        threshold=cut,
        quantile_normal=quantiles["NORMAL"],
        quantile_pneumonia=quantiles["PNEUMONIA"],
        alpha=settings.alpha,
        ood_limit=calibrate.ood_limit(distances),
    )
    return Calibration(temperature, mean, whitening, limits, counts, len(distances))


def conformal(probabilities: np.ndarray, films: Films, alpha: float) -> tuple[dict[str, float | None], dict[str, int]]:
    """({class: quantile}, {class: patients behind it}) from P(PNEUMONIA) [n] of calibrate films."""
    single = calibrate.one_per_patient(films.patients, films.labels, films.files)
    chance = {"NORMAL": 1 - probabilities, "PNEUMONIA": probabilities}
    of_class = {name: single[films.labels[single] == index] for index, name in enumerate(CLASSES)}
    quantiles: dict[str, float | None] = {
        name: calibrate.conformal_quantile(chance[name][rows], alpha) for name, rows in of_class.items()
    }
    return quantiles, {name: len(rows) for name, rows in of_class.items()}


def shortages(limits: Limits, patients: dict[str, int], n_ood: int) -> list[str]:
    """What too few films cost, in words. patients: behind each class's quantile; n_ood: films behind the limit."""
    notes = []
    for name, quantile in limits.quantiles.items():
        if quantile is None:
            notes.append(
                f"{name}: {patients[name]} calibration patients are too few for alpha {limits.alpha} (needs "
                f"{calibrate.patients_needed(limits.alpha)}); the class is never excluded, so the other class is never "
                "answered automatically"
            )
    if n_ood < OOD_FILMS:
        notes.append(
            f"the distance limit comes from {n_ood} films: of films like them, more than 1 % may be turned away as out "
            f"of distribution (give {OOD_FILMS} or more)"
        )
    return notes


def manifest_fields(limits: Limits, patients: dict[str, int], n_ood: int) -> dict[str, Any]:
    """The limits as fields of bundle.json, with what is behind them."""
    return {
        "threshold": limits.threshold,
        "low_confidence": limits.low_confidence,
        "conformal": {"alpha": limits.alpha, "quantile": limits.quantiles, "n": patients},
        "ood": {"limit": limits.ood_limit, "percentile": calibrate.OOD_PERCENTILE, "n": n_ood},
    }
