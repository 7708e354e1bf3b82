"""A trained model enters the registry once its bundle is verified, pending approval."""

from __future__ import annotations

from typing import Any

from cxr_pipeline import bundle, registry
from cxr_pipeline.model import Model
from cxr_pipeline.outcome import fail, headline
from cxr_pipeline.plan import Plan, remember_job
from cxr_pipeline.settings import Settings
from cxr_pipeline.training import Trained


def register(s3: Any, sagemaker: Any, names: Settings, planned: Plan, trained: Trained) -> Model:
    """Unpack and verify the job's bundle beside models/<job>/bundle.json and register it; ends the task if unsound.

    From then on the job is found again by its fingerprint.
    """
    job = trained["job"]
    try:
        reference, manifest = bundle.publish(s3, trained["model_data"], names.models_bucket, f"models/{job}/")
    except bundle.BundleRefused as refused:
        fail(f"training job {job}: {refused}")
    package = registry.Package(
        model_data=trained["model_data"],
        image=names.inference_image,
        metrics_uri=f"s3://{names.models_bucket}/models/{job}/metrics.json",
        metadata={
            "training_job": job,
            "bundle.sha256": reference["sha256"],
            **{f"sha256.{name}": entry["sha256"] for name, entry in manifest.files.items()},
            "dataset.digest": str(manifest.dataset["digest"]),
            "weights": str(manifest.weights["label"]),
            "head": manifest.head,
            "code_version": manifest.code_version,
        },
    )
    package_arn = registry.register(sagemaker, names.model_package_group, job, package)
    remember_job(s3, names.models_bucket, planned["fingerprint"], job)
    headline(f"model package {registry.version(package_arn)}: {package_arn}")
    return {
        "package_arn": package_arn,
        "version": registry.version(package_arn),
        "job": job,
        "dataset": planned["dataset"],
        "bundle": reference,
        "model_sha256": manifest.model_sha256,
        "threshold": manifest.threshold,
    }
