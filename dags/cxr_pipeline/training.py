"""A retry never pays for a second running job: adopt the one in progress, reuse the completed one, else add a suffix.

The provider's operator would start a second paid job on retry, take a stopped job for success and leave a job running
when its task is killed; this subclass keeps its request checks and its deferrable mode and replaces the rest.
"""

from __future__ import annotations

import math
import re
import time
from itertools import count
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator

from cxr_pipeline.clients import client, error_code
from cxr_pipeline.outcome import fail

JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
RUNNING = ("InProgress", "Stopping")
THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "500", "503")
# Instances whose local NVMe is encrypted by hardware; SageMaker refuses a volume key for them.
LOCAL_STORAGE = re.compile(r"ml\.(g4dn|g5|g6|g6e|gr6|p3dn|p4d|p4de|p5|p5e|p5en|trn1|trn1n|[a-z0-9]+d)\.")
MAX_THROTTLED = 20  # descriptions refused in a row before the task gives up on SageMaker (not on the job)
BOOLEANS = ("EnableManagedSpotTraining", "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption")


class TrainingFailed(Exception):
    """The job failed for a reason that a retry may cure (capacity, internal error)."""


def settle(request: dict[str, Any]) -> dict[str, Any]:
    """Turn a rendered CreateTrainingJob request (every value a string) into the one to send.

    Booleans become booleans; channels and keys with an empty address and hyperparameters left empty are dropped;
    without spot there is no MaxWaitTimeInSeconds, on instances with local storage no VolumeKmsKeyId (SageMaker
    refuses both).
    """
    settled = {name: _boolean(name, value) if name in BOOLEANS else value for name, value in request.items()}
    settled["InputDataConfig"] = [
        channel for channel in request["InputDataConfig"] if channel["DataSource"]["S3DataSource"]["S3Uri"]
    ]
    for section in ("OutputDataConfig", "ResourceConfig"):
        settled[section] = {name: value for name, value in request[section].items() if value != ""}
    if LOCAL_STORAGE.match(settled["ResourceConfig"]["InstanceType"]):
        settled["ResourceConfig"].pop("VolumeKmsKeyId", None)
    if not settled["InputDataConfig"]:
        del settled["InputDataConfig"]
    for name in ("InstanceCount", "VolumeSizeInGB"):
        settled["ResourceConfig"][name] = int(settled["ResourceConfig"][name])
    settled["HyperParameters"] = {name: v for name, v in request["HyperParameters"].items() if v != "none"}
    stop = dict(request["StoppingCondition"])
    if not settled.get("EnableManagedSpotTraining"):
        stop.pop("MaxWaitTimeInSeconds", None)
    settled["StoppingCondition"] = {name: int(float(value)) for name, value in stop.items()}
    if not JOB_NAME.fullmatch(settled["TrainingJobName"]):
        fail(f"{settled['TrainingJobName']!r} is no training job name: at most 63 letters, digits and single dashes")
    return settled


def _boolean(name: str, value: str | bool) -> bool:
    if str(value).lower() not in ("true", "false"):
        fail(f"{name} is {value!r}; it must render to True or False")
    return str(value).lower() == "true"


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

    ``check_interval`` (seconds) is templated. Returns ``{"job", "model_data", "seconds", "billable_seconds",
    "metrics", "reused"}``. Deferred (``operators.default_deferrable``) it waits in the triggerer for at most
    ``max_attempts`` intervals; a job adopted on a retry is awaited in the worker.
    """

    template_fields = (*SageMakerTrainingOperator.template_fields, "check_interval")

    def __init__(self, *, check_interval: int | str = 30, max_attempts: int = 2880, **kwargs: Any) -> None:
        super().__init__(check_if_job_exists=False, print_log=False, max_attempts=max_attempts, **kwargs)
        self.check_interval = check_interval
        self._job: str | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        self.check_interval = int(float(self.check_interval))
        self.config = settle(self.config)
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

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> dict[str, Any]:
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

    def _outcome(self, description: dict[str, Any], *, reused: bool) -> dict[str, Any]:
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
