"""A bundle's limits, fitted to the films of another scanner or hospital; the network stays as it is.

Only slope and offset, threshold, conformal quantiles and the distance limit move. A third of the patients set the first
three, a third the others, and the last third, which set nothing, says whether it helped. Few patients say where the
logits lie, and only more of them how steep the line through them is.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logit

from cxr.labels import CLASSES
from cxr.verdict import Limits
from training_job import calibrate, logistic
from training_job.dataset import BadDataset, Films
from training_job.limits import conformal, shortages
from training_job.logistic import Line
from training_job.scoring import Scored, scored, table

PARTS = ("tune", "calibrate", "check")
PATIENTS_FOR_A_SLOPE = 25
"""Of each class, in the tune third; fewer move the offset alone."""


@dataclass(frozen=True)
class Outcome:
    """Old and new limits, and both on the films of the check part, which set neither.

    line: on the log odds that the old bundle gives. parts: what each film was used for. counts: films per part and
    class. calibrated: patients per class behind the quantiles. scored: all films by the new limits. notes: what to be
    told of.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    old: Limits
    limits: Limits
    line: Line
    parts: list[str]
    counts: dict[str, dict[str, int]]
    calibrated: dict[str, int]
    scored: Scored
    notes: list[str]


def parts(films: Films, alpha: float) -> dict[str, np.ndarray]:
    """Rows per part, by patient. Raises BadDataset when a part lacks a class."""

    def part(patient: str) -> str:
        return PARTS[int(hashlib.sha256(f"recalibrate {patient}".encode()).hexdigest(), 16) % 3]

    names = np.array([part(patient) for patient in films.patients])
    rows = {name: np.flatnonzero(names == name) for name in PARTS}
    for name, picked in rows.items():
        for label, of_class in enumerate(CLASSES):
            if not (films.labels[picked] == label).any():
                raise BadDataset(
                    f"no {of_class} patient falls into the {name} third of {len(films)} films; give at least "
                    f"{patients_wanted(alpha)} patients per class (alpha {alpha} needs "
                    f"{calibrate.patients_needed(alpha)} of each in a third)"
                )
    return rows


def patients_wanted(alpha: float) -> int:
    """Patients per class that leave enough for alpha in a third, with a margin for the luck of the cut."""
    return math.ceil(1.3 * len(PARTS) * calibrate.patients_needed(alpha))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Of probabilities [n], which a float32 rounds to 0 or 1."""
    return logit(np.clip(probabilities, 1e-7, 1 - 1e-7))


def recalibrated(now: Scored, films: Films, old: Limits, alpha: float, floor: float) -> Outcome:
    """New limits from the served file's own outputs on all films.

    alpha: error rate of the conformal sets. floor: of the sensitivity on the tune third.
    """
    rows = parts(films, alpha)
    tune = films.take(rows["tune"])
    logits = log_odds(now.probabilities)
    enough = min(_patients(tune).values()) >= PATIENTS_FOR_A_SLOPE
    line = (logistic.fit if enough else logistic.fit_offset)(logits[rows["tune"]], tune.labels, tune.patients)
    probabilities = line.probability(logits)
    quantiles, calibrated = conformal(probabilities[rows["calibrate"]], films.take(rows["calibrate"]), alpha)
    limits = replace(
        old,
        threshold=logistic.threshold(probabilities[rows["tune"]], tune.labels, tune.patients, floor),
        quantile_normal=quantiles["NORMAL"],
        quantile_pneumonia=quantiles["PNEUMONIA"],
        alpha=alpha,
        ood_limit=calibrate.ood_limit(now.distances[rows["calibrate"]]),
    )
    judged, check = scored(probabilities, now.distances, films.saturations, limits), films.take(rows["check"])
    before, after = table(check, now.take(rows["check"]), old), table(check, judged.take(rows["check"]), limits)
    used = np.empty(len(films), object)
    for name, picked in rows.items():
        used[picked] = name
    return Outcome(
        before=before,
        after=after,
        old=old,
        limits=limits,
        line=line,
        parts=used.tolist(),
        counts={name: films.take(picked).counts() for name, picked in rows.items()},
        calibrated=calibrated,
        scored=judged,
        notes=[
            *shortages(limits, calibrated, len(rows["calibrate"])),
            *([] if enough else [_only_an_offset(_patients(tune))]),
            *_worse(before, after),
        ],
    )


def _patients(films: Films) -> dict[str, int]:
    """How many patients have films of each class."""
    return {
        name: len({patient for patient, of in zip(films.patients, films.labels, strict=True) if of == label})
        for label, name in enumerate(CLASSES)
    }


def _only_an_offset(patients: dict[str, int]) -> str:
    given = ", ".join(f"{count} {name}" for name, count in patients.items())
    return (
        f"the tune third has {given} patients: only the offset was fitted; give {PATIENTS_FOR_A_SLOPE} of each class "
        "in a third to have the slope fitted as well"
    )


def _worse(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [
        f"{name} on the check third got worse, {before[key]['value']:.3f} before and {after[key]['value']:.3f} after: "
        "keep the old bundle, or give more films"
        for name, key in (("the calibration error (ECE)", "ece"), ("the Brier score", "brier"))
        if after[key]["value"] > before[key]["value"]
    ]


def describe(outcome: Outcome) -> str:
    """Before and after on the check third, for a terminal."""
    rows = [("", "before", "after")]
    for label, path in (
        ("sensitivity", ("at_threshold", "sensitivity", "value")),
        ("specificity", ("at_threshold", "specificity", "value")),
        ("accuracy", ("at_threshold", "accuracy", "value")),
        ("AUROC", ("auroc", "value")),
        ("ECE", ("ece", "value")),
        ("answered", ("coverage", "ok")),
        ("accuracy of answered", ("accuracy_on_ok", "value")),
    ):
        rows.append((label, _cell(outcome.before, path), _cell(outcome.after, path)))
    return "\n".join(f"{name:22}{before:>8}{after:>8}" for name, before, after in rows)


def _cell(figures: Any, path: tuple[str, ...]) -> str:
    """The figure at `path` of nested objects, three decimals."""
    for key in path:
        figures = figures[key]
    return "n/a" if figures is None else f"{figures:.3f}"
