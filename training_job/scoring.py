"""Films judged by a model's outputs, as the service judges them, and the figures of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr.engine import Engine
from cxr.verdict import Limits, judge
from training_job import scores
from training_job.console import progress
from training_job.dataset import Films
from training_job.stop import Stop


@dataclass(frozen=True)
class Scored:
    """What a model says about films: probabilities, distances float64 [n], statuses."""

    probabilities: np.ndarray
    distances: np.ndarray
    statuses: list[str]

    def take(self, rows: np.ndarray) -> Scored:
        return Scored(self.probabilities[rows], self.distances[rows], [self.statuses[row] for row in rows])


def scored(probabilities: np.ndarray, distances: np.ndarray, saturations: np.ndarray, limits: Limits) -> Scored:
    """Outputs [n] of films with their statuses."""
    statuses: list[str] = [
        judge(float(p), float(d), float(s), limits).status
        for p, d, s in zip(probabilities, distances, saturations, strict=True)
    ]
    return Scored(np.asarray(probabilities, np.float64), np.asarray(distances, np.float64), statuses)


def score_films(engine: Engine, films: Films, limits: Limits, label: str, stop: Stop) -> Scored:
    """The served file on films, one at a time, as the Lambda will run it. Raises Stopped."""
    probabilities, distances = np.empty(len(films)), np.empty(len(films))
    for row, film in enumerate(progress(films.pixels, label, total=len(films))):
        stop.check()
        output = engine.run(film)
        probabilities[row], distances[row] = output.probability, output.ood_distance
    return scored(probabilities, distances, films.saturations, limits)


def table(films: Films, judged: Scored, limits: Limits) -> dict[str, Any]:
    """The figures of films under these limits (see scores.evaluate)."""
    return scores.evaluate(
        films.labels, judged.probabilities, judged.statuses, films.patients, limits.threshold, limits.quantiles
    )
