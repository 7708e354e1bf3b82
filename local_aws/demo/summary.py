"""The summary of a demo is computed from what S3, SageMaker and the registry hold, never from what a step claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_aws.demo.answers import Answers


def summary(
    bundle: Mapping[str, Any],
    job: Mapping[str, Any],
    package: Mapping[str, Any],
    answers: Answers,
    parameters: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The content of summary.json.

    `bundle`: the promoted bundle.json; `job`: DescribeTrainingJob; `package`: DescribeModelPackage; `parameters`: the
    DAG parameters that the demo sets; `seconds`: how long it all took.
    """
    counts, test = bundle["dataset"]["counts"], bundle["metrics"]["test"]
    films = {split: sum(of.values()) for split, of in counts.items()}
    return {
        "dataset": {
            "train": films["train"],
            "validation": films["tune"] + films["calibrate"],
            "test": films["test"],
        },
        "weights": bundle["weights"]["label"],
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
            **{name: test["at_threshold"][name]["value"] for name in ("accuracy", "sensitivity", "specificity")},
            "auroc": test["auroc"]["value"],
        },
        "uploads": len(answers.uploads),
        "results": len(answers.results),
        "lost": len(answers.lost()),
        "status_counts": answers.statuses(),
        "dag_parameters": dict(parameters),
        "seconds": round(seconds, 1),
    }


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What of the summary a person reads: the model, then the uploads."""
    test, counts = told["test"], told["status_counts"]
    rates = ", ".join(f"{name} {test[name]:.3f}" for name in ("auroc", "sensitivity", "specificity"))
    statuses = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())
    return [
        f"model {told['model']['version']} serves; on {test['n']} test films: {rates}",
        f"{told['uploads']} uploads, {told['results']} answered: {statuses}; {told['lost']} lost",
    ]
