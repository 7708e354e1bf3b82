"""report.html: the bundle's figures and pictures in one self-contained page.

The page says first what a clinician must know: how many films were answered, how often that was right, and on whose
films. Every number comes from metrics.json.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from cxr import overlay
from cxr.verdict import Limits
from training_job import pages, plots
from training_job.dataset import Films
from training_job.evaluation import Evaluation
from training_job.facts import Facts
from training_job.scoring import Scored

PER_KIND = 4
HeatMap = Callable[[np.ndarray], np.ndarray]


def render(facts: Facts, evaluation: Evaluation, films: Films, heat_map: HeatMap) -> str:
    """The page as text. films: of the test folder; heat_map: uint8 [s, s] -> float32 [h, w], by the served file."""
    metrics, test, limits = evaluation.metrics, evaluation.test, facts.calibration.limits
    labels, table = films.labels, metrics["test"]
    answered = table["coverage"]["ok"], table["accuracy_on_ok"]["value"]
    distances = {"calibrate": evaluation.calibrate.distances, "test": test.distances}
    figures = [
        ("ROC", plots.roc(labels, test.probabilities, limits.threshold)),
        ("Precision and recall", plots.precision_recall(labels, test.probabilities)),
        ("Reliability", plots.reliability(labels, test.probabilities)),
        ("Risk and coverage", plots.risk_coverage(metrics["risk_coverage"], *answered)),
        ("Distance", plots.distances(distances, limits.ood_limit)),
        ("Training", plots.history(metrics["history"])),
    ]
    shown = gallery(films, test, limits, heat_map)
    return pages.render("report.html", facts=facts, metrics=metrics, figures=figures, gallery=shown)


def gallery(films: Films, test: Scored, limits: Limits, heat_map: HeatMap) -> list[dict[str, Any]]:
    """A few right and wrong answers of each class, the most confident first, and what was turned away."""
    positive = test.probabilities >= limits.threshold
    confidence = np.where(positive, test.probabilities, 1 - test.probabilities)
    kinds = {
        "pneumonia, called pneumonia": (films.labels == 1) & positive,
        "normal, called normal": (films.labels == 0) & ~positive,
        "normal, called pneumonia": (films.labels == 0) & positive,
        "pneumonia, called normal": (films.labels == 1) & ~positive,
        "turned away as unlike the training films": np.asarray(test.statuses) == "out_of_distribution",
    }

    def tile(row: int) -> dict[str, Any]:
        film = films.pixels[row]
        return {
            "png": base64.b64encode(overlay.png(overlay.pair(film, heat_map(film)))).decode(),
            "probability": float(test.probabilities[row]),
            "status": test.statuses[row].replace("_", " "),
        }

    rows = []
    for name, mask in kinds.items():
        chosen = np.flatnonzero(mask)
        chosen = chosen[np.argsort(-confidence[chosen], kind="stable")][:PER_KIND]
        rows.append({"name": name, "count": int(mask.sum()), "films": [tile(int(row)) for row in chosen]})
    return rows
