"""From a model's raw outputs on held-out films to the limits of its bundle.

Slope, offset and threshold come from the tune films, conformal quantiles and the distance limit from the calibrate
films, mean and covariance from the train films; no film serves two of these, and none is a test film.

Tune and calibrate films come from the machines of the train films; films of tomorrow may not. So slope and offset are
fitted to the tune films as they are and to two varied copies of each (training_job.stress), with one vote a patient.
The threshold is one half, or less where the tune films as they are need it to keep the sensitivity floor. Half of the
calibrate patients stand behind the quantiles with a varied film: the coverage of the conformal sets is guaranteed for
such a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr.hyperparameters import Hyperparameters
from cxr.labels import CLASSES
from cxr.verdict import Limits
from training_job import calibrate, logistic
from training_job.dataset import Dataset, Films
from training_job.logistic import Line
from training_job.scoring import Scored, scored

# Below, the interpolated 99th percentile is hardly more than the largest of them (30 films: 3.5 % of fresh ones lie
# beyond it, 400: 1.2 %, by simulation).
OOD_FILMS = 100
STRESSED_COPIES = {"tune": 2, "calibrate": 1}
"""Of each film of a bucket."""


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

    line: Line
    mean: np.ndarray
    whitening: np.ndarray
    limits: Limits
    counts: dict[str, int]
    n_ood: int

    def apply(self, raw: Raw, saturations: np.ndarray) -> Scored:
        """The served graph's arithmetic on raw outputs."""
        distances = calibrate.distances(raw.embeddings, self.mean, self.whitening)
        return scored(self.line.probability(raw.logits), distances, saturations, self.limits)


def calibrated(raw: dict[str, Raw], dataset: Dataset, settings: Hyperparameters) -> Calibration:
    """Every limit, from the raw outputs on the films of the three buckets, and on their varied copies."""
    line, cut = _line_and_cut(raw, dataset.bucket("tune"), settings.sensitivity_floor)
    mean, whitening = calibrate.whitening(raw["train"].embeddings)
    distances = calibrate.distances(raw["calibrate"].embeddings, mean, whitening)
    films = dataset.bucket("calibrate")
    varied = np.array([int(digest[-1], 16) % 2 == 1 for digest in films.digests])
    logits = np.where(varied, raw[stressed("calibrate")].logits, raw["calibrate"].logits)
    quantiles, counts = conformal(line.probability(logits), films, settings.alpha)
    limits = Limits(
        threshold=cut,
        quantile_normal=quantiles["NORMAL"],
        quantile_pneumonia=quantiles["PNEUMONIA"],
        alpha=settings.alpha,
        ood_limit=calibrate.ood_limit(distances),
    )
    return Calibration(line, mean, whitening, limits, counts, len(distances))


def stressed(bucket: str) -> str:
    """The name of the raw outputs on a bucket's varied copies."""
    return f"{bucket}_stressed"


def _line_and_cut(raw: dict[str, Raw], tune: Films, floor: float) -> tuple[Line, float]:
    copies = 1 + STRESSED_COPIES["tune"]
    logits = np.concatenate([raw["tune"].logits, raw[stressed("tune")].logits])
    labels, patients = np.tile(tune.labels, copies), tune.patients * copies
    line = logistic.fit(logits, labels, patients)
    as_they_are = line.probability(raw["tune"].logits)
    return line, logistic.threshold(as_they_are, tune.labels, tune.patients, floor)


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
