"""A model is watched by figures with limits: what leaves its limit is named, with the value and what to do.

Probabilities and distances are compared with the films that calibrated the serving model (metrics.json's reference);
too few films give no alarm, for a small sample says nothing about the next patient.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from cxr.labels import CLASSES, STATUSES
from cxr.result import Row

PRIOR = 0.5  # film added to each bin (Krichevsky and Trofimov 1981); an empty bin would make the PSI infinite


@dataclass(frozen=True)
class Limits:
    """Bounds of the oversight figures; each is a parameter of the `report` DAG."""

    min_films: int
    max_psi: float
    max_ood_drift: float
    max_abstention: float
    max_unreadable: float
    min_positive_rate: float
    max_positive_rate: float

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Limits:
        return cls(**{name: params[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Figure:
    """One figure: its value (None where it cannot be computed), its limit in words, and whether it left it."""

    name: str
    value: float | None
    limit: str
    breached: bool
    advice: str


def psi(expected: list[int], observed: list[int]) -> float:
    """Return the population stability index of two histograms over the same bins (0.1 is a shift, 0.25 a large one).

    Each bin counts PRIOR more than it has: with a tiny share in place of none, 100 films of the calibration's own
    distribution pass 0.25 in one report of six, because a bin that one sample left empty has a film of the other.
    """
    total_expected, total_observed = (sum(counts) + PRIOR * len(counts) for counts in (expected, observed))
    index = 0.0
    for e, o in zip(expected, observed, strict=True):
        p, q = (e + PRIOR) / total_expected, (o + PRIOR) / total_observed
        index += (q - p) * math.log(q / p)
    return index


def histogram(values: Iterable[float], edges: list[float]) -> list[int]:
    """Count ``values`` into the bins between ``edges``; the last bin includes its upper edge."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        inner = sum(1 for edge in edges[1:-1] if value >= edge)
        counts[inner] += 1
    return counts


def figures(
    films: Iterable[Row], reference: dict[str, Any] | None, model_sha256: str, limits: Limits
) -> tuple[dict[str, Any], list[Figure]]:
    """Return (counts for people, figures with limits) of the answers of a period.

    ``reference`` is the serving model's metrics.json["reference"]; only answers of that model are compared with it.
    """
    statuses: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    probabilities: list[float] = []
    distances: list[float] = []
    for film in films:
        statuses[film.status] += 1
        if film.status in ("ok", "uncertain") and film.label:
            labels[film.label] += 1
        if film.model_sha256 == model_sha256 and film.probability is not None:
            probabilities.append(film.probability)
            if film.ood_distance is not None:
                distances.append(film.ood_distance)
    total = statuses.total()
    counts = {"films": total, "statuses": {s: statuses[s] for s in STATUSES}, "labels": dict(labels)}
    readable = total - statuses["unreadable"]
    return counts, [
        _share("abstention rate", statuses["uncertain"] + statuses["out_of_distribution"], readable, limits,
               limits.max_abstention, "recalibrate on films of this hospital (docs/airflow.md)"),
        _share("unreadable share", statuses["unreadable"], total, limits,
               limits.max_unreadable, "look at what is uploaded and from where"),
        _positive_rate(labels, limits),
        _psi(probabilities, reference, limits),
        _ood(distances, reference, limits),
    ]  # fmt: skip


def _share(name: str, part: int, whole: int, limits: Limits, limit: float, advice: str) -> Figure:
    if whole < limits.min_films:
        return _unknown(name, f"at most {limit:g}", whole, limits)
    return Figure(name, part / whole, f"at most {limit:g}", part / whole > limit, advice)


def _positive_rate(labels: Counter[str], limits: Limits) -> Figure:
    low, high, labelled = limits.min_positive_rate, limits.max_positive_rate, sum(labels.values())
    bounds = f"{low:g} to {high:g}"
    if labelled < limits.min_films:
        return _unknown("positive rate", bounds, labelled, limits)
    rate = labels[CLASSES[1]] / labelled
    return Figure("positive rate", rate, bounds, not low <= rate <= high, "compare with the readers' reports")


def _psi(probabilities: list[float], reference: dict[str, Any] | None, limits: Limits) -> Figure:
    name, limit = "PSI of the probability", f"at most {limits.max_psi:g}"
    expected = (reference or {}).get("probability_histogram")
    if len(probabilities) < limits.min_films or not expected or not sum(expected["counts"]):
        return _unknown(name, limit, len(probabilities), limits)
    value = psi(expected["counts"], histogram(probabilities, expected["edges"]))
    return Figure(name, value, limit, value > limits.max_psi, "the films differ from those of the training: retrain")


def _ood(distances: list[float], reference: dict[str, Any] | None, limits: Limits) -> Figure:
    name, limit = "drift of the mean OOD distance (in deviations)", f"at most {limits.max_ood_drift:g}"
    expected = (reference or {}).get("ood_distance")
    if len(distances) < limits.min_films or not expected or not expected.get("std"):
        return _unknown(name, limit, len(distances), limits)
    value = (sum(distances) / len(distances) - expected["mean"]) / expected["std"]
    return Figure(name, value, limit, value > limits.max_ood_drift, "look for a new device, projection or age group")


def _unknown(name: str, limit: str, films: int, limits: Limits) -> Figure:
    return Figure(name, None, limit, False, f"{films} comparable films, {limits.min_films} are needed")


def document(counts: dict[str, Any], measured: list[Figure], model: dict[str, str] | None) -> dict[str, Any]:
    """Return what is stored as oversight.json."""
    return {"schema_version": 1, "model": model, **counts, "figures": [asdict(figure) for figure in measured]}


def sentence(figure: Figure) -> str:
    """Say a figure in one line."""
    value = "unknown" if figure.value is None else f"{figure.value:.4f}"
    return f"{figure.name} {value} (limit: {figure.limit}): {figure.advice}"
