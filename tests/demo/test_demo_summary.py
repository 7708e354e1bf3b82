"""The demo's summary counts what is there; a lost upload cannot hide in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local_aws.demo.summary import Upload, lost, summary


def answered(version: str = "v1", status: str = "ok") -> dict[str, Any]:
    return {"image": {"version_id": version}, "status": status}


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value}


UPLOADS = [Upload("a.jpeg", "v1", "NORMAL"), Upload("b.jpeg", "v1", "PNEUMONIA")]


def test_an_upload_without_result_and_dead_letter_is_lost() -> None:
    assert lost(UPLOADS, {"a.jpeg": answered()}, []) == ["b.jpeg"]


def test_a_result_of_an_older_version_does_not_count_as_an_answer() -> None:
    assert lost(UPLOADS, {"a.jpeg": answered("v0"), "b.jpeg": answered()}, []) == ["a.jpeg"]


def test_a_dead_letter_is_not_lost() -> None:
    assert lost(UPLOADS, {"a.jpeg": answered()}, ['{"Records": [{"key": "b.jpeg"}]}']) == []


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
        counts=counts,
        weights="random",
        job={
            "TrainingJobName": "cxr-1",
            "TrainingJobStatus": "Completed",
            "TrainingStartTime": start,
            "TrainingEndTime": start + timedelta(seconds=61.25),
        },
        package={"ModelPackageVersion": 1, "ModelApprovalStatus": "Approved"},
        bundle={
            "metrics": {"test": {"n": 50, "at_threshold": rates, "auroc": interval(0.95)}},
            "files": {"model.tflite": {"sha256": "ab", "bytes": 1}},
        },
        uploads=UPLOADS,
        results={"a.jpeg": answered(), "b.jpeg": answered(status="unreadable")},
        dead_letters=[],
        parameters={"min_auroc": 0.6},
        seconds=99.96,
    )
    assert told["dataset"] == {"train": 140, "validation": 18, "test": 50}
    assert told["training_job"] == {"name": "cxr-1", "status": "Completed", "seconds": pytest.approx(61.2, abs=0.06)}
    assert told["model"] == {"version": 1, "sha256": "ab", "approval": "Approved"}
    assert told["status_counts"] == {"ok": 1, "uncertain": 0, "out_of_distribution": 0, "unreadable": 1}
    assert (told["uploads"], told["results"], told["lost"]) == (2, 2, 0)
    assert told["dag_parameters"] == {"min_auroc": 0.6}
