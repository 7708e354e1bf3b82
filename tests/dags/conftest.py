"""The DAGs run against a local AWS whose training jobs and Lambda are the real programs; one for this whole folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "dags"))  # as Airflow does with its DAG folder

SMALL = {
    "dataset": "datasets/small/", "weights": "random", "feature_engine": "int8", "epochs": 3, "dense_units": 16,
    "augment_copies": 0, "alpha": 0.2, "require_gpu": False, "instance_type": "ml.m5.large", "check_interval": 1,
    "min_films": 5, "min_sensitivity": 0, "min_specificity": 0, "min_auroc": 0, "max_ece": 1,
    "max_parity_auroc_drop": 1, "max_parity_label_flips": 1, "smoke_films": 2,
}  # fmt: skip


@pytest.fixture(scope="package")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The local AWS with both stacks deployed; the environment of this process points at it."""
    from infra import stacks
    from infra.config import load
    from infra.session import open_session
    from infra.settings import airflow_settings
    from local_aws.server import ACCOUNT, REGION, LocalAWS

    with (
        LocalAWS(log_dir=tmp_path_factory.mktemp("logs"), concurrency=1) as local,
        pytest.MonkeyPatch.context() as patch,
    ):
        registry = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
        config = load(
            region=REGION,
            endpoint_url=local.endpoint,
            uploads_concurrency=2,
            backlog_concurrency=2,
            direct_concurrency=1,
            inference_image=f"{registry}/cxr-inference:local",
            training_image=f"{registry}/cxr-training:local",
        )
        for name, value in local.environment.items():
            patch.setenv(name, value)
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        outputs = stacks.deploy(open_session(config), config, say=lambda *_: None)
        patch.setenv("AIRFLOW_VAR_CXR", json.dumps(airflow_settings(outputs)))
        yield local
    assert "AWS_ENDPOINT_URL" not in os.environ
