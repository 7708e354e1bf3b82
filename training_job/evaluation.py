"""The test films, opened once, by the file that will serve; and all that metrics.json says.

Report, model card, bundle and log repeat the numbers of metrics.json; none of them computes its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr.engine import Engine
from cxr.labels import STATUSES
from training_job import scores
from training_job.champion import Champion, compare
from training_job.dataset import Dataset, films_at
from training_job.limits import shortages
from training_job.scoring import Scored, score_films, table
from training_job.serving import Served
from training_job.stop import Stop

HISTOGRAM_EDGES = np.linspace(0.0, 1.0, 11)
Histories = dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class Evaluation:
    """metrics: as metrics.json has them. test, calibrate: the served file on the films of these buckets."""

    metrics: dict[str, Any]
    test: Scored
    calibrate: Scored


def evaluate(
    engine: Engine, dataset: Dataset, served: Served, histories: Histories, champion: Champion | None, stop: Stop
) -> Evaluation:
    """engine: of the served file. histories: see learning.Learned. Raises Stopped."""
    limits, films = served.calibration.limits, dataset.test
    test = score_films(engine, films, limits, "test films", stop)
    buckets = {name: dataset.bucket(name) for name in ("tune", "calibrate")}
    held_out = {name: served.calibration.apply(served.raw[name], of.saturations) for name, of in buckets.items()}
    metrics = {
        "test": table(films, test, limits),
        **{name: table(buckets[name], judged, limits) for name, judged in held_out.items()},
        "parity": served.parity,
        "reference": _reference(held_out["calibrate"]),
        "risk_coverage": scores.risk_coverage(films.labels, test.probabilities, limits.threshold),
        "champion": None if champion is None else _against(champion, dataset, test, limits.threshold, stop),
        "history": histories,
        "notes": _notes(dataset, served, histories, scores.auroc(films.labels, test.probabilities)),
    }
    return Evaluation(metrics, test, held_out["calibrate"])


def _against(champion: Champion, dataset: Dataset, test: Scored, threshold: float, stop: Stop) -> dict[str, Any]:
    """champion.compare on the test films as the champion takes them."""
    films = dataset.test
    if champion.bundle.side != films.pixels.shape[1]:
        films = films_at(dataset.root, films, champion.bundle.side, stop)
    return compare(champion, films, test, threshold, stop)


def _reference(films: Scored) -> dict[str, Any]:
    """What the model says of held-out films: drift in service is told by the distance from it."""
    n = len(films.statuses)
    return {
        "probability_histogram": {
            "edges": HISTOGRAM_EDGES.round(1).tolist(),
            "counts": np.histogram(films.probabilities, HISTOGRAM_EDGES)[0].tolist(),
        },
        "ood_distance": {"mean": float(films.distances.mean()), "std": float(films.distances.std())},
        "status_shares": {name: films.statuses.count(name) / n for name in STATUSES},
        "n": n,
    }


def _notes(dataset: Dataset, served: Served, histories: Histories, test_auroc: float) -> list[str]:
    """What few films and other choices cost, in words."""
    calibration = served.calibration
    notes = shortages(calibration.limits, calibration.counts, calibration.n_ood)
    if test_auroc == 1.0:
        notes.append("AUROC is 1 on these test films: its bootstrap interval cannot show how uncertain that is")
    best = {phase: min(epoch["tune"] for epoch in epochs) for phase, epochs in histories.items()}
    if "fine_tune" in best and best["fine_tune"] > best["head"]:
        notes.append(
            f"the tune loss was {best['head']:.4f} before fine-tuning and is {best['fine_tune']:.4f} after it; asked "
            "for, it was kept: compare with a run without it"
        )
    if len(np.unique(dataset.train.labels[dataset.rows["tune"]])) < 2:
        notes.append("tune films of one class only: slope 1, offset 0 and threshold 0.5 were not fitted")
    return notes
