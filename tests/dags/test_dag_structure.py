"""The DAG folder parses fast, without TensorFlow, without a database and within Airflow 3.0's SDK."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# airflow.sdk.__all__ of apache-airflow-task-sdk 1.0.6, the one of Airflow 3.0.6 (the oldest that MWAA offers).
SDK_3_0_6 = {
    "Asset", "AssetAlias", "AssetAll", "AssetAny", "AssetWatcher", "BaseNotifier", "BaseOperator", "BaseOperatorLink",
    "BaseSensorOperator", "Connection", "Context", "DAG", "EdgeModifier", "Label", "Metadata", "ObjectStoragePath",
    "Param", "PokeReturnValue", "TaskGroup", "Variable", "XComArg", "asset", "chain", "chain_linear",
    "cross_downstream", "dag", "get_current_context", "get_parsing_context", "setup", "task", "task_group", "teardown",
}  # fmt: skip
PARSE = """
import json, os, sys, time
from airflow.dag_processing.dagbag import DagBag
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
sys.path.insert(0, folder)
started = time.process_time()
bag = DagBag(folder)
print("PARSED " + json.dumps({
    "errors": bag.import_errors,
    "seconds": time.process_time() - started,
    "heavy": sorted({"tensorflow", "keras", "cxr", "moto", "sagemaker"} & set(sys.modules)),
    "tasks": {dag.dag_id: sorted(dag.task_ids) for dag in bag.dags.values()},
    "schedules": {dag.dag_id: str(dag.schedule) for dag in bag.dags.values()},
}))
"""


def parse(**environment: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PARSE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("PARSED "))[7:])


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return parse(AIRFLOW_HOME=str(tmp_path_factory.mktemp("no-database")))


def test_the_folder_parses_without_a_database(parsed: dict) -> None:
    assert parsed["errors"] == {}


def test_parsing_loads_nothing_of_the_training_environment(parsed: dict) -> None:
    assert parsed["heavy"] == []


def test_parsing_takes_less_than_five_seconds_of_cpu(parsed: dict) -> None:
    assert parsed["seconds"] < 5


def test_retrain_is_weekly_where_no_variable_can_be_read(parsed: dict) -> None:
    assert parsed["schedules"]["retrain"] == "@weekly"


def test_retrain_has_the_steps_of_the_design(parsed: dict) -> None:
    assert parsed["tasks"]["retrain"] == sorted(
        ["plan", "train", "register", "judge", "compare", "approve", "promote", "smoke_test", "roll_back", "announce"]
    )


def test_only_names_of_airflow_3_0_6_are_imported_from_the_sdk(repo: Path) -> None:
    used = {
        alias.name
        for path in (repo / "dags").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "airflow.sdk"
        for alias in node.names
    }
    assert used
    assert used <= SDK_3_0_6
