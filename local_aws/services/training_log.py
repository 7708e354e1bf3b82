"""What a training command prints goes to CloudWatch Logs while it runs, and its metric lines are collected.

Group /aws/sagemaker/TrainingJobs, stream `<job>/algo-1-<epoch seconds>`, as SageMaker names them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from moto.core.utils import utcnow
from moto.logs.models import LogsBackend, logs_backends

GROUP = "/aws/sagemaker/TrainingJobs"


class LogStream:
    """The log of one running job; `forward` sends what is new, leaving the context sends the rest."""

    def __init__(self, job: str, file: Path, account: str, region: str, metrics: Mapping[str, re.Pattern[str]]) -> None:
        self._logs: LogsBackend = logs_backends[account][region]
        self._stream = f"{job}/algo-1-{int(time.time())}"
        self._metrics = metrics
        self._values: dict[str, tuple[float, datetime]] = {}
        self.file = file
        self._offset = 0
        self._partial = b""

    def __enter__(self) -> LogStream:
        self.file.write_bytes(b"")
        self._logs.ensure_log_group(GROUP)
        self._logs.create_log_stream(GROUP, self._stream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forward(last=True)

    def forward(self, last: bool = False) -> None:
        """Send the complete lines that were printed since the last call (the unfinished one too, if `last`)."""
        with self.file.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if last and self._partial:
            lines, self._partial = [*lines, self._partial], b""
        texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
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
