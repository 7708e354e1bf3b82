"""The training task owns one job from its name to its final status, and never pays for a second running one."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from botocore.stub import Stubber
from cxr_pipeline.training import LOG_GROUP, JobLog, TrainingFailed, TrainingOperator
from moto.sagemaker.models import sagemaker_backends

from local_aws.server import ACCOUNT, REGION

pytestmark = pytest.mark.heavy
NUMBER = count(1)


@pytest.fixture
def name() -> str:
    return f"cxr-operator-{next(NUMBER)}"


@pytest.fixture
def operator(job_request: Any, name: str) -> Callable[[str], TrainingOperator]:
    def make(image: str) -> TrainingOperator:
        return TrainingOperator(task_id="train", config=job_request(image, name), check_interval=1)

    return make


@pytest.fixture
def slow_job(aws: Any, job_request: Any, name: str) -> Iterator[str]:
    sagemaker = aws.client("sagemaker")
    sagemaker.create_training_job(**job_request("slow", name))
    yield name
    if status(aws, name) in ("InProgress", "Stopping"):
        sagemaker.stop_training_job(TrainingJobName=name)


def status(aws: Any, name: str) -> str:
    return str(aws.client("sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"])


def jobs(aws: Any, name: str) -> list[str]:
    listed = aws.client("sagemaker").list_training_jobs(NameContains=name)["TrainingJobSummaries"]
    return sorted(job["TrainingJobName"] for job in listed)


def later(seconds: float, do: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def test_a_job_runs_to_its_end(aws: Any, name: str, operator: Callable[[str], TrainingOperator]) -> None:
    done = operator("quick").execute({})
    assert (done["job"], done["reused"]) == (name, False)
    assert done["model_data"].endswith(f"/training/{name}/output/model.tar.gz")


def test_a_metric_that_is_no_number_does_not_lose_the_job(operator: Callable[[str], TrainingOperator]) -> None:
    description = {
        "TrainingJobName": "job",
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://models/job/model.tar.gz"},
        "FinalMetricDataList": [
            {"MetricName": "tune:auroc", "Value": float("nan")},
            {"MetricName": "tune:loss", "Value": 0.5},
        ],
    }
    done = operator("quick")._outcome(description, reused=False)
    assert json.loads(json.dumps(done, allow_nan=False))["metrics"] == {"tune:auroc": None, "tune:loss": 0.5}


def test_a_job_that_a_killed_try_is_stopping_is_waited_for_and_not_adopted(
    aws: Any, slow_job: str, operator: Callable[[str], TrainingOperator]
) -> None:
    job = sagemaker_backends[ACCOUNT][REGION].training_jobs[slow_job]
    job.training_job_status = "Stopping"
    stopped = later(2, lambda: setattr(job, "training_job_status", "Stopped"))
    assert operator("quick").execute({})["job"] == f"{slow_job}-2"
    stopped.join()
    job.training_job_status = "InProgress"  # so that the fixture stops it for good


def test_a_log_that_may_not_be_read_ends_no_task(aws: Any) -> None:
    log = JobLog("cxr-unreadable")
    with Stubber(log._logs) as refusing:
        for _ in range(2):
            refusing.add_client_error("describe_log_streams", "AccessDeniedException", "no", http_status_code=400)
        first, second = log.new_lines(), log.new_lines()
    assert len(first) == 1 and "cannot be read" in first[0] and second == []


def test_a_job_started_twice_by_spot_is_read_from_both_streams(aws: Any) -> None:
    logs, log = aws.client("logs"), JobLog("cxr-spot")
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=LOG_GROUP)
    told = []
    for start in (1, 2):
        stream = {"logGroupName": LOG_GROUP, "logStreamName": f"cxr-spot/algo-1-{start}"}
        logs.create_log_stream(**stream)
        event = {"timestamp": int(time.time() * 1000), "message": f"start {start}"}
        logs.put_log_events(**stream, logEvents=[event])
        told += log.new_lines()
    assert told == ["start 1", "start 2"]


def test_a_completed_job_is_reused(aws: Any, name: str, operator: Callable[[str], TrainingOperator]) -> None:
    operator("quick").execute({})
    assert operator("quick").execute({})["reused"] is True
    assert jobs(aws, name) == [name]


def test_a_running_job_is_adopted_and_its_end_awaited(
    aws: Any, slow_job: str, operator: Callable[[str], TrainingOperator]
) -> None:
    later(2, lambda: aws.client("sagemaker").stop_training_job(TrainingJobName=slow_job))
    with pytest.raises(Exception, match="was stopped"):
        operator("quick").execute({})
    assert jobs(aws, slow_job) == [slow_job]


def test_a_stopped_job_is_no_success_and_its_successor_gets_a_suffix(
    aws: Any, slow_job: str, operator: Callable[[str], TrainingOperator]
) -> None:
    aws.client("sagemaker").stop_training_job(TrainingJobName=slow_job)
    while status(aws, slow_job) != "Stopped":
        time.sleep(0.1)
    assert operator("quick").execute({})["job"] == f"{slow_job}-2"


def test_killing_the_task_stops_the_job(aws: Any, name: str, operator: Callable[[str], TrainingOperator]) -> None:
    task = operator("slow")
    later(2, task.on_kill)
    with pytest.raises(Exception, match="was stopped"):
        task.execute({})
    assert status(aws, name) == "Stopped"


def test_throttled_descriptions_are_waited_out(
    aws: Any, name: str, operator: Callable[[str], TrainingOperator], monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.core.exceptions import JsonRESTError
    from moto.sagemaker.responses import SageMakerResponse

    class Throttled(JsonRESTError):
        code = 400

    original, refused = SageMakerResponse.describe_training_job, count()

    def throttled(response: SageMakerResponse) -> Any:
        if 1 <= next(refused) <= 4:  # the first describes before the job exists
            raise Throttled("ThrottlingException", "Rate exceeded")
        return original(response)

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # of botocore itself, which waits longer from one to the next
    monkeypatch.setattr(SageMakerResponse, "describe_training_job", throttled)
    assert operator("quick").execute({})["job"] == name
    assert next(refused) > 4


def test_a_deferred_job_is_left_to_the_triggerer_and_its_end_is_what_ends_the_task(
    aws: Any, name: str, operator: Callable[[str], TrainingOperator]
) -> None:
    task = operator("quick")
    task.deferrable = True
    with pytest.raises(TaskDeferred) as left:
        task.execute({})
    assert left.value.method_name == "execute_complete"
    while status(aws, name) == "InProgress":
        time.sleep(0.1)
    assert task.execute_complete({}, {"status": "success", "job_name": name})["job"] == name


def test_the_failure_reason_of_a_job_ends_the_task_for_good(
    aws: Any, operator: Callable[[str], TrainingOperator]
) -> None:
    with pytest.raises(Exception, match=r"is Failed: AlgorithmError.*no film") as failed:
        operator("failing").execute({})
    assert not isinstance(failed.value, TrainingFailed)
