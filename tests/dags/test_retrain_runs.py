"""`retrain` from its form to the Lambda's answer; test_plan and test_promotion go down its branches one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cxr_pipeline import registry

from cxr.pointer import KEY, PointerStore

pytestmark = pytest.mark.heavy
PATIENT = "DoeJane"  # in the name of every film of the dataset


@pytest.fixture(autouse=True)
def clean(aws: Any, trained: Any) -> Iterator[None]:
    """No model serves and the trained package waits for its verdict."""
    aws.empty("models_bucket", KEY)
    registry.decide(aws.client("sagemaker"), trained.package_arn, "PendingManualApproval", "")
    yield
    aws.empty("models_bucket", KEY)


def serving(aws: Any) -> dict[str, Any]:
    seen = PointerStore(aws.client("s3"), aws.settings["models_bucket"]).read()
    assert seen is not None
    return seen.pointer.as_json()


def test_a_model_below_the_floors_ends_the_run_before_anything_serves(trained: Any) -> None:
    assert (trained.tasks["train"], trained.tasks["register"], trained.tasks["judge"]) == (
        "success", "success", "failed",
    )  # fmt: skip
    assert {trained.tasks[name] for name in ("compare", "approve", "promote", "smoke_test")} == {"upstream_failed"}
    assert trained.tasks["roll_back"] == "skipped"
    assert trained.reason.startswith("gate:") and "max_ece = 0" in trained.reason


def test_a_first_model_is_promoted_and_answers_the_golden_films(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    """Data, image and parameters are those of the job that was paid for: it is judged again by other floors."""
    done = run("retrain", small, logical_date=None)
    assert done.state == "success"
    assert (done.returned["train"]["job"], done.returned["train"]["reused"]) == (trained.job, True)
    assert done.tasks["roll_back"] == "skipped"
    assert done.returned["smoke_test"] < 1e-3
    now = serving(aws)
    assert (now["bundle"]["key"], now["previous"]) == (f"models/{trained.job}/bundle.json", None)
    assert registry.status(aws.client("sagemaker"), trained.package_arn)[0] == "Approved"
    smoke = aws.client("s3").list_objects_v2(Bucket=aws.settings["uploads_bucket"], Prefix="_smoke/")
    assert smoke["KeyCount"] == 0
    assert "tune:auroc" in done.log  # the job's own log is shown
    assert PATIENT not in done.log


def test_a_failed_smoke_test_rolls_back_and_rejects(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any, serve_variant: Callable[..., Any]
) -> None:
    old = serve_variant(trained, lambda ill, p: 0.1 if ill else 0.9)
    key = f"models/{trained.job}/model.tflite"
    good = aws.client("s3").get_object(Bucket=aws.settings["models_bucket"], Key=key)["Body"].read()
    aws.put("models_bucket", key, b"damaged" + good)
    try:
        done = run("retrain", {**small, "smoke_tolerance": 0})
    finally:
        aws.put("models_bucket", key, good)
    assert (done.state, done.tasks["smoke_test"], done.tasks["roll_back"]) == ("failed", "failed", "success")
    assert done.tasks["announce"] == "upstream_failed"
    now = serving(aws)
    assert (now["serial"], now["bundle"], now["previous"]) == (3, old["bundle"], None)
    decision, reason = registry.status(aws.client("sagemaker"), trained.package_arn)
    assert decision == "Rejected" and reason.startswith("smoke:")
    assert PATIENT not in done.log
