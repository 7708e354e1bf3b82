"""Training jobs run the image's command under SageMaker's contract and end in SageMaker's states."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.server import ACCOUNT, LocalAWS

IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/cxr-training:1"


@pytest.fixture(scope="module")
def bucket(local_aws: LocalAWS) -> str:
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket="training-bucket")
    for name in ("train/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg", "test/NORMAL/c.jpeg"):
        s3.put_object(Bucket="training-bucket", Key=f"datasets/tiny/{name}", Body=b"film")
    return "training-bucket"


@pytest.fixture
def train(local_aws: LocalAWS, bucket: str, role: str, unique: str) -> Callable[..., str]:
    """Starts a job of the tiny trainer and returns its name."""

    def start(
        name: str = unique, prefix: str = "datasets/tiny/", limit: int = 60, image: str = IMAGE, **settings: Any
    ) -> str:
        hyperparameters = {key: str(value) for key, value in settings.pop("hyperparameters", {}).items()}
        local_aws.client("sagemaker").create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={
                "TrainingImage": image,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "tune:auroc", "Regex": r"tune:auroc=([0-9.]+)"}],
            },
            RoleArn=role,
            HyperParameters=hyperparameters,
            InputDataConfig=[
                {
                    "ChannelName": "dataset",
                    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{prefix}"}},
                }
            ],
            OutputDataConfig={"S3OutputPath": f"s3://{bucket}/training"},
            ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            StoppingCondition={"MaxRuntimeInSeconds": limit},
            **settings,
        )
        return name

    return start


@pytest.fixture
def ended(local_aws: LocalAWS, eventually: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """The description of a job once it has ended."""
    client = local_aws.client("sagemaker")

    def wait(name: str) -> dict[str, Any]:
        def final() -> Any:
            description = client.describe_training_job(TrainingJobName=name)
            return description if description["TrainingJobStatus"] not in ("InProgress", "Stopping") else None

        found = eventually(final, timeout=30)
        assert found, f"{name} never ended"
        return found

    return wait


@pytest.fixture
def first_line(local_aws: LocalAWS, eventually: Callable[..., Any]) -> Callable[[str], Any]:
    """Waits until the log of a job has a line."""
    return lambda name: eventually(lambda: name in local_aws.processes() and log_of(local_aws, name))


def log_of(aws: LocalAWS, job: str) -> list[str]:
    logs, group = aws.client("logs"), "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
    assert len(streams) == 1 and streams[0]["logStreamName"].startswith(f"{job}/algo-1-")
    events = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"], startFromHead=True)
    return [event["message"] for event in events["events"]]


def members(aws: LocalAWS, uri: str) -> list[str]:
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    data = aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return sorted(member.name for member in archive if member.isfile())


def test_a_job_trains_on_its_channel_and_leaves_its_model_in_s3(local_aws, bucket, train, ended) -> None:
    job = ended(train(hyperparameters={"epochs": 2}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{bucket}/training/{job['TrainingJobName']}/output/model.tar.gz"
    assert members(local_aws, uri) == ["sub/bundle.json", "weights.bin"]
    assert members(local_aws, uri.replace("model.tar.gz", "output.tar.gz")) == ["report.html"]
    log = log_of(local_aws, job["TrainingJobName"])
    assert "arguments ['train']" in log
    expected = ["test/NORMAL/c.jpeg", "train/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg"]
    assert f"films {[f'input/data/dataset/{name}' for name in expected]}" in log


def test_the_last_value_of_each_metric_is_the_final_one(train, ended) -> None:
    job = ended(train(hyperparameters={"epochs": 3}))
    assert [(m["MetricName"], round(m["Value"], 6)) for m in job["FinalMetricDataList"]] == [("tune:auroc", 0.35)]


def test_the_states_follow_one_another_each_with_its_own_message(train, ended) -> None:
    job = ended(train())
    transitions = job["SecondaryStatusTransitions"]
    assert [t["Status"] for t in transitions] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert len({t["StatusMessage"] for t in transitions}) == len(transitions)
    assert all(t["StartTime"] <= t["EndTime"] for t in transitions)
    assert job["TrainingStartTime"] <= job["TrainingEndTime"] and job["BillableTimeInSeconds"] >= 1


def test_a_failure_carries_the_reason_that_the_command_wrote(train, ended) -> None:
    job = ended(train(hyperparameters={"fail": 1}))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: ValueError: no NORMAL films, exit code: 1"
    assert "ModelArtifacts" not in job


def test_output_is_in_the_log_while_the_job_runs(local_aws, train, ended, first_line) -> None:
    name = train(hyperparameters={"seconds": 60})
    assert first_line(name)
    client = local_aws.client("sagemaker")
    status = client.describe_training_job(TrainingJobName=name)
    assert (status["TrainingJobStatus"], status["SecondaryStatus"]) == ("InProgress", "Training")
    client.stop_training_job(TrainingJobName=name)
    ended(name)


def test_a_stopped_job_gets_sigterm_and_keeps_what_it_saved(local_aws, train, ended, first_line) -> None:
    name = train(hyperparameters={"seconds": 60})
    assert first_line(name)
    local_aws.client("sagemaker").stop_training_job(TrainingJobName=name)
    job = ended(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert members(local_aws, job["ModelArtifacts"]["S3ModelArtifacts"]) == ["weights.bin"]
    assert "saved on SIGTERM" in log_of(local_aws, name)


def test_a_job_that_runs_too_long_is_stopped(train, ended) -> None:
    job = ended(train(limit=1, hyperparameters={"seconds": 60}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_new_job_goes_on_from_the_checkpoints_of_the_last(local_aws, bucket, train, ended, unique) -> None:
    checkpoints = {"S3Uri": f"s3://{bucket}/checkpoints/{unique}"}
    ended(train(hyperparameters={"epochs": 2}, CheckpointConfig=checkpoints))
    again = ended(train(name=f"{unique}-again", hyperparameters={"epochs": 1}, CheckpointConfig=checkpoints))
    assert any(line.startswith("epoch=3 ") for line in log_of(local_aws, again["TrainingJobName"]))
    stored = local_aws.client("s3").get_object(Bucket=bucket, Key=f"checkpoints/{unique}/epoch.txt")["Body"].read()
    assert stored == b"3"


def test_a_channel_without_films_fails_the_job_before_it_runs(train, ended) -> None:
    job = ended(train(prefix="datasets/nothing/"))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: No S3 objects found under S3 URL")


def test_a_job_name_is_used_once(train, ended) -> None:
    ended(train())
    with pytest.raises(ClientError, match="ResourceInUse"):
        train()


def test_a_job_name_with_an_underscore_is_refused(train) -> None:
    with pytest.raises(ClientError, match="trainingJobName"):
        train(name="retrain_2026")


def test_an_image_that_nothing_stands_for_is_refused(train) -> None:
    with pytest.raises(ClientError, match="known: broken"):
        train(image="x/cxr-unheard:1")


def test_a_finished_job_cannot_be_stopped(local_aws, train, ended) -> None:
    name = train()
    ended(name)
    client = local_aws.client("sagemaker")
    with pytest.raises(ClientError, match="in status Completed"):
        client.stop_training_job(TrainingJobName=name)
