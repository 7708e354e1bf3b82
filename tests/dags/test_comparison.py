"""A challenger is compared with the champion on the same films, patient by patient."""

from __future__ import annotations

import random

import numpy as np
import pytest
from cxr_pipeline import comparison
from cxr_pipeline.comparison import Margins, NotComparable, Scored, worse

from cxr.patients import patient_of

MARGINS = Margins(auroc=-0.01, balanced_accuracy=-0.02)


def bounds(champion: Scored, challenger: Scored) -> dict:
    return comparison.noninferiority(champion, challenger, resamples=200)


def scored(noise: float, films: int = 200, seed: int = 1) -> Scored:
    rng = random.Random(seed)
    rows = {}
    for number in range(films):
        ill = number % 2 == 0
        chance = min(1.0, max(0.0, rng.gauss(0.75 if ill else 0.25, noise)))
        rows[f"test/{'PNEUMONIA' if ill else 'NORMAL'}/person{number // 2}_x_{number}.jpeg"] = (ill, chance)
    return Scored(rows, 0.5)


def test_a_model_is_not_inferior_to_itself() -> None:
    model = scored(0.2)
    assert worse(bounds(model, model), MARGINS) == []


def test_a_worse_model_is_inferior_and_both_figures_say_so() -> None:
    sentences = worse(bounds(scored(0.1), scored(0.8, seed=2)), MARGINS)
    assert [s.split(" differs")[0] for s in sentences] == ["AUROC", "balanced accuracy"]


def test_a_better_model_is_not_inferior() -> None:
    assert worse(bounds(scored(0.8, seed=2), scored(0.1)), MARGINS) == []


def test_the_same_predictions_give_the_same_bounds_twice() -> None:
    old, new = scored(0.3), scored(0.3, seed=2)
    assert bounds(old, new) == bounds(old, new)


def test_the_lower_bound_lies_below_the_difference() -> None:
    result = bounds(scored(0.3), scored(0.4, seed=2))
    assert result["delta_auroc"]["lower"] < result["delta_auroc"]["value"]


def test_auroc_counts_ties_as_half() -> None:
    ties = Scored({"a": (True, 0.5), "b": (False, 0.5), "c": (True, 0.5), "d": (False, 0.5)}, 0.4)
    perfect = Scored({"a": (True, 0.9), "b": (False, 0.1), "c": (True, 0.9), "d": (False, 0.1)}, 0.4)
    assert bounds(ties, perfect)["delta_auroc"]["value"] == pytest.approx(0.5)


def test_other_test_films_are_not_comparable() -> None:
    with pytest.raises(NotComparable, match="run `retrain` again"):
        bounds(scored(0.2, films=100), scored(0.2, films=98))


def test_one_class_alone_is_not_comparable() -> None:
    ill = Scored({"a": (True, 0.9), "b": (True, 0.8)}, 0.5)
    with pytest.raises(NotComparable):
        bounds(ill, ill)


@pytest.mark.heavy
def test_the_bounds_are_those_of_the_training_job() -> None:
    from training_job import champion

    old, new = scored(0.3, films=400), scored(0.35, films=400, seed=2)
    files = sorted(old.films)
    sides = [(np.array([s.films[file][1] for file in files]), s.threshold) for s in (old, new)]
    patients = [patient_of(file) for file in files]
    job = champion.noninferiority(np.array([int(old.labels[file]) for file in files]), patients, *sides)
    dag = comparison.noninferiority(old, new)
    assert comparison.LOWER_PERCENTILE == champion.LOWER_PERCENTILE
    for name in ("delta_auroc", "delta_balanced_accuracy"):
        assert dag[name]["value"] == pytest.approx(job[name]["value"])
        width = job[name]["value"] - job[name]["lower"]
        assert dag[name]["lower"] == pytest.approx(job[name]["lower"], abs=0.1 * width)  # each drew its own resamples
