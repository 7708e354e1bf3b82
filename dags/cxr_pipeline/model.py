"""A registered model, as one task of `retrain` tells the next."""

from __future__ import annotations

from typing import TypedDict

from cxr_pipeline.bundle import Reference


class Model(TypedDict):
    """version: of the package, as text. dataset: its prefix. threshold: a probability."""

    package_arn: str
    version: str
    job: str
    dataset: str
    bundle: Reference
    model_sha256: str
    threshold: float
