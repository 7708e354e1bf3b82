"""The regular expressions by which SageMaker reads metrics from the log; data for the training request.

Rule: what the job prints and what SageMaker looks for are written down in one place and tested against each other.
"""

from __future__ import annotations

_NUMBER = r"(-?[0-9.]+(?:[eE][-+]?[0-9]+)?|nan)"
FINAL = ("auroc", "sensitivity", "specificity", "accuracy", "ece")
PER_EPOCH = ("train:loss", "tune:loss", "tune:auroc")

METRIC_DEFINITIONS = [{"Name": name, "Regex": rf"{name}={_NUMBER}"} for name in PER_EPOCH] + [
    {"Name": f"test:{name}", "Regex": rf"test:{name}={_NUMBER}"} for name in FINAL
]
