"""A challenger replaces the champion only if, on the same test films, it is shown not to be worse.

The training job scores the champion it was given; where another model serves by now, the two models' kept predictions
are compared here by a paired bootstrap over patients with the same bound. A patient is what a film's name says:
predictions.csv carries no other id, while the training job also knows patients.csv and byte-identical films.
"""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from cxr.labels import CLASSES
from cxr.patients import patient_of

RESAMPLES = 2000
LOWER_PERCENTILE = 5  # one-sided 95 %, as in the training job


class NotComparable(Exception):
    """Champion and challenger were not tested on the same films."""


@dataclass(frozen=True)
class Margins:
    """How much worse the lower bound (one-sided 95 %) of a difference may be: negative numbers."""

    auroc: float
    balanced_accuracy: float

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Margins:
        return cls(float(params["margin_auroc"]), float(params["margin_balanced_accuracy"]))


@dataclass(frozen=True)
class Scored:
    """A model's outputs on its test films: file -> (is pneumonia, probability), and its decision threshold."""

    films: dict[str, tuple[bool, float]]
    threshold: float

    @property
    def labels(self) -> dict[str, bool]:
        return {file: label for file, (label, _) in self.films.items()}

    @classmethod
    def read(cls, predictions_csv: bytes, threshold: float) -> Scored:
        rows = csv.DictReader(io.StringIO(predictions_csv.decode()))
        films = {
            row["file"]: (row["label"] == CLASSES[1], float(row["probability"])) for row in rows if row["probability"]
        }
        return cls(films, threshold)


def worse(noninferiority: dict[str, Any], margins: Margins) -> list[str]:
    """Return a sentence for each difference whose lower bound is below its margin; empty means not inferior."""
    rows = (
        ("AUROC", noninferiority["delta_auroc"], margins.auroc, "margin_auroc"),
        (
            "balanced accuracy",
            noninferiority["delta_balanced_accuracy"],
            margins.balanced_accuracy,
            "margin_balanced_accuracy",
        ),
    )
    return [
        f"{name} differs by {delta['value']:+.4f} from the champion's and may be as low as {delta['lower']:+.4f}; "
        f"{param} = {margin:g}"
        for name, delta, margin, param in rows
        if not delta["lower"] > margin
    ]


def noninferiority(champion: Scored, challenger: Scored, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Compare two models on the same films by a paired bootstrap over patients, in metrics.json's form.

    ``lower`` is the one-sided 95 % bound of each difference (challenger - champion). Raises NotComparable where the
    films or their labels differ.
    """
    if champion.labels != challenger.labels:
        raise NotComparable(
            f"the champion was tested on {len(champion.films)} films, the challenger on {len(challenger.films)}, and "
            "they are not the same; run `retrain` again: its training job scores the present champion"
        )
    by_patient: dict[str, list[str]] = defaultdict(list)
    for file in sorted(champion.films):
        by_patient[patient_of(file)].append(file)
    patients = list(by_patient.values())
    models = (_Ranked(champion), _Ranked(challenger))
    everyone = dict.fromkeys(champion.films, 1)
    value = _difference(*models, everyone)
    rng = random.Random(seed)
    drawn = []
    for _ in range(resamples):
        weights = dict.fromkeys(champion.films, 0)
        for films in rng.choices(patients, k=len(patients)):
            for file in films:
                weights[file] += 1
        difference = _difference(*models, weights)
        if difference is not None:
            drawn.append(difference)
    if value is None or len(drawn) < 2:
        raise NotComparable("the test films hold one class only")
    percentiles = [quantiles(column, n=100, method="inclusive") for column in zip(*drawn, strict=True)]
    lower = [column[LOWER_PERCENTILE - 1] for column in percentiles]
    names = ("delta_auroc", "delta_balanced_accuracy")
    return {
        **{name: {"value": v, "lower": low} for name, v, low in zip(names, value, lower, strict=True)},
        "resamples": len(drawn),
    }


class _Ranked:
    """A model's films in the order of probability, ties together, so that a resample costs one pass."""

    def __init__(self, scored: Scored) -> None:
        ordered = sorted((p, label, file) for file, (label, p) in scored.films.items())
        self._groups: list[list[tuple[bool, str]]] = []
        last = None
        for probability, label, file in ordered:
            if probability != last:
                self._groups.append([])
                last = probability
            self._groups[-1].append((label, file))
        self._called = {file: p >= scored.threshold for file, (_, p) in scored.films.items()}
        self._labels = scored.labels

    def figures(self, weights: dict[str, int]) -> tuple[float, float] | None:
        """(AUROC, balanced accuracy) with each film counted ``weights[film]`` times; None where a class is absent."""
        below = wins = positives = 0.0
        for group in self._groups:
            up = down = 0
            for label, file in group:
                if label:
                    up += weights[file]
                else:
                    down += weights[file]
            wins += up * (below + down / 2)
            below += down
            positives += up
        if not positives or not below:
            return None
        hits = sum(w for file, w in weights.items() if w and self._labels[file] and self._called[file])
        passes = sum(w for file, w in weights.items() if w and not self._labels[file] and not self._called[file])
        return wins / (positives * below), (hits / positives + passes / below) / 2


def _difference(champion: _Ranked, challenger: _Ranked, weights: dict[str, int]) -> tuple[float, float] | None:
    old, new = champion.figures(weights), challenger.figures(weights)
    return None if old is None or new is None else (new[0] - old[0], new[1] - old[1])
