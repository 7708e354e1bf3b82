"""The model in service against the new one, on the same test films.

The comparison is paired and by patient; the challenger must be shown to be not worse, not merely look better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr.bundle import Bundle, read_bundle
from cxr.engine import Engine
from cxr.verdict import Limits
from training_job import scores
from training_job.dataset import Films
from training_job.litert import cores
from training_job.scoring import Scored, score_films, table
from training_job.stop import Stop

RESAMPLES = 2000
# One-sided 95 %: the lower bound that the promotion gate holds against its margins.
LOWER_PERCENTILE = 5.0


@dataclass(frozen=True)
class Champion:
    """The bundle in service, verified, its engine and its limits."""

    bundle: Bundle
    engine: Engine
    limits: Limits


def open_champion(folder: Path) -> Champion:
    """The one bundle in or below a folder. Raises BundleError, EngineError on a broken one."""
    manifest = next(iter(sorted(folder.rglob("bundle.json"))), folder / "bundle.json")
    bundle = read_bundle(manifest.parent, ("model.tflite",))
    return Champion(bundle, Engine(manifest.parent / "model.tflite", threads=cores()), Limits.from_bundle(bundle))


def compare(champion: Champion, films: Films, challenger: Scored, threshold: float, stop: Stop) -> dict[str, Any]:
    """The champion's figures on these films and the bounds of challenger minus champion. Raises Stopped."""
    judged = score_films(champion.engine, films, champion.limits, "test films by the champion", stop)
    return {
        "bundle_name": champion.bundle.name,
        "model_sha256": champion.bundle.model_sha256,
        "test": table(films, judged, champion.limits),
        "noninferiority": noninferiority(
            films.labels,
            films.patients,
            (judged.probabilities, champion.limits.threshold),
            (challenger.probabilities, threshold),
        ),
    }


def noninferiority(
    labels: np.ndarray, patients: list[str], champion: tuple[np.ndarray, float], challenger: tuple[np.ndarray, float]
) -> dict[str, Any]:
    """Differences (challenger - champion) with one-sided 95 % lower bounds; each side is (probabilities, threshold)."""

    def deltas(rows: np.ndarray) -> tuple[float, float]:
        y = labels[rows]
        (old, old_cut), (new, new_cut) = ((p[rows], cut) for p, cut in (champion, challenger))
        return (
            scores.auroc(y, new) - scores.auroc(y, old),
            scores.balanced_accuracy(y, new >= new_cut) - scores.balanced_accuracy(y, old >= old_cut),
        )

    drawn = np.array([deltas(rows) for rows in scores.resamples(patients, RESAMPLES, seed=0)])
    lower = np.nanpercentile(drawn, LOWER_PERCENTILE, axis=0)
    value = deltas(np.arange(len(labels)))
    names = ("delta_auroc", "delta_balanced_accuracy")
    return {
        **{name: {"value": value[i], "lower": float(lower[i])} for i, name in enumerate(names)},
        "resamples": RESAMPLES,
    }
