"""What `plan` refuses is refused before a GPU is paid for; what it plans is the whole request that SageMaker gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from cxr_pipeline.outcome import AirflowFailException
from cxr_pipeline.plan import Plan, plan, remember_job
from cxr_pipeline.retrain_form import FORM, with_defaults
from cxr_pipeline.settings import Settings
from cxr_pipeline.training_request import training_request

from cxr.hyperparameters import SPECIFICATIONS, WEIGHT_SOURCES
from cxr.pointer import Move, PointerStore, Release

PARAMS = {name: param.value for name, param in FORM.items()} | {"min_films": 1, "weights": "random"}
RUN = SimpleNamespace(run_id="run 7", run_after=datetime(2026, 11, 22, 10, tzinfo=UTC))
NAMES = Settings(
    "datasets", "uploads", "results", "models", "arn:aws:iam::1:role/training", "image/training", "image/inference",
    "group", "function", "https://uploads", "https://backlog", "arn:topic",
)  # fmt: skip
NUMBER = count(1)


@pytest.fixture
def planned(aws: Any) -> Callable[..., Plan]:
    """Plan a run on the form's values, with more of them or other objects, in buckets of the test's own."""
    s3, number = aws.client("s3"), next(NUMBER)
    names = replace(NAMES, datasets_bucket=f"planned-datasets-{number}", models_bucket=f"planned-models-{number}")
    for bucket in (names.datasets_bucket, names.models_bucket):
        s3.create_bucket(Bucket=bucket)
    for path in ("train/NORMAL/a", "train/PNEUMONIA/b", "test/NORMAL/c", "test/PNEUMONIA/d"):
        s3.put_object(Bucket=names.datasets_bucket, Key=f"datasets/chest_xray/{path}.jpeg", Body=b"film")

    def make(**params: Any) -> Plan:
        return plan(s3, names, {**PARAMS, **params}, RUN)

    make.s3, make.names = s3, names  # type: ignore[attr-defined]
    return make


@pytest.mark.heavy
def test_the_request_of_a_plan_is_one_that_sagemaker_s_model_accepts(planned: Any) -> None:
    request = planned()["request"]
    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob")
    assert ParamValidator().validate(request, shape.input_shape).generate_report() == ""
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["dataset"]
    assert request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == (
        f"s3://{planned.names.datasets_bucket}/datasets/chest_xray/"
    )
    assert request["HyperParameters"].keys() == {name for name in SPECIFICATIONS if PARAMS[name] is not None}
    assert "epochs" not in request["HyperParameters"]  # left to the head
    assert request["HyperParameters"]["require_gpu"] == "true"


@pytest.mark.heavy
def test_weights_and_champion_are_channels_of_the_job(planned: Any) -> None:
    s3, names = planned.s3, planned.names
    s3.put_object(Bucket=names.datasets_bucket, Key="weights/vgg16/vgg16.weights.h5", Body=b"w")
    release = Release("1", names.models_bucket, "models/old/bundle.json", None, "0" * 64, None)
    PointerStore(s3, names.models_bucket).promote(release, None, Move("a", "b"))
    request = planned(weights="channel")["request"]
    sources = {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in request["InputDataConfig"]}
    assert sources["weights"] == f"s3://{names.datasets_bucket}/weights/vgg16/"
    assert sources["champion"] == f"s3://{names.models_bucket}/models/old/"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"min_films": 2}, "too few films"),
        ({"dataset": "datasets/none/"}, "too few films"),
        ({"dataset": "datasets/chest_xray-v2/", "min_films": 0}, "interrupted"),
        ({"weights": "channel"}, "holds 0 files"),
        ({"weights": "channel", "weights_uri": "s3://elsewhere/vgg16/"}, "another bucket"),
        ({"head": "flatten", "mixed_precision": "true"}, "mixed_precision"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_what_cannot_be_trained_costs_no_job(params: dict[str, Any], why: str, planned: Any) -> None:
    with pytest.raises(AirflowFailException, match=why):
        planned(**params)


@pytest.mark.heavy
def test_a_file_that_the_training_job_would_refuse_is_refused_without_its_name(
    planned: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "datasets/chest_xray/train/NORMAL/Doe-Jane.txt"
    planned.s3.put_object(Bucket=planned.names.datasets_bucket, Key=key, Body=b"x")
    with pytest.raises(AirflowFailException, match=r"1 x is neither .* \(place 3 of the listing\)") as refused:
        planned()
    assert "Doe" not in str(refused.value) + capsys.readouterr().out


@pytest.mark.heavy
def test_unchanged_data_image_and_parameters_are_planned_as_the_earlier_job(planned: Any) -> None:
    first = planned()
    remember_job(planned.s3, planned.names.models_bucket, first["fingerprint"], "cxr-earlier")
    assert planned()["request"]["TrainingJobName"] == "cxr-earlier"
    assert planned(force=True)["request"]["TrainingJobName"] == first["request"]["TrainingJobName"]
    assert planned(seed=1)["request"]["TrainingJobName"] != "cxr-earlier"
    planned.s3.put_object(
        Bucket=planned.names.datasets_bucket, Key="datasets/chest_xray/train/NORMAL/e.jpeg", Body=b"another film"
    )
    assert planned()["request"]["TrainingJobName"] != "cxr-earlier"


def request(name: str = "cxr-x", names: Settings = NAMES, **params: Any) -> Any:
    return training_request(name, names, {**PARAMS, **params}, {})


@pytest.mark.parametrize(
    ("instance", "kept"),
    [("ml.m5.xlarge", True), ("ml.p3.2xlarge", True), ("ml.g5.xlarge", False), ("ml.g4dn.xlarge", False)],
)
def test_a_volume_key_is_sent_only_to_instances_that_take_one(instance: str, kept: bool) -> None:
    made = request(names=replace(NAMES, kms_key_arn="key"), instance_type=instance)
    assert ("VolumeKmsKeyId" in made["ResourceConfig"]) is kept
    assert made["OutputDataConfig"]["KmsKeyId"] == "key"
    assert "KmsKeyId" not in request()["OutputDataConfig"]


def test_spot_keeps_its_longest_wait() -> None:
    assert request(spot=True)["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert request()["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}


def test_only_a_job_that_downloads_its_weights_has_a_network() -> None:
    isolated = {source: request(weights=source)["EnableNetworkIsolation"] for source in WEIGHT_SOURCES}
    assert isolated == {"imagenet": False, "channel": True, "random": True}


@pytest.mark.parametrize("bad", ["under_score", "x" * 64, "-lead", "trail-", "a..b"])
def test_a_name_that_sagemaker_refuses_is_refused_before_it_is_sent(bad: str) -> None:
    with pytest.raises(AirflowFailException, match="no training job name"):
        request(bad)


def test_an_installation_s_defaults_are_parameters_of_the_form() -> None:
    assert with_defaults(FORM, {"epochs": 3})["epochs"].resolve() == 3
    with pytest.raises(ValueError, match="nonsense"):
        with_defaults(FORM, {"nonsense": 1})
