"""Is a challenger shown to be not worse than the champion, on the same test films?

A paired bootstrap over patients bounds the differences from below. The training job asks it of the champion it was
given, the DAG of the model that serves by the time of the decision.
"""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from cxr.labels import CLASSES

RESAMPLES = 2000
LOWER_PERCENTILE = 5
"""One-sided 95 %: the lower bound that the promotion gate holds against its margins."""


class NotComparable(Exception):
    """Champion and challenger were not tested on the same films, or these are of one class."""


@dataclass(frozen=True)
class Outputs:
    """A model's outputs on its test films: file -> (is pneumonia, probability), and its decision threshold."""

    films: Mapping[str, tuple[bool, float]]
    threshold: float

    @classmethod
    def read(cls, predictions_csv: bytes, threshold: float) -> Outputs:
        """From a bundle's predictions.csv."""
        rows = csv.DictReader(io.StringIO(predictions_csv.decode()))
        films = {
            row["file"]: (row["label"] == CLASSES[1], float(row["probability"])) for row in rows if row["probability"]
        }
        return cls(films, threshold)

    @property
    def labels(self) -> dict[str, bool]:
        return {file: label for file, (label, _) in self.films.items()}


def noninferiority(
    champion: Outputs, challenger: Outputs, patients: Mapping[str, str], resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Differences (challenger - champion) with one-sided 95 % lower bounds, in metrics.json's form.

    patients: of every film. Raises NotComparable where the films or their labels differ.
    """
    if champion.labels != challenger.labels:
        raise NotComparable(
            f"the champion was tested on {len(champion.films)} films, the challenger on {len(challenger.films)}, and "
            "they are not the same; run `retrain` again: its training job scores the present champion"
        )
    files = sorted(champion.films)
    by_patient: dict[str, list[int]] = defaultdict(list)
    for place, file in enumerate(files):
        by_patient[patients[file]].append(place)
    groups = list(by_patient.values())
    models = [_Ranked([one.films[file] for file in files], one.threshold) for one in (champion, challenger)]

    def difference(weights: Sequence[int]) -> list[float] | None:
        old, new = (model.figures(weights) for model in models)
        return None if old is None or new is None else [b - a for a, b in zip(old, new, strict=True)]

    value, drawn, rng = difference([1] * len(files)), [], random.Random(0)
    for _ in range(resamples):
        weights = [0] * len(files)
        for places in rng.choices(groups, k=len(groups)):
            for place in places:
                weights[place] += 1
        if found := difference(weights):
            drawn.append(found)
    if value is None or len(drawn) < 2:
        raise NotComparable("the test films hold one class only")
    bounds = [quantiles(column, n=100, method="inclusive")[LOWER_PERCENTILE - 1] for column in zip(*drawn, strict=True)]
    figures = [{"value": one, "lower": bound} for one, bound in zip(value, bounds, strict=True)]
    return {"delta_auroc": figures[0], "delta_balanced_accuracy": figures[1], "resamples": len(drawn)}


class _Ranked:
    """A model's films in the order of probability, ties together, so that a resample costs one pass."""

    def __init__(self, films: Sequence[tuple[bool, float]], threshold: float) -> None:
        ties: dict[float, list[int]] = defaultdict(list)
        for place, (_, probability) in enumerate(films):
            ties[probability].append(place)
        self._ties = [ties[probability] for probability in sorted(ties)]
        self._ill = [label for label, _ in films]
        self._right = [label == (probability >= threshold) for label, probability in films]

    def figures(self, weights: Sequence[int]) -> tuple[float, float] | None:
        """(AUROC, balanced accuracy) with each film counted so often; None where a class is absent."""
        below = wins = positives = hits = passes = 0.0
        for places in self._ties:
            up = down = 0
            for place in places:
                weight = weights[place]
                if self._ill[place]:
                    up += weight
                    hits += weight * self._right[place]
                else:
                    down += weight
                    passes += weight * self._right[place]
            wins += up * (below + down / 2)
            below += down
            positives += up
        if not positives or not below:
            return None
        return wins / (positives * below), (hits / positives + passes / below) / 2
