"""One Airflow environment for the demo and the UI: everything by variables, so that no DAG differs from MWAA's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_aws.server import HOST, ROOT

# A laptop has no GPU, and drawn films meet no hospital's floors: these defaults show in the form.
LAPTOP_DEFAULTS: dict[str, Any] = {
    "min_films": 5, "side": 64, "weights": "random", "epochs": 20, "augment_copies": 1,
    "require_gpu": False, "instance_type": "ml.m5.large",
    "alpha": 0.1, "check_interval": 2, "min_sensitivity": 0.3, "min_specificity": 0.1, "min_auroc": 0.5,
    "max_ece": 0.4, "max_parity_auroc_drop": 0.05, "max_parity_label_flips": 0.2, "max_parity_status_flips": 0.2,
    "margin_auroc": -0.3, "margin_balanced_accuracy": -0.5,
}  # fmt: skip


def airflow_environment(home: Path, aws: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, str]:
    """The environment of an Airflow process with its state in `home`.

    `aws`: LocalAWS.environment (endpoint and credentials); `settings`: the Airflow Variable `cxr`.
    """
    return {
        **os.environ,
        **aws,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "AIRFLOW_VAR_CXR": json.dumps(dict(settings)),
        "PYTHONWARNINGS": "ignore",
    }


def ui_environment(home: Path, aws: Mapping[str, str], settings: Mapping[str, Any], port: int) -> dict[str, str]:
    """The environment of Airflow's components: the DAGs unpaused, no login, the laptop's defaults in the form."""
    return {
        **airflow_environment(home, aws, settings),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "CXR_RETRAIN_DEFAULTS": json.dumps(LAPTOP_DEFAULTS),
    }


def lay_out_dags(folder: Path) -> None:
    """Let ``folder`` hold what an account's DAGs folder holds, as links: what lies in dags/, and cxr/ beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in (*(ROOT / "dags").iterdir(), ROOT / "cxr"):
        if source.name != "__pycache__":
            (folder / source.name).symlink_to(source)


def migrate(environment: Mapping[str, str]) -> None:
    """Lay out the DAGs folder and create or upgrade the metadata database.

    Raises RuntimeError with the tail of Airflow's output.
    """
    lay_out_dags(Path(environment["AIRFLOW__CORE__DAGS_FOLDER"]))
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], env=dict(environment), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"airflow db migrate failed with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
