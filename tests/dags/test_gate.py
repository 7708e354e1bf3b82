"""Every floor that a model misses is named, with the value, the limit and the parameter that sets it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cxr_pipeline.gate import Floors, missed
from cxr_pipeline.retrain_form import FORM

METRICS: dict[str, Any] = {
    "test": {
        "n": 624,
        "at_threshold": {
            "sensitivity": {"value": 0.96, "low": 0.94, "high": 0.98},
            "specificity": {"value": 0.80, "low": 0.75, "high": 0.85},
        },
        "auroc": {"value": 0.97, "low": 0.96, "high": 0.98},
        "ece": 0.04,
    },
    "parity": {"auroc_drop": 0.0004, "label_flips": 0.005, "status_flips": 0.005},
}


@pytest.fixture
def floors() -> Floors:
    return Floors.from_params({name: FORM[name].value for name in Floors.__dataclass_fields__})


def test_a_good_model_misses_no_production_floor(floors: Floors) -> None:
    assert missed(METRICS, floors) == []


def test_production_floors_are_the_design_s(floors: Floors) -> None:
    assert (floors.min_sensitivity, floors.min_specificity, floors.min_auroc, floors.max_ece) == (
        0.93,
        0.70,
        0.93,
        0.10,
    )


@pytest.mark.parametrize(
    ("path", "value", "param"),
    [
        (("test", "at_threshold", "sensitivity", "value"), 0.9299, "min_sensitivity"),
        (("test", "at_threshold", "specificity", "value"), 0.69, "min_specificity"),
        (("test", "auroc", "value"), 0.90, "min_auroc"),
        (("test", "ece"), 0.11, "max_ece"),
        (("parity", "auroc_drop"), 0.006, "max_parity_auroc_drop"),
        (("parity", "label_flips"), 0.021, "max_parity_label_flips"),
        (("parity", "status_flips"), 0.021, "max_parity_status_flips"),
    ],
)
def test_each_missed_floor_is_named_alone(path: tuple[str, ...], value: float, param: str, floors: Floors) -> None:
    metrics = copy.deepcopy(METRICS)
    place = metrics
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (sentence,) = missed(metrics, floors)
    assert param in sentence


def test_all_missed_floors_are_named_together(floors: Floors) -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["test"]["auroc"]["value"] = 0.5
    metrics["test"]["at_threshold"]["sensitivity"]["value"] = 0.5
    assert len(missed(metrics, floors)) == 2


def test_an_undefined_figure_misses_its_floor(floors: Floors) -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["test"]["auroc"]["value"] = None
    (sentence,) = missed(metrics, floors)
    assert "undefined" in sentence
