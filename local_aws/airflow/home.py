"""One Airflow environment for the demo and the UI: everything by variables, so that no DAG differs from MWAA's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


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


def lay_out_dags(folder: Path) -> None:
    """Let ``folder`` hold what an account's DAGs folder holds, as links: what lies in dags/, and cxr/ beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
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
