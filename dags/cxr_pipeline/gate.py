"""A model is judged by floors that were fixed before it was trained; every floor that it misses is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Floors:
    """Limits of the quality gate on the frozen test split (production defaults are the form's)."""

    min_sensitivity: float
    min_specificity: float
    min_auroc: float
    max_ece: float
    max_parity_auroc_drop: float
    max_parity_label_flips: float
    max_parity_status_flips: float

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Floors:
        return cls(**{name: float(params[name]) for name in cls.__dataclass_fields__})


def missed(metrics: dict[str, Any], floors: Floors) -> list[str]:
    """Return one sentence for each floor that ``metrics`` (a bundle's metrics.json) misses; empty means passed."""
    test, parity = metrics["test"], metrics["parity"]
    at_threshold = test["at_threshold"]
    measured = (
        ("sensitivity", at_threshold["sensitivity"], floors.min_sensitivity, "min_sensitivity"),
        ("specificity", at_threshold["specificity"], floors.min_specificity, "min_specificity"),
        ("AUROC", test["auroc"], floors.min_auroc, "min_auroc"),
        ("calibration error (ECE)", test["ece"], floors.max_ece, "max_ece"),
        ("AUROC lost by export", parity["auroc_drop"], floors.max_parity_auroc_drop, "max_parity_auroc_drop"),
        (
            "share of labels changed by export",
            parity["label_flips"],
            floors.max_parity_label_flips,
            "max_parity_label_flips",
        ),
        (
            "share of statuses changed by export",
            parity["status_flips"],
            floors.max_parity_status_flips,
            "max_parity_status_flips",
        ),
    )
    return [sentence for row in measured if (sentence := _judge(*row))]


def _judge(name: str, figure: Any, limit: float, param: str) -> str | None:
    value = figure["value"] if isinstance(figure, dict) else figure
    if value is None:
        return f"{name} is undefined on this test split ({param} = {limit:g})"
    floor = param.startswith("min_")
    if (value >= limit) if floor else (value <= limit):
        return None
    interval = f" (95 % {figure['low']:.3f}-{figure['high']:.3f})" if _has_interval(figure) else ""
    return f"{name} {value:.4f}{interval} is {'below the floor' if floor else 'above the ceiling'} {param} = {limit:g}"


def _has_interval(figure: Any) -> bool:
    return isinstance(figure, dict) and figure.get("low") is not None and figure.get("high") is not None
