"""The metrics that the job prints, and expressions by which a log reader such as SageMaker finds them.

Rule: a metric is named here once; the job's log is tested against it, and so is the request that the DAG sends (DAGs
import nothing of the job, they bring expressions of their own).
"""

from __future__ import annotations

_NUMBER = r"(-?[0-9.]+(?:[eE][-+]?[0-9]+)?|nan)"
FINAL = ("auroc", "sensitivity", "specificity", "accuracy", "ece")
PER_EPOCH = ("train:loss", "tune:loss", "tune:auroc")

METRIC_DEFINITIONS = [{"Name": name, "Regex": rf"{name}={_NUMBER}"} for name in PER_EPOCH] + [
    {"Name": f"test:{name}", "Regex": rf"test:{name}={_NUMBER}"} for name in FINAL
]
