"""The DAG `retrain` as `airflow dags test` runs it, and what of its log a person wants to see."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_aws.demo.inputs import Weights
from local_aws.demo.steps import Step
from local_aws.lines import NewLines
from local_aws.processes import Children
from local_aws.server import ROOT

LOG_LINE = re.compile(r"\[(?P<level>info|warning|error)\s*\] (?P<message>.*?)\s*\[(?P<source>[a-z_]+[.a-zA-Z_]*)\]")
HEADLINE = "headline: "
NOISE = re.compile(
    r"WARNING: All log messages|[IWE]0000 |Preprocessing the config|After preprocessing|INFO: Created Tens"
)
TAIL_LINES = 30
POLL_SECONDS = 0.2

# The floors of the gate that the demo sets below production's, and why: a few hundred films cannot show more.
SMALL_DATA = {
    "min_sensitivity": 0.5,
    "min_specificity": 0.3,
    "min_auroc": 0.6,
    "max_ece": 0.35,
    "alpha": 0.1,
}


class RetrainingFailed(Exception):
    """The DAG failed; the text holds the end of its log."""


def dag_parameters(dataset: str, weights: Weights, weights_uri: str, epochs: int, side: int | None) -> dict[str, Any]:
    """The form of the `retrain` DAG as the demo fills it in; what differs from production is visible here."""
    return {
        "dataset": dataset,
        "head": "gap",
        "weights": weights.hyperparameter,
        "weights_uri": weights_uri,
        "epochs": epochs,
        "augment_copies": 1,
        **({"side": side} if side else {}),
        "approval": "automatic",
        "instance_type": "ml.m5.xlarge",
        "require_gpu": False,
        "check_interval": 2,
        **SMALL_DATA,
    }


def retrain(environment: Mapping[str, str], parameters: Mapping[str, Any], log: Path, step: Step) -> None:
    """Run the DAG to its end, its output going to `log`. Raises RetrainingFailed."""
    command = [sys.executable, "-m", "airflow", "dags", "test", "retrain", "--conf", json.dumps(dict(parameters))]
    children = Children()
    try:
        with log.open("wb") as output:
            child = children.start(command, env=environment, cwd=ROOT, output=output)
        lines, ended = NewLines(log), False
        while not ended:
            ended = child.wait(POLL_SECONDS)
            for line in filter(None, map(follow, lines.read(last=ended))):
                step.say(line)
    finally:
        children.close()
    if child.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise RetrainingFailed(f"the DAG retrain failed with exit status {child.returncode}; the end of {log}:\n{tail}")


def follow(line: str) -> str | None:
    """A line of Airflow's log for a person, or None: the training job's own lines and what the tasks print are."""
    if line.startswith(HEADLINE):
        return line.removeprefix(HEADLINE).strip()
    found = LOG_LINE.search(line)
    if not found:
        return None
    message, source = found["message"].strip(), found["source"]
    if "pipeline.training" in source and not NOISE.match(message):
        return message
    return message if found["level"] == "error" and "task" in source else None
