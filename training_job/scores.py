"""Figures with their 95 % intervals, from labels, probabilities and statuses alone.

Every published figure can be recomputed from the per-film predictions by this module; shares get Wilson's
interval, everything else a bootstrap over patients: percentile, or basic where resampling adds bias (BIASED).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, rankdata
from sklearn.metrics import average_precision_score

from cxr.labels import CLASSES, STATUSES

BINS = 15
RESAMPLES = 1000
# A mean of absolute gaps grows with noise, and resampling adds noise: percentiles of the resamples lie beyond the truth
# by twice that bias; reflected about the value (Davison and Hinkley 1997, section 5.2) it cancels. The value itself is
# kept inside.
BIASED = {"ece"}
Statistic = Callable[[np.ndarray, np.ndarray], float]


def share(part: int, whole: int) -> dict[str, float | None]:
    """part / whole with Wilson's interval; all None when `whole` is 0."""
    if whole == 0:
        return {"value": None, "low": None, "high": None}
    interval = binomtest(int(part), int(whole)).proportion_ci(0.95, method="wilson")
    return {"value": part / whole, "low": float(interval.low), "high": float(interval.high)}


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of (pneumonia, normal) pairs in the right order, ties half; nan when a class is missing.

    By ranks: a tenth of the time of building the curve, which the bootstraps repeat thousands of times.
    """
    positive = labels == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return math.nan
    above = rankdata(probabilities)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def auprc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(average_precision_score(labels, probabilities)) if labels.any() else math.nan


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(np.mean((probabilities - labels) ** 2))


def ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error of P(PNEUMONIA): mean |observed share - mean probability| over 15 equal bins."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=labels - probabilities, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def balanced_accuracy(labels: np.ndarray, positive: np.ndarray) -> float:
    """Mean of sensitivity and specificity; nan when a class is missing."""
    if len(np.unique(labels)) < 2:
        return math.nan
    return float((positive[labels == 1].mean() + (~positive[labels == 0]).mean()) / 2)


def resamples(patients: Sequence[str], count: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of `count` bootstrap samples of whole patients."""
    _, group = np.unique(np.asarray(patients), return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.concatenate([members[pick] for pick in rng.integers(len(members), size=len(members))])


def intervals(
    statistics: dict[str, Statistic],
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: Sequence[str],
    seed: int = 0,
) -> dict[str, dict[str, float | None]]:
    """{name: {value, low, high}}: bootstrap over patients, percentile or, for BIASED shares, basic."""
    drawn: dict[str, list[float]] = {name: [] for name in statistics}
    for rows in resamples(patients, RESAMPLES, seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(labels[rows], probabilities[rows]))
    values = {name: statistic(labels, probabilities) for name, statistic in statistics.items()}
    return {
        name: {
            "value": _finite(value),
            **(_reflected(drawn[name], value) if name in BIASED else _bounds(drawn[name])),
        }
        for name, value in values.items()
    }


def _bounds(values: list[float]) -> dict[str, float | None]:
    known = np.array(values)[np.isfinite(values)]
    if not len(known):
        return {"low": None, "high": None}
    low, high = np.percentile(known, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def _reflected(values: list[float], value: float) -> dict[str, float | None]:
    bounds = _bounds(values)
    if bounds["low"] is None or bounds["high"] is None:
        return bounds
    low, high = 2 * value - bounds["high"], 2 * value - bounds["low"]
    return {"low": min(value, max(0.0, low)), "high": max(value, min(1.0, high))}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def at_threshold(labels: np.ndarray, probabilities: np.ndarray, cut: float, patients: Sequence[str]) -> dict[str, Any]:
    """Accuracy, sensitivity, specificity (Wilson), balanced accuracy (bootstrap) and the confusion matrix at a cut."""
    positive = probabilities >= cut
    tp, fn = int((positive & (labels == 1)).sum()), int((~positive & (labels == 1)).sum())
    fp, tn = int((positive & (labels == 0)).sum()), int((~positive & (labels == 0)).sum())
    balanced = intervals({"b": lambda y, p: balanced_accuracy(y, p >= cut)}, labels, probabilities, patients)
    return {
        "accuracy": share(tp + tn, len(labels)),
        "sensitivity": share(tp, tp + fn),
        "specificity": share(tn, tn + fp),
        "balanced_accuracy": balanced["b"],
        "confusion": {"tp": tp, "fp": fp, "tn": tn, "fn": fn},
    }


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray, cut: float) -> dict[str, Any]:
    """Share of wrong answers (risk) among the most confident 1/n, 2/n, ... of n films (coverage), and its mean, AURC.

    Confidence is the probability of the answer at `cut` (Geifman and El-Yaniv 2017).
    """
    positive = probabilities >= cut
    wrong = positive != (labels == 1)
    order = np.argsort(-np.where(positive, probabilities, 1 - probabilities), kind="stable")
    covered = np.arange(1, len(labels) + 1)
    risk = np.cumsum(wrong[order]) / covered
    return {"coverage": (covered / len(labels)).tolist(), "risk": risk.tolist(), "aurc": float(risk.mean())}


def conformal_sets(
    labels: np.ndarray, probabilities: np.ndarray, quantiles: dict[str, float | None]
) -> dict[str, dict[str, Any]]:
    """Per true class: how often the set holds it, and how often it holds one class, both, none.

    `wrong_single`, a part of `single`, is the other class alone: the only error of a set that looks like an answer.
    """
    limits = [math.inf if quantiles[name] is None else quantiles[name] for name in CLASSES]
    inside = np.stack([probabilities, 1 - probabilities]) <= np.array(limits)[:, None]
    size = inside.sum(axis=0)
    table: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(CLASSES):
        of_class = labels == index
        n = int(of_class.sum())
        kinds = {
            "single": size == 1,
            "both": size == 2,
            "empty": size == 0,
            "wrong_single": (size == 1) & ~inside[index],
        }
        covered = share(int(inside[index, of_class].sum()), n)
        table[name] = {
            "coverage": covered["value"],
            "low": covered["low"],
            "high": covered["high"],
            "n": n,
            **{kind: share(int(mask[of_class].sum()), n) for kind, mask in kinds.items()},
        }
    return table


def evaluate(
    labels: np.ndarray,
    probabilities: np.ndarray,
    statuses: Sequence[str],
    patients: Sequence[str],
    cut: float,
    quantiles: dict[str, float | None],
) -> dict[str, Any]:
    """The whole table of one split; figures that the split cannot give (a class is missing) are None."""
    status = np.asarray(statuses)
    ok = status == "ok"
    right = (probabilities >= cut) == (labels == 1)
    return {
        "n": len(labels),
        "n_normal": int((labels == 0).sum()),
        "n_pneumonia": int((labels == 1).sum()),
        "threshold": cut,
        "at_threshold": at_threshold(labels, probabilities, cut, patients),
        "at_half": at_threshold(labels, probabilities, 0.5, patients),
        **intervals({"auroc": auroc, "auprc": auprc, "brier": brier, "ece": ece}, labels, probabilities, patients),
        "coverage": {("ok" if key == "value" else key): v for key, v in share(int(ok.sum()), len(ok)).items()},
        "accuracy_on_ok": {**share(int(right[ok].sum()), int(ok.sum())), "n": int(ok.sum())},
        "conformal": conformal_sets(labels, probabilities, quantiles),
        "status_counts": {name: int((status == name).sum()) for name in STATUSES},
    }
