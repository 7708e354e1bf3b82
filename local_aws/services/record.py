"""Completed training jobs and the model registry as text and back: a restarted local AWS still knows what was paid for.

Only completed jobs: one that was running when the local AWS ended is gone, as its process is.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from moto.sagemaker.models import FakeTrainingJob, ModelPackage, SageMakerModelBackend, sagemaker_backends

TIME = "$time"


def dump(account: str, region: str) -> str:
    """JSON of the completed jobs and of the model packages."""
    backend = _backend(account, region)
    jobs = [vars(job) for job in backend.training_jobs.values() if job.training_job_status == "Completed"]
    packages = [vars(package) for package in backend.model_packages.values()]
    return json.dumps({"jobs": jobs, "packages": packages}, indent=2, default=_as_text)


def load(account: str, region: str, text: str) -> None:
    """Put back what `dump` wrote; no job runs again."""
    backend, kept = _backend(account, region), json.loads(text, object_hook=_from_text)
    for attributes in kept["jobs"]:
        job: FakeTrainingJob = _made(FakeTrainingJob, attributes)
        backend.training_jobs[job.training_job_name] = job
    for attributes in kept["packages"]:
        package: ModelPackage = _made(ModelPackage, attributes)
        backend.model_packages[package.arn] = package
        backend.model_package_name_mapping[package.model_package_name] = package.arn
        backend.model_package_name_mapping[package.arn] = package.arn


def _backend(account: str, region: str) -> SageMakerModelBackend:
    backend: SageMakerModelBackend = sagemaker_backends[account][region]
    return backend


def _made(kind: Any, attributes: dict[str, Any]) -> Any:
    made = object.__new__(kind)
    vars(made).update(attributes)
    return made


def _as_text(value: object) -> dict[str, str]:
    if isinstance(value, datetime):
        return {TIME: value.isoformat()}
    raise TypeError(f"{type(value).__name__} in SageMaker's records cannot be kept")


def _from_text(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value[TIME]) if set(value) == {TIME} else value
