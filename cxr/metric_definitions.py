"""The metrics that a training job prints, and the expressions by which SageMaker finds them in its log."""

from __future__ import annotations

from typing import TypedDict

_NUMBER = r"(-?[0-9.]+(?:[eE][-+]?[0-9]+)?|nan)"
FINAL = ("auroc", "sensitivity", "specificity", "accuracy", "ece")
PER_EPOCH = ("train:loss", "tune:loss", "tune:auroc")


class Metric(TypedDict):
    """How SageMaker finds a figure in the job's log."""

    Name: str
    Regex: str


METRIC_DEFINITIONS: list[Metric] = [
    {"Name": name, "Regex": f"{name}={_NUMBER}"} for name in (*PER_EPOCH, *(f"test:{name}" for name in FINAL))
]
