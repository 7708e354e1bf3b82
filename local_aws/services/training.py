"""SageMaker training jobs that run: CreateTrainingJob starts the image's command with the container contract.

`TrainingJobs` holds the API side (validation, states, StopTrainingJob); `training_run.py` runs one job. The states
and their messages follow SageMaker's, because Airflow's operator tells progress by a changed message.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.sagemaker.exceptions import AWSValidationException, ResourceInUseException, ResourceNotFound, ValidationError
from moto.sagemaker.models import FakeTrainingJob
from moto.sagemaker.responses import SageMakerResponse

from local_aws.patches import Patches
from local_aws.services.host import Host, UnknownImage
from local_aws.services.training_run import TrainingRun

JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
CONCURRENCY = 2
LATER = ("failure_reason", "training_start_time", "training_end_time", "model_artifacts")
"""What a job that has just been created does not have yet."""


class TrainingJobs:
    """The training jobs of one local AWS; at most CONCURRENCY run at once, later ones stay in Starting."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="training-job")
        self._runs: dict[str, TrainingRun] = {}
        self._lock = threading.Lock()

    def install(self, patches: Patches) -> None:
        patches.replace(SageMakerResponse, "create_training_job", self._creating, "self")
        patches.add(SageMakerResponse, "stop_training_job", lambda response: self._stop(response))

    def pids(self) -> dict[str, int]:
        """Process ids of the running jobs, by job name."""
        with self._lock:
            return {name: run.pid for name, run in self._runs.items() if run.pid is not None}

    def close(self) -> None:
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.abandon()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _creating(self, original: Callable[..., ActionResult]) -> Callable[..., ActionResult]:
        def create_training_job(response: SageMakerResponse) -> ActionResult:
            request = json.loads(response.body)
            jobs, name = response.sagemaker_backend.training_jobs, request["TrainingJobName"]
            _check(request)
            try:
                command = self._host.command_for(request["AlgorithmSpecification"].get("TrainingImage", ""))
            except UnknownImage as error:
                raise AWSValidationException(str(error)) from error
            with self._lock:
                if name in jobs:
                    raise ResourceInUseException(f"Training job names must be unique; {name} exists: choose another.")
                result = original(response)
                _as_just_created(jobs[name], request)
                run = self._runs[name] = TrainingRun(jobs[name], request, command, self._host)
            self._pool.submit(self._run, name, run)
            return result

        return create_training_job

    def _run(self, name: str, run: TrainingRun) -> None:
        try:
            run.execute()
        finally:
            with self._lock:
                self._runs.pop(name, None)

    def _stop(self, response: SageMakerResponse) -> EmptyResult:
        name = response._get_param("TrainingJobName")
        job = response.sagemaker_backend.training_jobs.get(name)
        if job is None:
            raise ResourceNotFound(f"Requested resource not found: training job {name}.")
        with self._lock:
            run = self._runs.get(name)
        if run is None or job.training_job_status not in ("InProgress", "Stopping"):
            raise ValidationError(
                f"The request was rejected because the training job is in status {job.training_job_status}."
            )
        run.stop()
        return EmptyResult()


def _check(request: Mapping[str, Any]) -> None:
    """Refuse what SageMaker refuses and moto accepts."""
    name = request["TrainingJobName"]
    if not JOB_NAME.fullmatch(name):
        raise AWSValidationException(
            f"1 validation error detected: Value '{name}' at 'trainingJobName' failed to satisfy constraint: Member "
            "must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62} (letters, digits and inner "
            "hyphens, at most 63)"
        )
    for key, value in (request.get("HyperParameters") or {}).items():
        if len(key) > 256 or len(value) > 2500:
            raise AWSValidationException(f"hyperparameter {key[:40]!r}: names have at most 256, values 2500 characters")
    stopping = request.get("StoppingCondition") or {}
    wait, run = stopping.get("MaxWaitTimeInSeconds"), stopping.get("MaxRuntimeInSeconds", 86400)
    if request.get("EnableManagedSpotTraining") and (wait is None or wait < run):
        raise AWSValidationException(
            f"MaxWaitTimeInSeconds ({wait}) must be at least MaxRuntimeInSeconds ({run}) for managed spot training"
        )


def _as_just_created(job: FakeTrainingJob, request: Mapping[str, Any]) -> None:
    """Undo moto's instant completion; attributes become members of DescribeTrainingJob's answer."""
    now = utcnow()
    for name in LATER:
        setattr(job, name, None)
    job.training_job_status, job.secondary_status = "InProgress", "Starting"
    job.algorithm_specification = dict(request["AlgorithmSpecification"])
    job.environment = request.get("Environment")  # type: ignore[attr-defined]
    job.final_metric_data_list = []
    job.creation_time = job.last_modified_time = now
    job.secondary_status_transitions = [
        {"Status": "Starting", "StartTime": now, "StatusMessage": "Preparing the instances for training"}
    ]
