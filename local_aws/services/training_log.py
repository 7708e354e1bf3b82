"""What a training command prints goes to CloudWatch Logs while it runs, and its metric lines are collected.

Group /aws/sagemaker/TrainingJobs, stream `<job>/algo-1-<epoch seconds>`, as SageMaker names them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from moto.core.utils import utcnow
from moto.logs.models import LogsBackend, logs_backends
from moto.sagemaker.models import FakeTrainingJob

from local_aws.lines import NewLines

GROUP = "/aws/sagemaker/TrainingJobs"


class LogStream:
    """The log of one running job, whose output goes to `file`; `metrics`: a pattern for each of its metrics."""

    def __init__(self, job: FakeTrainingJob, file: Path, metrics: Mapping[str, re.Pattern[str]]) -> None:
        region, account = job.arn.split(":")[3:5]
        self._logs: LogsBackend = logs_backends[account][region]
        self._stream = f"{job.training_job_name}/algo-1-{int(time.time())}"
        self._logs.ensure_log_group(GROUP)
        self._logs.create_log_stream(GROUP, self._stream)
        self._metrics = metrics
        self._values: dict[str, tuple[float, datetime]] = {}
        self._lines = NewLines(file)

    def forward(self, last: bool = False) -> None:
        """Send the complete lines that were printed since the last call (the unfinished one too, if `last`)."""
        texts = self._lines.read(last)
        self._collect(texts)
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": text or " "} for text in texts]
        if events:
            self._logs.put_log_events(GROUP, self._stream, events)

    def final_metrics(self) -> list[dict[str, Any]]:
        """The last value of each metric that was printed (SageMaker's FinalMetricDataList)."""
        return [
            {"MetricName": name, "Value": value, "Timestamp": moment} for name, (value, moment) in self._values.items()
        ]

    def _collect(self, texts: list[str]) -> None:
        for text in texts:
            for name, pattern in self._metrics.items():
                for match in pattern.finditer(text):
                    try:
                        self._values[name] = (float(match.group(1)), utcnow())
                    except (ValueError, IndexError):
                        continue
