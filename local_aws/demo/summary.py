"""The summary of a demo is computed from what S3, SageMaker and the registry hold, never from what a step claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from cxr.labels import STATUSES

STYLES = {"ok": "green", "uncertain": "yellow", "out_of_distribution": "magenta", "unreadable": "red"}


@dataclass(frozen=True)
class Upload:
    """One uploaded file: its key, the S3 version it got, and what the person who uploaded it knows it to be."""

    key: str
    version_id: str
    truth: str


def lost(uploads: Iterable[Upload], results: Mapping[str, Mapping[str, Any]], dead_letters: Iterable[str]) -> list[str]:
    """Keys of uploads whose current version has neither a result nor a dead letter.

    `results` maps the upload key to its result JSON; `dead_letters` are the bodies of the messages in the queue for
    what could not be processed.
    """
    bodies = list(dead_letters)
    missing = []
    for upload in uploads:
        result = results.get(upload.key)
        answered = result is not None and result["image"]["version_id"] == upload.version_id
        if not answered and not any(upload.key in body for body in bodies):
            missing.append(upload.key)
    return missing


def summary(
    *,
    counts: Mapping[str, Mapping[str, int]],
    weights: str,
    job: Mapping[str, Any],
    package: Mapping[str, Any],
    bundle: Mapping[str, Any],
    uploads: Sequence[Upload],
    results: Mapping[str, Mapping[str, Any]],
    dead_letters: Sequence[str],
    parameters: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The content of summary.json.

    `counts`: films per split and class as the bundle reports them; `job`: DescribeTrainingJob; `package`:
    DescribeModelPackage; `bundle`: the promoted bundle.json; `parameters`: the DAG parameters that the demo sets.
    """
    test = bundle["metrics"]["test"]
    at_threshold = test["at_threshold"]
    statuses = [result["status"] for result in results.values()]
    return {
        "dataset": {
            "train": sum(counts["train"].values()),
            "validation": sum(counts["tune"].values()) + sum(counts["calibrate"].values()),
            "test": sum(counts["test"].values()),
        },
        "weights": weights,
        "training_job": {
            "name": job["TrainingJobName"],
            "status": job["TrainingJobStatus"],
            "seconds": round((job["TrainingEndTime"] - job["TrainingStartTime"]).total_seconds(), 1),
        },
        "model": {
            "version": package["ModelPackageVersion"],
            "sha256": bundle["files"]["model.tflite"]["sha256"],
            "approval": package["ModelApprovalStatus"],
        },
        "test": {
            "n": test["n"],
            "accuracy": at_threshold["accuracy"]["value"],
            "sensitivity": at_threshold["sensitivity"]["value"],
            "specificity": at_threshold["specificity"]["value"],
            "auroc": test["auroc"]["value"],
        },
        "uploads": len(uploads),
        "results": len(results),
        "lost": len(lost(uploads, results, dead_letters)),
        "status_counts": {status: statuses.count(status) for status in STATUSES},
        "dag_parameters": dict(parameters),
        "seconds": round(seconds, 1),
    }


def results_table(uploads: Sequence[Upload], results: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row per upload: what it was known to be, and what the function answered."""
    table = Table(title="Results", title_justify="left", header_style="bold")
    for name, justify in (
        ("upload", "left"),
        ("truth", "left"),
        ("status", "left"),
        ("label", "left"),
        ("p", "right"),
        ("priority", "left"),
        ("reasons", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=name != "reasons")  # type: ignore[arg-type]
    for upload in uploads:
        result = results.get(upload.key)
        if result is None:
            table.add_row(upload.key, upload.truth, "[bold red]no result", "", "", "", "")
            continue
        probability = "" if result["probability"] is None else f"{result['probability']:.3f}"
        reasons = ", ".join(reason["code"] for reason in result["reasons"])
        status = result["status"]
        table.add_row(
            upload.key,
            upload.truth,
            f"[{STYLES[status]}]{status}",
            result["label"] or "",
            probability,
            result["priority"],
            reasons,
        )
    return table
