"""What a run of `retrain` trains: decided, and refused, before a GPU is paid for."""

from __future__ import annotations

from typing import Any, TypedDict

from cxr.hyperparameters import BadHyperparameter, read_hyperparameters
from cxr.pointer import PointerStore
from cxr_pipeline import dataset, start_weights
from cxr_pipeline.naming import job_name
from cxr_pipeline.objects import find_json, listing, write_json
from cxr_pipeline.outcome import fail, headline
from cxr_pipeline.retrain_form import fingerprint, hyperparameters
from cxr_pipeline.settings import Settings
from cxr_pipeline.training_request import TrainingRequest, training_request


class Plan(TypedDict):
    """What the later tasks are told: the job's request, and whence its data. check_interval: seconds."""

    dataset: str
    counts: dict[str, dict[str, int]]
    fingerprint: str
    request: TrainingRequest
    check_interval: int


def plan(s3: Any, names: Settings, params: dict[str, Any], dag_run: Any) -> Plan:
    """Check the dataset by its listing and choose the training job: an earlier one that made the same, or a new one.

    Ends the task where the dataset, the start weights or the job cannot be used.
    """
    prefix = params["dataset"] or dataset.current(s3, names.datasets_bucket)
    found = dataset.read_listing(prefix, listing(s3, names.datasets_bucket, prefix))
    headline(f"{found.prefix}: {found.counts}, beside them: {dict(found.ignored) or 'nothing'}")
    try:
        dataset.check(found, params["min_films"])
        weights_uri, weights_digest = start_weights.locate(s3, names.datasets_bucket, params)
        read_hyperparameters(hyperparameters(params))
    except (dataset.DatasetRefused, BadHyperparameter) as refused:
        fail(str(refused))
    champion = PointerStore(s3, names.models_bucket).read()
    mark = fingerprint(found.digest, weights_digest, names.training_image, params)
    job = None if params["force"] else earlier_job(s3, names.models_bucket, mark)
    if job:
        headline(f"dataset, image and parameters are those of training job {job}: no GPU is paid for (see `force`)")
    channels = {
        "dataset": f"s3://{names.datasets_bucket}/{prefix}",
        "weights": weights_uri,
        "champion": f"s3://{champion.pointer.current.bucket}/{champion.pointer.current.prefix}" if champion else None,
    }
    return {
        "dataset": prefix,
        "counts": found.counts,
        "fingerprint": mark,
        "request": training_request(job or job_name(names.project, dag_run, mark), names, params, channels),
        "check_interval": params["check_interval"],
    }


def remember_job(s3: Any, bucket: str, mark: str, job: str) -> None:
    """Let later runs with the same fingerprint find the job."""
    write_json(s3, bucket, _key(mark), {"job": job})


def earlier_job(s3: Any, bucket: str, mark: str) -> str | None:
    """Return the completed job with this fingerprint, or None."""
    found = find_json(s3, bucket, _key(mark))
    return None if found is None else str(found["job"])


def _key(mark: str) -> str:
    return f"training/fingerprints/{mark}.json"
