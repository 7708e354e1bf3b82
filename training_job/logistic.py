"""Logistic calibration: the probability of pneumonia is sigmoid(slope * logit + offset) (Platt 1999).

Both classes weigh the same, so the probability stands for a prevalence of one half and not for that of the films it
was fitted on; each patient has one vote, however many films there are of her. Another prevalence moves the offset and
every cut with it: the decisions stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit

from training_job.scores import balanced_accuracy, resamples

PREVALENCE = 0.5
"""What the probability stands for until a hospital states its own."""
STEEPEST, FLATTEST = 20.0, 0.02
"""Bounds of the slope times the logits' spread: films that are separated perfectly ask for an infinite one, films
that say nothing for none."""


@dataclass(frozen=True)
class Line:
    """slope > 0; offset at a prevalence of one half."""

    slope: float
    offset: float

    def probability(self, logits: np.ndarray) -> np.ndarray:
        return expit(self.slope * np.asarray(logits, np.float64) + self.offset)

    def manifest_fields(self) -> dict[str, Any]:
        """Those of bundle.json; what the probability stands for is half of the films with pneumonia."""
        return {
            "temperature": 1.0 / self.slope,
            "calibration": {"slope": self.slope, "offset": self.offset, "prevalence": PREVALENCE},
        }

    def after(self, first: Line) -> Line:
        """This line on the log odds that another one gives."""
        return Line(self.slope * first.slope, self.slope * first.offset + self.offset)

    def at(self, prevalence: float) -> Line:
        return Line(self.slope, self.offset + log_odds(prevalence))


def log_odds(prevalence: float) -> float:
    """Raises ValueError for a prevalence of 0 or 1 and beyond."""
    if not 0 < prevalence < 1:
        raise ValueError(
            f"prevalence {prevalence} is outside (0, 1): give the share of pneumonia among the films, as 0.3; no "
            "probability can stand for films that are all of one class"
        )
    return math.log(prevalence / (1 - prevalence))


def moved(probability: float, prevalence: float) -> float:
    """A probability or cut at a prevalence of one half, as it reads at another one."""
    if probability in (0.0, 1.0):
        return probability
    return float(expit(log_odds(probability) + log_odds(prevalence)))


def votes(patients: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """A weight per film [n]: each patient of a class has one vote among her films; each class weighs one half."""
    keys = [f"{label} {patient}" for patient, label in zip(patients, labels.tolist(), strict=True)]
    _, group, counts = np.unique(np.asarray(keys), return_inverse=True, return_counts=True)
    each = 1.0 / counts[group]
    present = [label for label in (0, 1) if (labels == label).any()]
    for label in present:
        each[labels == label] /= each[labels == label].sum() * len(present)
    return each


def fit(logits: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> Line:
    """The line of greatest likelihood with Platt's smoothed targets; the identity when a class is missing.

    The targets, (m + 1) / (m + 2) and 1 / (k + 2) of m and k patients, keep perfectly separated films from claiming
    certainty.
    """
    if len(set(labels.tolist())) < 2:
        return Line(1.0, 0.0)
    weights = votes(patients, labels)
    centre, spread = float(weights @ logits), _spread(logits, weights)
    ready = (logits - centre) / spread
    sick, well = (len({p for p, of in zip(patients, labels, strict=True) if of == label}) for label in (1, 0))
    target = np.where(labels == 1, (sick + 1) / (sick + 2), 1 / (well + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        margin = math.exp(line[0]) * ready + line[1]
        error = weights * (expit(margin) - target)
        value = weights @ (np.logaddexp(0.0, margin) - target * margin)
        return float(value), np.array([math.exp(line[0]) * (error @ ready), error.sum()])

    bounds = [(math.log(FLATTEST), math.log(STEEPEST)), (-30.0, 30.0)]
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds).x
    slope = math.exp(found[0]) / spread
    return Line(slope, float(found[1]) - slope * centre)


def fit_offset(logits: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> Line:
    """The line of slope 1 of greatest likelihood: for patients too few to say how steep it is."""
    if len(set(labels.tolist())) < 2:
        return Line(1.0, 0.0)
    weights = votes(patients, labels)

    def surplus(offset: float) -> float:
        return float(weights @ (expit(logits + offset) - labels))

    reach = float(np.abs(logits).max()) + 30.0
    return Line(1.0, float(brentq(surplus, -reach, reach)))


def _spread(values: np.ndarray, weights: np.ndarray) -> float:
    return max(math.sqrt(float(weights @ (values - weights @ values) ** 2)), 1e-9)


def threshold(
    probabilities: np.ndarray, labels: np.ndarray, patients: Sequence[str], sensitivity_floor: float
) -> float:
    """One half, the natural cut of a balanced probability; lower only where sensitivity would miss the floor there.

    A cut that is sought among films that are nearly separated lies anywhere on a plateau; one half does not move.
    Sensitivity counts one vote a patient. 0.5 without a film of pneumonia.
    """
    sick = labels == 1
    if not sick.any():
        return 0.5
    weights = votes([p for p, of in zip(patients, sick, strict=True) if of], labels[sick])
    order = np.argsort(-probabilities[sick], kind="stable")
    reached = np.cumsum(weights[order])
    enough = min(int(np.searchsorted(reached, sensitivity_floor - 1e-12)), len(order) - 1)
    return float(min(0.5, probabilities[sick][order][enough]))


def best_balanced(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The cut of best balanced accuracy, in the middle of its plateau: the candidate that lost to one half."""
    order = np.argsort(probabilities, kind="stable")
    ordered, signed = probabilities[order], np.where(labels == 1, -weights, weights)[order]
    gained = np.concatenate([[0.0], np.cumsum(signed)])
    cuts = np.concatenate([[ordered[0] / 2], (ordered[1:] + ordered[:-1]) / 2, [(1 + ordered[-1]) / 2]])
    best = np.flatnonzero(gained >= gained.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def out_of_bag(
    logits: np.ndarray, labels: np.ndarray, patients: Sequence[str], sensitivity_floor: float, count: int = 200
) -> Iterator[dict[str, tuple[float, float]]]:
    """{rule: (cut, balanced accuracy of the patients left out)} of bootstrap samples of patients: what a rule's cut
    depends on, and what it is worth to films that it has not seen. The line is fitted anew in each sample."""
    names = np.asarray(patients)
    for rows in resamples(patients, count, seed=0):
        rest = np.flatnonzero(~np.isin(names, names[rows]))
        drawn = names[rows].tolist()
        line = fit(logits[rows], labels[rows], drawn)
        seen, unseen = line.probability(logits[rows]), line.probability(logits[rest])
        weights = votes(drawn, labels[rows])
        cuts = {
            "half": 0.5,
            "half_or_floor": threshold(seen, labels[rows], drawn, sensitivity_floor),
            "floor": _at_floor(seen, labels[rows], weights, sensitivity_floor),
            "best_balanced": best_balanced(seen, labels[rows], weights),
        }
        yield {rule: (cut, balanced_accuracy(labels[rest], unseen >= cut)) for rule, cut in cuts.items()}


def _at_floor(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, floor: float) -> float:
    """The highest cut whose sensitivity keeps the floor."""
    sick = labels == 1
    order = np.argsort(-probabilities[sick], kind="stable")
    reached = np.cumsum(weights[sick][order]) / weights[sick].sum()
    return float(probabilities[sick][order][min(int(np.searchsorted(reached, floor - 1e-12)), len(order) - 1)])
