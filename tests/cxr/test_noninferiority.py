"""A challenger is compared with the champion on the same films, patient by patient."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cxr.noninferiority import NotComparable, Outputs, noninferiority
from cxr.patients import patient_of
from training_job import scores

DELTAS = ("delta_auroc", "delta_balanced_accuracy")


def bounds(champion: Outputs, challenger: Outputs) -> dict[str, Any]:
    return noninferiority(champion, challenger, {file: patient_of(file) for file in champion.films}, resamples=200)


def outputs(noise: float, films: int = 200, seed: int = 1) -> Outputs:
    rng = random.Random(seed)
    rows = {}
    for number in range(films):
        ill = number % 2 == 0
        chance = min(1.0, max(0.0, rng.gauss(0.75 if ill else 0.25, noise)))
        rows[f"test/{'PNEUMONIA' if ill else 'NORMAL'}/person{number // 2}_x_{number}.jpeg"] = (ill, chance)
    return Outputs(rows, 0.5)


def test_a_model_does_not_differ_from_itself() -> None:
    model = outputs(0.2)
    nothing = {"value": 0.0, "lower": 0.0}
    assert bounds(model, model) == {**dict.fromkeys(DELTAS, nothing), "resamples": 200}


def test_a_worse_model_is_inferior_in_both_figures_and_a_better_one_in_neither() -> None:
    worse, better = bounds(outputs(0.1), outputs(0.8, seed=2)), bounds(outputs(0.8, seed=2), outputs(0.1))
    for name in DELTAS:
        assert worse[name]["lower"] < worse[name]["value"] < -0.05
        assert 0 < better[name]["lower"] < better[name]["value"]


def test_the_same_predictions_give_the_same_bounds_twice() -> None:
    old, new = outputs(0.3), outputs(0.3, seed=2)
    assert bounds(old, new) == bounds(old, new)


def test_auroc_counts_ties_as_half() -> None:
    ties = Outputs({"a": (True, 0.5), "b": (False, 0.5), "c": (True, 0.5), "d": (False, 0.5)}, 0.4)
    perfect = Outputs({"a": (True, 0.9), "b": (False, 0.1), "c": (True, 0.9), "d": (False, 0.1)}, 0.4)
    assert bounds(ties, perfect)["delta_auroc"]["value"] == pytest.approx(0.5)


def test_the_figures_are_those_of_metrics_json() -> None:
    old, new = outputs(0.3), outputs(0.4, seed=2)
    labels = np.array([int(label) for label in old.labels.values()])
    one, two = (np.array([p for _, p in model.films.values()]) for model in (old, new))
    found = bounds(old, new)
    assert found["delta_auroc"]["value"] == pytest.approx(scores.auroc(labels, two) - scores.auroc(labels, one))
    balanced = [scores.balanced_accuracy(labels, p >= 0.5) for p in (one, two)]
    assert found["delta_balanced_accuracy"]["value"] == pytest.approx(balanced[1] - balanced[0])


def test_five_percent_of_the_resamples_lie_below_the_bound() -> None:
    """Of a mean of independent changes the bound lies 1.645 standard errors below the value; classes are balanced."""
    old, new = outputs(0.3, films=600), outputs(0.35, films=600, seed=2)
    found = noninferiority(old, new, {file: file for file in old.films})["delta_balanced_accuracy"]
    changes = [(ill == (new.films[file][1] >= 0.5)) - (ill == (p >= 0.5)) for file, (ill, p) in old.films.items()]
    assert found["value"] == pytest.approx(np.mean(changes))
    assert found["value"] - found["lower"] == pytest.approx(1.645 * np.std(changes) / 600**0.5, rel=0.1)


def test_films_of_one_patient_stand_or_fall_together() -> None:
    """Two films a patient that change alike are as good as one: the bound is wider by the root of two."""
    rows = {f"person{n // 4}_{n}": (n % 4 < 2, 0.75 if n % 4 < 2 else 0.25) for n in range(400)}
    chance = random.Random(5)
    wrong = {patient: chance.random() < 0.3 for patient in range(200)}
    changed = {f: (ill, 1 - p if wrong[n // 2] else p) for n, (f, (ill, p)) in enumerate(rows.items())}
    old, new = Outputs(rows, 0.5), Outputs(changed, 0.5)
    apart = noninferiority(old, new, {file: file for file in rows})["delta_balanced_accuracy"]
    pairs = noninferiority(old, new, {file: str(n // 2) for n, file in enumerate(rows)})["delta_balanced_accuracy"]
    widths = [one["value"] - one["lower"] for one in (pairs, apart)]
    assert widths[0] / widths[1] == pytest.approx(2**0.5, rel=0.1)


def test_other_test_films_are_not_comparable() -> None:
    with pytest.raises(NotComparable, match="run `retrain` again"):
        bounds(outputs(0.2, films=100), outputs(0.2, films=98))


def test_one_class_alone_is_not_comparable() -> None:
    ill = Outputs({"a": (True, 0.9), "b": (True, 0.8)}, 0.5)
    with pytest.raises(NotComparable, match="one class only"):
        bounds(ill, ill)


def test_predictions_are_read_as_the_training_job_writes_them() -> None:
    rows = "file,label,probability,ood_distance,status", "a,NORMAL,0.25,1,ok", "b,PNEUMONIA,0.5,1,ok", "c,NORMAL,,,"
    assert Outputs.read("\n".join(rows).encode(), 0.4) == Outputs({"a": (False, 0.25), "b": (True, 0.5)}, 0.4)
