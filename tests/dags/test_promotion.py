"""Every branch between a registered model and the one that answers."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from cxr_pipeline import promotion, registry
from cxr_pipeline.approval import ApprovalSensor
from cxr_pipeline.comparison import Margins
from cxr_pipeline.gate import Floors
from cxr_pipeline.outcome import AirflowFailException, AirflowSkipException
from cxr_pipeline.promotion import Challenger
from cxr_pipeline.retrain_form import FORM

from cxr.pointer import Move, PointerMoved, PointerStore, Release, Seen

pytestmark = pytest.mark.heavy
NUMBER = count(1)
METRICS: dict[str, Any] = {
    "test": {"auroc": 0.97, "ece": 0.04, "at_threshold": {"sensitivity": 0.96, "specificity": 0.8}},
    "parity": {"auroc_drop": 0, "label_flips": 0, "status_flips": 0},
}
PARAMS = {name: param.value for name, param in FORM.items()}
FLOORS, MARGINS = Floors.from_params(PARAMS), Margins.from_params(PARAMS)
GREEN = "Dr Green has looked at 50 films"


class House:
    """A bucket of models with its pointer, and a group of the registry, of a test's own."""

    def __init__(self, aws: Any) -> None:
        self.s3, self.sagemaker, self.name = aws.client("s3"), aws.client("sagemaker"), f"house-{next(NUMBER)}"
        self.s3.create_bucket(Bucket=self.name)
        self.s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        self.sagemaker.create_model_package_group(ModelPackageGroupName=self.name)
        self.pointer = PointerStore(self.s3, self.name)

    def model(self, made_bundle: Callable[..., Any], chance: tuple[float, float], **more: Any) -> Challenger:
        """Register a model that says ``chance`` = (of normal films, of ill ones); more: of metrics.json."""
        job, (normal, ill) = f"job-{next(NUMBER)}", chance
        rows = [f"test/{'PNEUMONIA' if n % 2 else 'NORMAL'}/person{n}_x_1.jpeg" for n in range(40)]
        table = "".join(f"{row},{row.split('/')[1]},{ill if n % 2 else normal}\n" for n, row in enumerate(rows))
        files = {
            "model.tflite": job.encode(),
            "predictions.csv": f"file,label,probability\n{table}".encode(),
            "metrics.json": json.dumps({**copy.deepcopy(METRICS), **more}).encode(),
        }
        manifest = made_bundle(files, job)
        for name, body in {**files, "bundle.json": manifest.to_json()}.items():
            stored = self.s3.put_object(Bucket=self.name, Key=f"models/{job}/{name}", Body=body)
        arn = registry.register(
            self.sagemaker, self.name, job, registry.Package("s3://b/model.tar.gz", "image", "s3://b/m.json", {})
        )
        digest = hashlib.sha256(manifest.to_json()).hexdigest()
        key = f"models/{job}/bundle.json"
        return Challenger(
            self.s3, self.sagemaker,
            {
                "package_arn": arn, "version": registry.version(arn), "job": job, "dataset": "datasets/x/",
                "bundle": {"bucket": self.name, "key": key, "version_id": stored["VersionId"], "sha256": digest},
                "model_sha256": manifest.model_sha256, "threshold": manifest.threshold,
            },
        )  # fmt: skip

    def serve(self, challenger: Challenger, actor: str = "a person") -> Seen:
        return self.pointer.promote(challenger.release, self.pointer.read(), Move(actor, "because"))

    @property
    def seen(self) -> Seen:
        seen = self.pointer.read()
        assert seen is not None, "no model serves"
        return seen


@pytest.fixture
def house(aws: Any) -> House:
    return House(aws)


def verdict(challenger: Challenger) -> tuple[str, str]:
    return registry.status(challenger.sagemaker, challenger.model["package_arn"])


def approve(challenger: Challenger) -> None:
    registry.decide(challenger.sagemaker, challenger.model["package_arn"], "Approved", GREEN)


GOOD, POOR = (0.1, 0.9), (0.9, 0.1)


def test_a_model_below_the_floors_is_rejected_with_every_reason(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD, test={**METRICS["test"], "auroc": 0.5, "ece": 0.5})
    with pytest.raises(AirflowFailException):
        promotion.judge(one, FLOORS)
    decision, reason = verdict(one)
    assert decision == "Rejected"
    assert reason.startswith("gate:") and "min_auroc" in reason and "max_ece" in reason


def test_a_rejection_by_figures_may_be_made_anew_with_other_floors(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    registry.decide(house.sagemaker, one.model["package_arn"], "Rejected", "gate: AUROC too low")
    promotion.judge(one, FLOORS)
    assert verdict(one)[0] == "PendingManualApproval"


@pytest.mark.parametrize("reason", ["Dr Green: heat maps look at the marker", "smoke: it did not answer"])
def test_a_person_s_refusal_and_the_smoke_test_s_are_not_overruled(reason: str, house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    registry.decide(house.sagemaker, one.model["package_arn"], "Rejected", reason)
    with pytest.raises(AirflowFailException, match="refused earlier"):
        promotion.judge(one, FLOORS)
    assert verdict(one) == ("Rejected", reason)


def test_a_challenger_better_than_the_champion_replaces_it(house: House, made_bundle: Any) -> None:
    old, one = house.model(made_bundle, POOR), house.model(made_bundle, GOOD)
    house.serve(old)
    assert promotion.compare(one, house.pointer, MARGINS).startswith(f"not inferior to model {old.model['version']}")
    approve(one)
    seen = promotion.promote(one, house.pointer, MARGINS, "us")
    assert seen.pointer.previous is not None
    assert (seen.pointer.current.serial, seen.pointer.previous.version) == (2, old.model["version"])


def test_a_challenger_worse_than_the_champion_is_rejected_and_the_champion_serves_on(
    house: House, made_bundle: Any
) -> None:
    old, one = house.model(made_bundle, GOOD), house.model(made_bundle, POOR)
    served = house.serve(old)
    with pytest.raises(AirflowFailException):
        promotion.compare(one, house.pointer, MARGINS)
    decision, reason = verdict(one)
    assert decision == "Rejected" and reason.startswith(f"comparison: with model {old.model['version']}")
    assert house.pointer.read() == served


def test_what_the_training_job_measured_against_the_serving_model_is_believed(house: House, made_bundle: Any) -> None:
    old = house.model(made_bundle, GOOD)
    house.serve(old)
    bounds = {name: {"value": 0.0, "lower": 0.0} for name in ("delta_auroc", "delta_balanced_accuracy")}
    measured = {"model_sha256": old.model["model_sha256"], "noninferiority": bounds}
    promotion.compare(house.model(made_bundle, POOR, champion=measured), house.pointer, MARGINS)
    other = {**measured, "model_sha256": "0" * 64}
    with pytest.raises(AirflowFailException):  # its own predictions say otherwise
        promotion.compare(house.model(made_bundle, POOR, champion=other), house.pointer, MARGINS)


def test_a_model_that_serves_already_is_not_promoted_again(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    house.serve(one)
    with pytest.raises(AirflowSkipException, match="serves already"):
        promotion.compare(one, house.pointer, MARGINS)


def test_an_older_model_does_not_come_back_because_the_data_is_unchanged(house: House, made_bundle: Any) -> None:
    one, newer = house.model(made_bundle, GOOD), house.model(made_bundle, POOR)
    house.serve(one)
    house.serve(newer)
    with pytest.raises(AirflowSkipException, match="served as serial 1 and was replaced since"):
        promotion.compare(one, house.pointer, MARGINS)
    assert house.seen.pointer.current.version == newer.model["version"]


def test_only_an_approved_model_is_promoted(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    with pytest.raises(AirflowFailException, match="only an approved model"):
        promotion.promote(one, house.pointer, MARGINS, "us")
    assert house.pointer.read() is None


class Overtaken(PointerStore):
    """A pointer that somebody else moves just before each of the first ``times`` promotions of another actor."""

    def __init__(self, house: House, other: Challenger, times: int) -> None:
        super().__init__(house.s3, house.name)
        self.house, self.other, self.left = house, other, times

    def promote(self, release: Release, over: Seen | None, move: Move) -> Seen:
        if self.left and move.actor == "us":
            self.left -= 1
            self.house.serve(self.other)
        return super().promote(release, over, move)


def test_of_two_promotions_the_later_compares_again(house: House, made_bundle: Any) -> None:
    house.serve(house.model(made_bundle, POOR))
    one = house.model(made_bundle, GOOD)
    approve(one)
    seen = promotion.promote(one, Overtaken(house, house.model(made_bundle, POOR), 1), MARGINS, "us")
    assert seen.pointer.previous is not None
    assert (seen.pointer.current.serial, seen.pointer.previous.serial) == (3, 2)


def test_a_champion_that_never_rests_ends_the_promotion(house: House, made_bundle: Any) -> None:
    one, other = house.model(made_bundle, GOOD), house.model(made_bundle, POOR)
    approve(one)
    with pytest.raises(AirflowFailException, match="changed 5 times"):
        promotion.promote(one, Overtaken(house, other, promotion.ATTEMPTS), MARGINS, "us")
    assert house.seen.pointer.current.version == other.model["version"]


class Unheard(PointerStore):
    """A pointer whose writes succeed while their answers are lost, and botocore asks a second time."""

    def promote(self, release: Release, over: Seen | None, move: Move) -> Seen:
        super().promote(release, over, move)
        raise PointerMoved("412")


def test_a_promotion_whose_answer_was_lost_counts_as_this_run_s(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    approve(one)
    seen = promotion.promote(one, Unheard(house.s3, house.name), MARGINS, "us")
    assert (seen.pointer.current.serial, seen.pointer.current.version) == (1, one.model["version"])


def test_a_failed_smoke_test_serves_the_model_before_and_rejects_this_one(house: House, made_bundle: Any) -> None:
    old, one = house.model(made_bundle, POOR), house.model(made_bundle, GOOD)
    house.serve(old)
    line = promotion.roll_back(one, house.pointer, house.serve(one), "run 7")
    assert line == f"ROLLED BACK to model {old.model['version']} as serial 3"
    assert house.seen.pointer.previous is None
    decision, reason = verdict(one)
    assert decision == "Rejected" and reason.startswith("smoke:") and "run 7" in reason


def test_a_first_model_that_fails_its_smoke_test_leaves_none_serving(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    assert "none serves now" in promotion.roll_back(one, house.pointer, house.serve(one), "run 7")
    assert house.pointer.read() is None


def test_a_rollback_leaves_alone_what_somebody_promoted_since(house: House, made_bundle: Any) -> None:
    one, newer = house.model(made_bundle, GOOD), house.model(made_bundle, GOOD)
    promoted = house.serve(one)
    house.serve(newer)
    assert "nothing to undo" in promotion.roll_back(one, house.pointer, promoted, "run 7")
    assert house.seen.pointer.current.version == newer.model["version"]
    assert verdict(one)[0] == "Rejected"


def poke(one: Challenger, since: datetime, **params: Any) -> bool:
    sensor = ApprovalSensor(
        task_id="approve", package_arn=one.model["package_arn"], pending_since=since.isoformat(), retries=0
    )
    return sensor.poke({"params": {**PARAMS, **params}, "run_id": "run 7", "dag_run": SimpleNamespace()})


def test_the_gate_approves_where_approval_is_automatic(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    assert poke(one, datetime.now(UTC))
    assert verdict(one) == ("Approved", "approved by the gate in run run 7")


def test_a_person_decides_in_the_registry(house: House, made_bundle: Any) -> None:
    one, other = house.model(made_bundle, GOOD), house.model(made_bundle, GOOD)
    assert not poke(one, datetime.now(UTC), approval="manual")
    approve(one)
    assert poke(one, datetime.now(UTC), approval="manual")
    assert verdict(one) == ("Approved", GREEN)
    registry.decide(house.sagemaker, other.model["package_arn"], "Rejected", GREEN)
    with pytest.raises(AirflowFailException, match=GREEN):
        poke(other, datetime.now(UTC), approval="manual")


def test_an_approval_that_nobody_gives_times_out_and_stays_open(house: House, made_bundle: Any) -> None:
    one = house.model(made_bundle, GOOD)
    with pytest.raises(AirflowFailException, match="nobody approved"):
        poke(one, datetime.now(UTC) - timedelta(hours=73), approval="manual")
    assert verdict(one)[0] == "PendingManualApproval"
