"""One training job, from its channels to its artifacts, under a folder that stands for /opt/ml.

The folder is what SAGEMAKER_BASE_DIR names; the command sees the files and variables that SageMaker's container
would. A non-zero exit is a failure whose reason is output/failure; SIGTERM and, 120 s later, SIGKILL end a job that is
stopped or ran too long, and what it saved is kept.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping
from typing import Any

from moto.core.utils import utcnow
from moto.sagemaker.models import FakeTrainingJob

from local_aws.processes import Child
from local_aws.services.host import Host
from local_aws.services.training_files import ChannelError, MlFolder
from local_aws.services.training_log import LogStream

log = logging.getLogger(__name__)
KILL_SECONDS = 120.0
POLL_SECONDS = 0.2
CHECKPOINT_SECONDS = 2.0
FAILURE_CHARACTERS = 1024
MESSAGES = {
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds",
}


class TrainingRun:
    """Runs one job, which was asked for by `request`, in the thread that calls `execute`."""

    def __init__(self, job: FakeTrainingJob, request: Mapping[str, Any], command: list[str], host: Host) -> None:
        self._job, self._request, self._command, self._host = job, request, command, host
        self._region, account = job.arn.split(":")[3:5]
        self._folder = MlFolder(host.work_dir / job.training_job_name, request, account)
        self._child: Child | None = None
        self._stopping = threading.Event()
        self._abandoned = False

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child and not child.ended.is_set() else None

    def stop(self) -> None:
        """StopTrainingJob: the status is Stopping until the command has ended."""
        self._job.training_job_status = "Stopping"
        self._enter("Stopping")
        self._stopping.set()

    def abandon(self) -> None:
        """The local AWS ends: kill the command, upload nothing."""
        self._abandoned = True
        self._stopping.set()
        if self._child:
            self._child.stop()

    def execute(self) -> None:
        """Run the job to its end; whatever happens, the job gets a final status."""
        try:
            self._execute()
        except Exception as error:
            log.exception("training job %s broke in the local AWS", self._job.training_job_name)
            self._end("Failed", f"InternalServerError: {type(error).__name__}: {error}")

    def _execute(self) -> None:
        self._enter("Downloading")
        try:
            self._folder.prepare()
        except ChannelError as error:
            return self._end("Failed", f"ClientError: {error}")
        if self._stopping.is_set():
            return self._end("Stopped")
        self._job.training_start_time = utcnow()
        self._enter("Training")
        returncode, overran = self._train()
        if self._abandoned:
            return self._end("Stopped")
        self._folder.upload_checkpoints()
        self._finish(returncode, overran)

    def _train(self) -> tuple[int, bool]:
        """Exit code of the command, and whether it ran longer than MaxRuntimeInSeconds."""
        file = self._host.log_dir / f"training-{self._job.training_job_name}.log"
        definitions = self._request["AlgorithmSpecification"].get("MetricDefinitions") or []
        with file.open("wb") as output:
            stream = LogStream(self._job, file, {d["Name"]: re.compile(d["Regex"]) for d in definitions})
            self._child = child = self._host.children.start(
                self._command, env=self._environment(), cwd=self._host.cwd, output=output
            )
        limit = float((self._request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", 86400))
        deadline, next_sync = time.monotonic() + limit, time.monotonic() + CHECKPOINT_SECONDS
        overran = False
        while not child.wait(POLL_SECONDS):
            stream.forward()
            if time.monotonic() > next_sync:
                self._folder.upload_checkpoints()
                next_sync = time.monotonic() + CHECKPOINT_SECONDS
            overran = time.monotonic() > deadline
            if overran or self._stopping.is_set():
                child.stop(0.0 if self._abandoned else KILL_SECONDS)
        stream.forward(last=True)
        self._job.final_metric_data_list = stream.final_metrics()
        return child.returncode or 0, overran and not self._stopping.is_set()

    def _finish(self, returncode: int, overran: bool) -> None:
        stopped = self._stopping.is_set()
        if returncode and not stopped and not overran:
            self._folder.upload_output()
            return self._end("Failed", f"AlgorithmError: {self._failure()}, exit code: {returncode}")
        self._enter("Uploading")
        artifacts = self._folder.upload_model()
        self._folder.upload_output()
        if artifacts:
            self._job.model_artifacts = {"S3ModelArtifacts": artifacts}
        self._end("Stopped" if stopped or overran else "Completed", secondary="MaxRuntimeExceeded" if overran else None)

    def _failure(self) -> str:
        """What the command wrote to output/failure, else nothing (as SageMaker: `AlgorithmError: , exit code: 1`)."""
        file = self._folder.base / "output" / "failure"
        return file.read_text(errors="replace")[:FAILURE_CHARACTERS].strip() if file.is_file() else ""

    def _enter(self, status: str) -> None:
        """Begin a secondary status; its message differs from the last, which is how Airflow sees progress."""
        now = utcnow()
        *earlier, last = self._job.secondary_status_transitions
        entered = {"Status": status, "StartTime": now, "StatusMessage": MESSAGES[status]}
        self._job.secondary_status_transitions = [*earlier, {**last, "EndTime": now}, entered]
        self._job.secondary_status = status
        self._job.last_modified_time = now

    def _end(self, status: str, reason: str | None = None, secondary: str | None = None) -> None:
        job, now = self._job, utcnow()
        self._enter(secondary or status)
        job.secondary_status_transitions[-1]["EndTime"] = now
        if reason:
            job.secondary_status_transitions[-1]["StatusMessage"] = reason
            job.failure_reason = reason[:FAILURE_CHARACTERS]  # type: ignore[attr-defined]
        job.training_start_time = job.training_start_time or now
        job.training_end_time = job.last_modified_time = now
        seconds = max(1, round((now - job.training_start_time).total_seconds()))
        job.training_time_in_seconds = job.billable_time_in_seconds = seconds  # type: ignore[attr-defined]
        job.training_job_status = status
        if not self._abandoned:
            shutil.rmtree(self._folder.base, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        """The platform's variables over what Python needs to run here, under the job's own Environment."""
        isolated = bool(self._request.get("EnableNetworkIsolation"))
        return {
            **self._host.inherited(),
            **({} if isolated else self._host.environment),
            "SAGEMAKER_BASE_DIR": str(self._folder.base),
            "TRAINING_JOB_NAME": self._job.training_job_name,
            "TRAINING_JOB_ARN": self._job.arn,
            "AWS_REGION": self._region,
            "PYTHONUNBUFFERED": "1",
            **{name: str(value) for name, value in (self._request.get("Environment") or {}).items()},
        }
