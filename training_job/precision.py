"""Which precision may serve: the smallest whose answers on the tune films are those of float32.

A head trained on int8 features is served in int8 or not at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cxr.hyperparameters import Hyperparameters
from training_job import scores
from training_job.heads import HEADS, START_OF_FINE_TUNING
from training_job.scoring import Scored

# int8 is deployed only while it costs less than this on the tune films.
MAX_AUROC_DROP, MAX_LABEL_FLIPS, MAX_STATUS_FLIPS = 0.002, 0.005, 0.005
# float16 should cost nothing; where features move less than its 11 bits (flatten, in [0, 1]) float32 is deployed. The
# promotion gate's own bounds; a single film may flip in any case.
MAX_FLOAT16_AUROC_DROP, MAX_FLOAT16_FLIPS = 0.005, 0.02
# One flip in fewer films is already more than MAX_LABEL_FLIPS: int8 could never be shown to be harmless.
MIN_TUNE_FILMS = 200


class Int8Refused(Exception):
    """int8 changes too many answers of the tune films, and the head was trained on int8 features."""

    def __init__(self, parity: dict[str, Any]) -> None:
        super().__init__(f"int8 refused: {parity}")
        self.parity = parity


def parity(precision: str, labels: np.ndarray, ours: Scored, float32: Scored, threshold: float) -> dict[str, Any]:
    """What a precision changes on the tune films, against float32 under the same limits."""
    drop = scores.auroc(labels, float32.probabilities) - scores.auroc(labels, ours.probabilities)
    flips = (ours.probabilities >= threshold) != (float32.probabilities >= threshold)
    return {
        "keras_tflite_max_abs": float(np.abs(ours.probabilities - float32.probabilities).max()),
        "auroc_drop": float(drop) if np.isfinite(drop) else 0.0,
        "label_flips": float(flips.mean()),
        "status_flips": float(np.mean(np.asarray(ours.statuses) != np.asarray(float32.statuses))),
        "n": len(labels),
        "precision": precision,
    }


def acceptable(found: dict[str, Any]) -> bool:
    """Whether a precision of this parity may serve."""
    drop, labels, statuses = (found[name] for name in ("auroc_drop", "label_flips", "status_flips"))
    if found["precision"] == "int8":
        return drop <= MAX_AUROC_DROP and labels <= MAX_LABEL_FLIPS and statuses <= MAX_STATUS_FLIPS
    if found["precision"] == "float16":
        flips = max(MAX_FLOAT16_FLIPS, 1 / found["n"])
        return drop <= MAX_FLOAT16_AUROC_DROP and labels <= flips and statuses <= flips
    return True


def why_not_int8(tune_films: int, settings: Hyperparameters) -> str | None:
    """Why int8 need not be tried; None when it is to be tried."""
    if settings.precision == "float16":
        return "precision=float16 was asked for"
    if tune_films < MIN_TUNE_FILMS:
        return f"fewer than {MIN_TUNE_FILMS} tune films cannot show that at most 0.5 % of answers flip"
    return None


def why_no_int8_features(settings: Hyperparameters) -> str | None:
    """Why the head should not learn from int8 features though int8 may be served; None when it may."""
    if HEADS[settings.head].feature == "film":
        return f"with head={settings.head} the network learns from films"
    if START_OF_FINE_TUNING.get(settings.fine_tune_blocks) == "film":
        return f"with fine_tune_blocks={settings.fine_tune_blocks} the network learns from films, in float32"
    return None
