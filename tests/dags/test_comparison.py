"""A challenger is compared with the champion on the same films, patient by patient."""

from __future__ import annotations

import random

import pytest
from pipeline.comparison import Margins, NotComparable, Tested, _patient, noninferiority, worse

MARGINS = Margins(auroc=-0.01, balanced_accuracy=-0.02)


def tested(noise: float, films: int = 200, seed: int = 1) -> Tested:
    rng = random.Random(seed)
    rows = {}
    for number in range(films):
        ill = number % 2 == 0
        chance = min(1.0, max(0.0, rng.gauss(0.75 if ill else 0.25, noise)))
        rows[f"test/{'PNEUMONIA' if ill else 'NORMAL'}/person{number // 2}_x_{number}.jpeg"] = (ill, chance)
    return Tested(rows, 0.5)


def test_a_model_is_not_inferior_to_itself() -> None:
    model = tested(0.2)
    assert worse(noninferiority(model, model), MARGINS) == []


def test_a_worse_model_is_inferior_and_both_figures_say_so() -> None:
    sentences = worse(noninferiority(tested(0.1), tested(0.8, seed=2)), MARGINS)
    assert [s.split(" differs")[0] for s in sentences] == ["AUROC", "balanced accuracy"]


def test_a_better_model_is_not_inferior() -> None:
    assert worse(noninferiority(tested(0.8, seed=2), tested(0.1)), MARGINS) == []


def test_the_same_predictions_give_the_same_bounds_twice() -> None:
    old, new = tested(0.3), tested(0.3, seed=2)
    assert noninferiority(old, new) == noninferiority(old, new)


def test_the_lower_bound_lies_below_the_difference() -> None:
    result = noninferiority(tested(0.3), tested(0.4, seed=2))
    assert result["delta_auroc"]["lower"] < result["delta_auroc"]["value"]


def test_auroc_counts_ties_as_half() -> None:
    ties = Tested({"a": (True, 0.5), "b": (False, 0.5), "c": (True, 0.5), "d": (False, 0.5)}, 0.4)
    perfect = Tested({"a": (True, 0.9), "b": (False, 0.1), "c": (True, 0.9), "d": (False, 0.1)}, 0.4)
    assert noninferiority(ties, perfect)["delta_auroc"]["value"] == pytest.approx(0.5)


def test_other_test_films_are_not_comparable() -> None:
    with pytest.raises(NotComparable, match="run `retrain` again"):
        noninferiority(tested(0.2, films=100), tested(0.2, films=98))


def test_one_class_alone_is_not_comparable() -> None:
    ill = Tested({"a": (True, 0.9), "b": (True, 0.8)}, 0.5)
    with pytest.raises(NotComparable):
        noninferiority(ill, ill)


@pytest.mark.parametrize(
    "file",
    ["test/PNEUMONIA/person12_virus_3.jpeg", "test/NORMAL/IM-0115-0001.jpeg", "NORMAL2-IM-7-1.jpeg", "x-rays.png"],
)
def test_patients_are_grouped_as_the_training_job_groups_them(file: str) -> None:
    from training_job.patients import patient_of

    known = patient_of(file)
    name = file.rpartition("/")[2]
    assert _patient(file) == (file if known == name else known)
