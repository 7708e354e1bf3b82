"""Completed training jobs as text and back, so that a restarted local AWS still knows what has been paid for.

Only completed ones: a job that was running when the local AWS ended is gone, as its process is.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from moto.sagemaker.models import FakeTrainingJob, SageMakerModelBackend, sagemaker_backends

TIME = "$time"


def dump(account: str, region: str) -> str:
    """JSON of the completed jobs, as DescribeTrainingJob would tell them."""
    jobs = _backend(account, region).training_jobs.values()
    completed = [vars(job) for job in jobs if job.training_job_status == "Completed"]
    return json.dumps(completed, indent=2, default=_as_text)


def load(account: str, region: str, text: str) -> None:
    """Put the jobs of `dump` back; none of them runs again."""
    known = _backend(account, region).training_jobs
    for attributes in json.loads(text, object_hook=_from_text):
        job = object.__new__(FakeTrainingJob)
        vars(job).update(attributes)
        known[job.training_job_name] = job


def _backend(account: str, region: str) -> SageMakerModelBackend:
    backend: SageMakerModelBackend = sagemaker_backends[account][region]
    return backend


def _as_text(value: object) -> dict[str, str]:
    if isinstance(value, datetime):
        return {TIME: value.isoformat()}
    raise TypeError(f"{type(value).__name__} in a training job cannot be kept")


def _from_text(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value[TIME]) if set(value) == {TIME} else value
