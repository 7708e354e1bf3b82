"""Report and model card say how the conformal sets fail, not only how often they hold the truth."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr.labels import CLASSES
from training_job import facts, pages, scores


@pytest.fixture
def told() -> dict[str, Any]:
    """facts and metrics of four films of each class, one normal one in the set {PNEUMONIA}."""
    labels = np.repeat([0, 1], 4)
    probabilities = np.array([0.1, 0.2, 0.3, 0.9, 0.7, 0.8, 0.9, 0.95])
    quantiles: dict[str, float | None] = {"NORMAL": 0.5, "PNEUMONIA": 0.5}
    table = scores.evaluate(labels, probabilities, ["ok"] * 8, list("abcdefgh"), 0.5, quantiles)
    parity = {"n": 8, "keras_tflite_max_abs": 0.0, "auroc_drop": 0.0, "label_flips": 0.0, "status_flips": 0.0}
    counts = dict.fromkeys(CLASSES, 4)
    return {
        "facts": {
            "name": "tiny",
            "settings": {"head": "gap", "fine_tune_blocks": 0, "sensitivity_floor": 0.95, "seed": 0},
            "weights": {"label": "random"},
            "precision": "int8",
            "calibration": SimpleNamespace(
                line=SimpleNamespace(slope=1.0, offset=0.0),
                limits=SimpleNamespace(alpha=0.05, threshold=0.5),
                counts=counts,
            ),
            "counts": {"train": counts},
            "prevalence": {"train": 0.5, "test": 0.25},
            "digest": "d" * 64,
            "classes": CLASSES,
        },
        "metrics": {
            **dict.fromkeys(("test", "tune", "calibrate"), table),
            "parity": parity,
            "champion": None,
            "notes": [],
        },
    }


def test_the_model_card_has_a_row_of_set_sizes_and_errors_per_class(told: dict[str, Any]) -> None:
    card = pages.render("model_card.md", **told)
    normal, pneumonia = re.findall(r"^\| (?:NORMAL|PNEUMONIA) \|.*$", card, re.M)
    assert [cell.split(" (")[0].strip() for cell in normal.split("|")[2:6]] == ["100.0 %", "0.0 %", "0.0 %", "25.0 %"]
    assert "| 0.0 % (0.0 to 49.0) |" in pneumonia
    assert "Pneumonia is 50 % of these train films and 25 % of these test films" in card
    assert "Answered automatically: 100.0 % (67.6 to 100.0) of the films" in card
    assert "hold the true class for 75.0 % (30.1 to 95.4) of normal" in card
    assert "the wrong class alone |\n|---|---|---|---|---|\n| NORMAL |" in card and "|\n\n## How it was chosen" in card


def test_prevalence_is_that_of_the_folders_not_of_the_buckets() -> None:
    counts = {
        "train": {"NORMAL": 1, "PNEUMONIA": 5},
        "tune": {"NORMAL": 2, "PNEUMONIA": 0},
        "test": {"NORMAL": 3, "PNEUMONIA": 1},
    }
    assert facts.prevalence(counts) == {"train": 5 / 8, "test": 1 / 4}


def test_the_report_has_them_beside_the_coverage(told: dict[str, Any]) -> None:
    page = pages.render("report.html", **told, figures=[], gallery=[])
    (row,) = re.findall(r"<tr><td>NORMAL</td><td>75.0 %.*</tr>", page)
    assert re.findall(r"<td>(\d+\.\d %)", row) == ["75.0 %", "100.0 %", "0.0 %", "0.0 %", "25.0 %"]
    assert "<th>the wrong class alone</th>" in page
