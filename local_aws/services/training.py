"""SageMaker training jobs that run: CreateTrainingJob starts the image's command with the container contract.

`TrainingJobs` holds the API side (validation, states, StopTrainingJob); `training_run.py` runs one job. The states
and their messages follow SageMaker's, because Airflow's operator tells progress by a changed message.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.sagemaker.exceptions import AWSValidationException, ResourceInUseException, ResourceNotFound, ValidationError
from moto.sagemaker.models import FakeTrainingJob, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from local_aws.patches import Patches
from local_aws.processes import Children
from local_aws.services.images import UnknownImage, command_for
from local_aws.services.training_run import TrainingRun

JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
LIST = (
    "self",
    "next_token",
    "max_results",
    "creation_time_after",
    "creation_time_before",
    "last_modified_time_after",
    "last_modified_time_before",
    "name_contains",
    "status_equals",
)
EARLY_ATTRIBUTES = ("failure_reason", "training_start_time", "training_end_time", "model_artifacts")


class TrainingJobs:
    """The training jobs of one local AWS; at most `concurrency` run at once, later ones stay in Starting."""

    def __init__(
        self,
        children: Children,
        images: Mapping[str, Sequence[str]],
        environment: Callable[[], dict[str, str]],
        cwd: Path,
        work_dir: Path,
        log_dir: Path,
        concurrency: int = 2,
    ) -> None:
        self._children, self._images, self._environment = children, images, environment
        self._cwd, self._work_dir, self._log_dir = cwd, work_dir, log_dir
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="training-job")
        self._runs: dict[str, TrainingRun] = {}
        self._lock = threading.Lock()

    def install(self, patches: Patches) -> None:
        patches.replace(SageMakerResponse, "create_training_job", self._creating, ("self",))
        patches.add(SageMakerResponse, "stop_training_job", lambda response: self._stop(response))
        patches.replace(SageMakerModelBackend, "list_training_jobs", lambda _: _list_training_jobs, LIST)
        patches.replace(SageMakerResponse, "list_training_jobs", _sorted_listing, ("self",))

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
            backend, name = response.sagemaker_backend, request["TrainingJobName"]
            _check(request)
            try:
                command = self._command(request["AlgorithmSpecification"])
            except UnknownImage as error:
                raise AWSValidationException(str(error)) from error
            with self._lock:
                if name in backend.training_jobs:
                    raise ResourceInUseException(f"Training job names must be unique; {name} exists: choose another.")
                result = original(response)
                job = backend.training_jobs[name]
                _as_just_created(job, request)
                run = TrainingRun(
                    job,
                    request,
                    command,
                    self._children,
                    self._environment(),
                    self._cwd,
                    base=self._work_dir / name,
                    log_file=self._log_dir / f"training-{name}.log",
                )
                self._runs[name] = run
            self._pool.submit(self._run, name, run)
            return result

        return create_training_job

    def _command(self, algorithm: Mapping[str, Any]) -> list[str]:
        uri = algorithm.get("TrainingImage")
        if not uri:
            raise UnknownImage("AlgorithmSpecification names no TrainingImage; only own images can run locally")
        return [*command_for(uri, self._images), *algorithm.get("ContainerArguments", [])]

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
    for name in EARLY_ATTRIBUTES:
        setattr(job, name, None)
    job.training_job_status, job.secondary_status = "InProgress", "Starting"
    job.algorithm_specification = dict(request["AlgorithmSpecification"])
    job.environment = request.get("Environment")  # type: ignore[attr-defined]
    job.retry_strategy = request.get("RetryStrategy")  # type: ignore[attr-defined]
    job.training_time_in_seconds = job.billable_time_in_seconds = None  # type: ignore[attr-defined]
    job.final_metric_data_list = []
    job.creation_time = job.last_modified_time = now
    job.secondary_status_transitions = [
        {"Status": "Starting", "StartTime": now, "StatusMessage": "Preparing the instances for training"}
    ]


def _sorted_listing(original: Callable[..., ActionResult]) -> Callable[..., ActionResult]:
    def list_training_jobs(self: SageMakerResponse) -> ActionResult:
        backend = self.sagemaker_backend
        keys = {
            "Name": lambda job: job.training_job_name,
            "CreationTime": lambda job: job.creation_time,
            "Status": lambda job: job.training_job_status,
        }
        sort_by, order = self._get_param("SortBy", "CreationTime"), self._get_param("SortOrder", "Ascending")
        if sort_by in keys:
            backend.listing_order = (keys[sort_by], order == "Descending")  # type: ignore[attr-defined]
        return original(self)

    return list_training_jobs


def _list_training_jobs(
    self: SageMakerModelBackend,
    next_token: str | None,
    max_results: int | None,
    creation_time_after: Any,
    creation_time_before: Any,
    last_modified_time_after: Any,
    last_modified_time_before: Any,
    name_contains: str | None,
    status_equals: str | None,
) -> dict[str, Any]:
    """Filter, sort, then cut into pages (moto cuts first, so that a page of one may miss the job that matches)."""

    def wanted(job: FakeTrainingJob) -> bool:
        return (
            (name_contains is None or name_contains.lower() in job.training_job_name.lower())
            and (status_equals is None or job.training_job_status == status_equals)
            and _within(job.creation_time, creation_time_after, creation_time_before)
            and _within(job.last_modified_time, last_modified_time_after, last_modified_time_before)
        )

    key, reverse = getattr(self, "listing_order", (lambda job: job.creation_time, False))
    jobs = sorted(filter(wanted, list(self.training_jobs.values())), key=key, reverse=reverse)
    start = int(next_token or 0)
    end = start + (max_results or 10)
    return {
        "TrainingJobSummaries": [_summary(job) for job in jobs[start:end]],
        "NextToken": str(end) if end < len(jobs) else None,
    }


def _summary(job: FakeTrainingJob) -> dict[str, Any]:
    return {
        "TrainingJobName": job.training_job_name,
        "TrainingJobArn": job.arn,
        "CreationTime": job.creation_time,
        "TrainingEndTime": job.training_end_time,
        "LastModifiedTime": job.last_modified_time,
        "TrainingJobStatus": job.training_job_status,
        "SecondaryStatus": job.secondary_status,
    }


def _within(moment: Any, after: Any, before: Any) -> bool:
    return (after is None or moment > _naive(after)) and (before is None or moment < _naive(before))


def _naive(moment: Any) -> Any:
    return moment.replace(tzinfo=None) if getattr(moment, "tzinfo", None) else moment
