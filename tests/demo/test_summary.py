"""The demo's summary counts what is there; a lost upload cannot hide in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local_aws.demo.answers import Answers, Upload, keys_of
from local_aws.demo.summary import sentences, summary


def answered(version: str = "v1", status: str = "ok") -> dict[str, Any]:
    return {"image": {"version_id": version}, "status": status}


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value}


UPLOADS = [Upload("a.jpeg", "v1", "NORMAL"), Upload("b.jpeg", "v1", "PNEUMONIA")]


def test_an_upload_without_result_and_dead_letter_is_lost() -> None:
    assert Answers(UPLOADS, {"a.jpeg": answered()}).lost() == ["b.jpeg"]


def test_a_result_of_an_older_version_does_not_count_as_an_answer() -> None:
    assert Answers(UPLOADS, {"a.jpeg": answered("v0"), "b.jpeg": answered()}).lost() == ["a.jpeg"]


def test_a_dead_letter_is_not_lost_and_names_no_other_upload() -> None:
    uploads = [Upload("ward 1/ö+.jpeg", "v1", "NORMAL"), Upload(".jpeg", "v1", "NORMAL")]
    letter = json.dumps({"Records": [{"s3": {"object": {"key": "ward+1/%C3%B6%2B.jpeg"}}}]})
    assert Answers(uploads, dead=keys_of(letter)).lost() == [".jpeg"]


def test_the_summary_has_the_fields_that_were_promised() -> None:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    counts = {
        "train": {"NORMAL": 40, "PNEUMONIA": 100},
        "tune": {"NORMAL": 3, "PNEUMONIA": 5},
        "calibrate": {"NORMAL": 4, "PNEUMONIA": 6},
        "test": {"NORMAL": 20, "PNEUMONIA": 30},
    }
    rates = {name: interval(0.9) for name in ("accuracy", "sensitivity", "specificity")}
    told = summary(
        bundle={
            "dataset": {"counts": counts},
            "weights": {"label": "random"},
            "metrics": {"test": {"n": 50, "at_threshold": rates, "auroc": interval(0.95)}},
            "files": {"model.tflite": {"sha256": "ab", "bytes": 1}},
        },
        job={
            "TrainingJobName": "cxr-1",
            "TrainingJobStatus": "Completed",
            "TrainingStartTime": start,
            "TrainingEndTime": start + timedelta(seconds=61.25),
        },
        package={"ModelPackageVersion": 1, "ModelApprovalStatus": "Approved"},
        answers=Answers(UPLOADS, {"a.jpeg": answered(), "b.jpeg": answered(status="out_of_distribution")}),
        parameters={"min_auroc": 0.6},
        seconds=99.96,
    )
    assert told["dataset"] == {"train": 140, "validation": 18, "test": 50}
    assert told["weights"] == "random"
    assert told["training_job"] == {"name": "cxr-1", "status": "Completed", "seconds": pytest.approx(61.2, abs=0.06)}
    assert told["model"] == {"version": 1, "sha256": "ab", "approval": "Approved"}
    assert told["test"] == {"n": 50, "accuracy": 0.9, "sensitivity": 0.9, "specificity": 0.9, "auroc": 0.95}
    assert told["status_counts"] == {"ok": 1, "uncertain": 0, "out_of_distribution": 1, "unreadable": 0}
    assert (told["uploads"], told["results"], told["lost"]) == (2, 2, 0)
    assert told["dag_parameters"] == {"min_auroc": 0.6}
    assert sentences(told) == [
        "model 1 serves; on 50 test films: auroc 0.950, sensitivity 0.900, specificity 0.900",
        "2 uploads, 2 answered: 1 ok, 0 uncertain, 1 out of distribution, 0 unreadable; 0 lost",
    ]
