"""How the project's own stacks are deployed to a local AWS."""

from __future__ import annotations

from infra.config import Config
from infra.config import load as load_config
from local_aws.server import ACCOUNT, REGION


def local_config(endpoint: str) -> Config:
    """The deployment's settings for two cores: the same stacks, less concurrency, images that stand for commands."""
    registry = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    return load_config(
        region=REGION,
        endpoint_url=endpoint,
        uploads_concurrency=2,
        backlog_concurrency=2,
        direct_concurrency=1,
        inference_image=f"{registry}/cxr-inference:local",
        training_image=f"{registry}/cxr-training:local",
    )
