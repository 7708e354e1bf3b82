"""`retrain` from its form to the Lambda's answer: one real training job, every branch that lies behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cxr_pipeline import pointer, registry

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def clean(aws: Any, trained: Any) -> Iterator[None]:
    """No model serves and the trained package waits for its verdict."""
    aws.empty("models_bucket", pointer.KEY)
    registry.decide(aws.client("sagemaker"), trained.package_arn, "PendingManualApproval", "")
    yield
    aws.empty("models_bucket", pointer.KEY)


def serving(aws: Any) -> dict[str, Any] | None:
    found = pointer.read(aws.client("s3"), aws.settings["models_bucket"])
    return found.document if found else None


def verdict(aws: Any, trained: Any) -> tuple[str, str]:
    return registry.status(aws.client("sagemaker"), trained.package_arn)


def inverted(ill: bool, p: float) -> float:
    return 0.1 if ill else 0.9


def perfect(ill: bool, p: float) -> float:
    return 0.9 if ill else 0.1


def test_a_first_model_is_promoted_and_answers_the_golden_films(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    done = run("retrain", small, logical_date=None)
    assert done.state == "success"
    assert done.tasks["roll_back"] == "skipped"
    assert done.returned["smoke_test"] < 1e-3
    assert serving(aws)["bundle"]["key"] == f"models/{trained.job}/bundle.json"
    assert serving(aws)["previous"] is None
    assert verdict(aws, trained)[0] == "Approved"
    smoke = aws.client("s3").list_objects_v2(Bucket=aws.settings["uploads_bucket"], Prefix="_smoke/")
    assert smoke["KeyCount"] == 0


def test_unchanged_data_and_parameters_pay_for_no_second_job(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    done = run("retrain", {**small, "max_ece": 0})
    assert done.returned["train"]["job"] == trained.job
    assert done.returned["train"]["reused"] is True


def test_a_model_that_serves_already_is_not_promoted_again(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    run("retrain", small)
    done = run("retrain", small)
    assert (done.state, done.tasks["compare"], done.tasks["promote"]) == ("success", "skipped", "skipped")
    assert serving(aws)["serial"] == 1


def test_a_model_below_the_floors_is_rejected_with_the_reason(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    done = run("retrain", {**small, "min_auroc": 1, "max_ece": 0})
    decision, reason = verdict(aws, trained)
    assert (done.state, done.tasks["judge"], decision) == ("failed", "failed", "Rejected")
    assert reason.startswith("gate:")
    assert "max_ece = 0" in reason
    assert any(reason in line for line in done.headlines)
    assert serving(aws) is None


def test_a_rejection_by_figures_may_be_made_anew_with_other_floors(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    registry.decide(aws.client("sagemaker"), trained.package_arn, "Rejected", "gate: AUROC too low")
    assert run("retrain", small).state == "success"
    assert serving(aws)["serial"] == 1


def test_a_person_s_refusal_is_not_overruled(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    registry.decide(aws.client("sagemaker"), trained.package_arn, "Rejected", "Dr Green: heat maps look at the marker")
    assert run("retrain", small).tasks["judge"] == "failed"
    assert verdict(aws, trained)[1].startswith("Dr Green")


def test_a_challenger_better_than_the_champion_replaces_it(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any, serve_variant: Callable[..., Any]
) -> None:
    serve_variant(trained, inverted)
    done = run("retrain", {**small, "margin_auroc": -0.5, "margin_balanced_accuracy": -0.6})
    assert done.state == "success"
    assert (serving(aws)["serial"], serving(aws)["previous"]["version"]) == (2, "0")


def test_a_challenger_worse_than_the_champion_is_rejected(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any, serve_variant: Callable[..., Any]
) -> None:
    old = serve_variant(trained, perfect)
    done = run("retrain", {**small, "margin_auroc": 0, "margin_balanced_accuracy": 0})
    assert (done.state, done.tasks["compare"]) == ("failed", "failed")
    decision, reason = verdict(aws, trained)
    assert decision == "Rejected"
    assert reason.startswith("comparison: with model 0")
    assert serving(aws) == old


def test_an_older_model_does_not_come_back_because_the_data_is_unchanged(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any, serve_variant: Callable[..., Any]
) -> None:
    run("retrain", small)
    newer = serve_variant(trained, inverted)
    done = run("retrain", small)
    assert (done.state, done.tasks["compare"]) == ("success", "skipped")
    assert serving(aws) == newer


def decide_soon(aws: Any, trained: Any, decision: str, reason: str) -> None:
    """Decide as a person does: in the registry, while the run waits."""

    def person() -> None:
        for _ in range(600):
            time.sleep(0.2)
            if verdict(aws, trained)[1].startswith("waits"):
                break
        time.sleep(1)
        registry.decide(aws.client("sagemaker"), trained.package_arn, decision, reason)

    threading.Thread(target=person, daemon=True).start()


@pytest.mark.parametrize(("decision", "state"), [("Approved", "success"), ("Rejected", "failed")])
def test_a_person_decides_in_the_registry(
    decision: str, state: str, aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    decide_soon(aws, trained, decision, "Dr Green has looked at 50 films")
    done = run("retrain", {**small, "approval": "manual"})
    assert done.state == state
    assert (serving(aws) is not None) == (decision == "Approved")
    assert verdict(aws, trained) == (decision, "Dr Green has looked at 50 films")


def test_an_approval_that_nobody_gives_times_out_and_stays_open(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any
) -> None:
    done = run("retrain", {**small, "approval": "manual", "approval_timeout_hours": 0.0001})
    assert (done.state, done.tasks["approve"]) == ("failed", "failed")
    assert verdict(aws, trained)[0] == "PendingManualApproval"
    assert serving(aws) is None


def test_a_failed_smoke_test_rolls_back_and_rejects(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], trained: Any, serve_variant: Callable[..., Any]
) -> None:
    old = serve_variant(trained, inverted)
    key = f"models/{trained.job}/model.tflite"
    good = aws.client("s3").get_object(Bucket=aws.settings["models_bucket"], Key=key)["Body"].read()
    aws.put("models_bucket", key, b"damaged" + good)
    try:
        done = run("retrain", {**small, "smoke_tolerance": 0})
    finally:
        aws.put("models_bucket", key, good)
    assert (done.state, done.tasks["smoke_test"], done.tasks["roll_back"]) == ("failed", "failed", "success")
    now = serving(aws)
    assert (now["serial"], now["bundle"], now["previous"]) == (3, old["bundle"], None)
    decision, reason = verdict(aws, trained)
    assert decision == "Rejected"
    assert reason.startswith("smoke:")


def test_of_two_promotions_the_later_compares_again(
    aws: Any,
    run: Callable[..., Any],
    small: dict[str, Any],
    trained: Any,
    serve_variant: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve_variant(trained, inverted)
    original, tries = pointer.promote, []

    def overtaken(*args: Any, **kwargs: Any) -> pointer.Pointer:
        tries.append(args)
        if len(tries) == 1:
            monkeypatch.setattr(pointer, "promote", original)
            serve_variant(trained, inverted)
            monkeypatch.setattr(pointer, "promote", overtaken)
        return original(*args, **kwargs)

    monkeypatch.setattr(pointer, "promote", overtaken)
    done = run("retrain", small)
    assert len(tries) == 2
    assert done.state == "success"
    assert (serving(aws)["serial"], serving(aws)["previous"]["serial"]) == (3, 2)


def test_a_promotion_whose_answer_was_lost_is_smoke_tested_all_the_same(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pointer.promote

    def unheard(*args: Any, **kwargs: Any) -> pointer.Pointer:
        original(*args, **kwargs)
        raise pointer.ChampionChanged("412: botocore asked a second time")

    monkeypatch.setattr(pointer, "promote", unheard)
    done = run("retrain", small)
    assert (done.state, done.tasks["promote"], done.tasks["smoke_test"]) == ("success", "success", "success")
    assert serving(aws)["serial"] == 1


def test_a_deferred_job_ends_the_task_and_a_strange_archive_is_refused(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], training_image: Callable[[str], None]
) -> None:
    training_image("quick")
    done = run("retrain", small, deferrable=True)
    assert (done.tasks["train"], done.tasks["register"]) == ("success", "failed")
    assert any("no bundle.json" in line for line in done.headlines)


def test_a_job_that_somebody_stops_is_no_success(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], training_image: Callable[[str], None]
) -> None:
    training_image("slow")
    sagemaker = aws.client("sagemaker")

    def somebody() -> None:
        for _ in range(600):
            time.sleep(0.2)
            running = sagemaker.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]
            for job in running:
                sagemaker.stop_training_job(TrainingJobName=job["TrainingJobName"])
            if running:
                return

    threading.Thread(target=somebody, daemon=True).start()
    done = run("retrain", small)
    assert (done.state, done.tasks["train"]) == ("failed", "failed")
    assert any("was stopped" in line for line in done.headlines)


def test_a_dataset_with_too_few_films_costs_no_job(aws: Any, run: Callable[..., Any], small: dict[str, Any]) -> None:
    done = run("retrain", {**small, "dataset": "datasets/none/"})
    assert (done.state, done.tasks["plan"], done.tasks["train"]) == ("failed", "failed", "upstream_failed")


def test_a_training_failure_ends_the_run_with_its_reason(
    aws: Any, run: Callable[..., Any], small: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        for label in ("NORMAL", "PNEUMONIA"):
            for number in range(3):
                aws.put("datasets_bucket", f"datasets/broken/{split}/{label}/{number}.jpeg", b"no film %d" % number)
    done = run("retrain", {**small, "dataset": "datasets/broken/"})
    assert (done.state, done.tasks["train"]) == ("failed", "failed")
    (failed,) = [
        job["TrainingJobName"]
        for job in aws.client("sagemaker").list_training_jobs(StatusEquals="Failed")["TrainingJobSummaries"]
        if "operator" not in job["TrainingJobName"]
    ]
    reason = aws.client("sagemaker").describe_training_job(TrainingJobName=failed)["FailureReason"]
    assert any(failed in line and reason[:60] in line for line in done.headlines)
