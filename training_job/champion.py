"""The model in service against the new one, on the same test films.

Rule: the comparison is paired and by patient; the challenger must be shown to be not worse, not merely look better.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cxr.bundle import Bundle, read_bundle
from cxr.engine import Engine
from cxr.verdict import Limits
from training_job import scores
from training_job.dataset import Films
from training_job.litert import cores
from training_job.serving import Scored, quantiles_of, score_films
from training_job.stop import Stop

RESAMPLES = 2000
# One-sided 95 %: the lower bound that the promotion gate holds against its margins.
LOWER_PERCENTILE = 5.0


def open_champion(folder: Path) -> tuple[Bundle, Engine, Limits]:
    """The champion's bundle, verified, its engine and limits. Raises cxr.bundle.BundleError on a broken one."""
    manifest = next(iter(sorted(folder.rglob("bundle.json"))), folder / "bundle.json")
    bundle = read_bundle(manifest.parent, ("model.tflite",))
    return bundle, Engine(manifest.parent / "model.tflite", threads=cores()), Limits.from_bundle(bundle)


def compare(folder: Path, films: Films, challenger: Scored, cut: float, stop: Stop) -> dict[str, Any]:
    """The champion's figures on these films and the bounds of challenger minus champion."""
    bundle, engine, limits = open_champion(folder)
    champion = score_films(engine, films.pixels, films.saturations, limits, "test films by the champion", stop)
    return {
        "bundle_name": bundle.name,
        "model_sha256": bundle.model_sha256,
        "test": scores.evaluate(
            films.labels,
            champion.probabilities,
            champion.statuses,
            films.patients,
            limits.threshold,
            quantiles_of(limits),
        ),
        "noninferiority": noninferiority(
            films.labels, films.patients, (champion.probabilities, limits.threshold), (challenger.probabilities, cut)
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
