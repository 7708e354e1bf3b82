"""A retry never pays for a second running job: adopt the one in progress, reuse the completed one, else add a suffix.

The provider's operator would start a second paid job on retry, take a stopped job for success and leave a job running
when its task is killed; this subclass keeps its request checks and its deferrable mode and replaces the rest.
"""

from __future__ import annotations

import math
import time
from itertools import count
from typing import Any, TypedDict

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator

from cxr.pointer import error_code
from cxr_pipeline.clients import client
from cxr_pipeline.outcome import fail

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
RUNNING = ("InProgress", "Stopping")
THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "500", "503")
MAX_THROTTLED = 20  # descriptions refused in a row before the task gives up on SageMaker (not on the job)


class TrainingFailed(Exception):
    """The job failed for a reason that a retry may cure (capacity, internal error)."""


class Trained(TypedDict):
    """What a job left. seconds: of its run; billable_seconds: as SageMaker counts them; reused: it had ended before."""

    job: str
    model_data: str
    seconds: float | None
    billable_seconds: int | None
    metrics: dict[str, float | None]
    reused: bool


class JobLog:
    """The lines that a training job has written to CloudWatch Logs, each given out once.

    A job that spot capacity restarts has a stream for each start. The log is a courtesy: a refusal of it, said once,
    ends no task, for the job goes on and is paid for.
    """

    def __init__(self, job: str) -> None:
        self._job, self._logs = job, client("logs")
        self._tokens: dict[str, dict[str, str]] = {}
        self._refused = False

    def new_lines(self) -> list[str]:
        """Return the lines since the last call; none while the job has no log stream yet."""
        lines: list[str] = []
        try:
            for stream in self._streams():
                lines += self._new_lines_of(stream)
        except self._logs.exceptions.ClientError as error:
            if error_code(error) not in (*THROTTLED, "ResourceNotFoundException") and not self._refused:
                self._refused = True
                lines.append(f"the log of {self._job} cannot be read: {error}")
        return lines

    def _streams(self) -> list[str]:
        found = self._logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._job}/")
        return [stream["logStreamName"] for stream in found["logStreams"]]

    def _new_lines_of(self, stream: str) -> list[str]:
        lines: list[str] = []
        while True:
            known = self._tokens.get(stream, {})
            page = self._logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **known)
            self._tokens[stream] = {"nextToken": page["nextForwardToken"]}
            lines += [event["message"] for event in page["events"]]
            if self._tokens[stream] == known or not page["events"]:
                return lines


class TrainingOperator(SageMakerTrainingOperator):
    """SageMakerTrainingOperator that owns its job from name to final status.

    ``config`` (a TrainingRequest) and ``check_interval`` (seconds) are data of an earlier task. Deferred
    (``operators.default_deferrable``) it waits in the triggerer for at most ``max_attempts`` intervals; a job adopted
    on a retry is awaited in the worker.
    """

    template_fields = (*SageMakerTrainingOperator.template_fields, "check_interval")

    def __init__(self, *, max_attempts: int = 2880, **kwargs: Any) -> None:
        super().__init__(check_if_job_exists=False, print_log=False, max_attempts=max_attempts, **kwargs)
        self._job: str | None = None

    def execute(self, context: Any) -> Any:
        name, found = self._claim(self.config["TrainingJobName"])
        self.config["TrainingJobName"] = self._job = name
        if found is None and self.deferrable:
            super().execute(context)  # creates the job and leaves by deferral
        if found is None:
            self.preprocess_config()
            self.hook.create_training_job(self.config, wait_for_completion=False, print_log=False)
            self.log.info("started training job %s", name)
        else:
            self.log.info("training job %s exists already (%s): no second one is paid for", name, found)
        return self._outcome(self._wait(name), reused=found == "Completed")

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        if not event or "job_name" not in event:
            raise TrainingFailed(f"the trigger answered {event!r}")
        description = self.hook.describe_training_job(event["job_name"])
        for line in JobLog(event["job_name"]).new_lines():
            self.log.info("%s", line)
        if description["TrainingJobStatus"] in RUNNING:
            raise TrainingFailed(f"{event['job_name']} still runs after {self.max_attempts} checks: {event}")
        return self._outcome(description, reused=False)

    def on_kill(self) -> None:
        """Stop the job when its task is killed, cleared, marked or timed out: an abandoned GPU is still paid for."""
        if self._job is None:
            return
        self.log.info("stopping training job %s", self._job)
        conn = self.hook.conn
        try:
            conn.stop_training_job(TrainingJobName=self._job)
        except conn.exceptions.ClientError as error:
            self.log.warning("training job %s was not stopped: %s", self._job, error)

    def _claim(self, wanted: str) -> tuple[str, str | None]:
        """Return the name to use and, where that job exists and is worth having, its status."""
        for attempt in count(1):
            suffix = "" if attempt == 1 else f"-{attempt}"
            name = wanted[: 63 - len(suffix)].rstrip("-") + suffix
            status = self._status(name)
            while status == "Stopping":  # the last try was killed: its job ends within minutes and leaves no model
                self.log.info("training job %s is stopping: waiting for its end", name)
                time.sleep(self.check_interval)
                status = self._status(name)
            if status is None or status in (*RUNNING, "Completed"):
                return name, status
            self.log.info("training job %s is %s: trying the next name", name, status)
        raise AssertionError("unreachable")

    def _status(self, name: str) -> str | None:
        conn = self.hook.conn
        try:
            return str(conn.describe_training_job(TrainingJobName=name)["TrainingJobStatus"])
        except conn.exceptions.ClientError as error:
            if error_code(error) in ("ValidationException", "ResourceNotFound"):
                return None
            raise

    def _wait(self, name: str) -> dict[str, Any]:
        """Describe the job until it ends, giving out its log as it grows; throttling is waited out."""
        conn, log, refused = self.hook.conn, JobLog(name), 0
        while True:
            try:
                description: dict[str, Any] = conn.describe_training_job(TrainingJobName=name)
                lines = log.new_lines()
            except conn.exceptions.ClientError as error:
                refused += 1
                if error_code(error) not in THROTTLED or refused > MAX_THROTTLED:
                    raise
                self.log.warning("SageMaker refused a description (%s); the job goes on", error_code(error))
            else:
                refused = 0
                for line in lines:
                    self.log.info("%s", line)
                if description["TrainingJobStatus"] not in RUNNING:
                    return description
            time.sleep(self.check_interval)

    def _outcome(self, description: dict[str, Any], *, reused: bool) -> Any:
        name, status = description["TrainingJobName"], description["TrainingJobStatus"]
        reason = description.get("FailureReason") or description.get("SecondaryStatus") or "no reason given"
        if status == "Stopped":
            fail(f"training job {name} was stopped ({reason}); clear this task to train again")
        if status != "Completed":
            headline = f"training job {name} is {status}: {reason}"
            if reason.startswith(("AlgorithmError", "ClientError")):
                fail(headline)
            raise TrainingFailed(headline)
        if "ModelArtifacts" not in description:
            fail(f"training job {name} completed, but left no model")
        started, ended = description.get("TrainingStartTime"), description.get("TrainingEndTime")
        return {
            "job": name,
            "model_data": description["ModelArtifacts"]["S3ModelArtifacts"],
            "seconds": round((ended - started).total_seconds(), 1) if started and ended else None,
            "billable_seconds": description.get("BillableTimeInSeconds"),
            "metrics": {
                # XCom is JSON, which has no NaN: the AUROC of tune films of one class.
                m["MetricName"]: m["Value"] if math.isfinite(m["Value"]) else None
                for m in description.get("FinalMetricDataList", ())
            },
            "reused": reused,
        }
