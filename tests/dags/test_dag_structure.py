"""The DAG folder parses fast, without TensorFlow, without a database and within Airflow 3.0's SDK."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
sys.path[0] = folder  # instead of the working directory
started = time.process_time()
bag = DagBag(folder)
print("PARSED " + json.dumps({
    "errors": bag.import_errors,
    "files": sorted(stat.file.removeprefix(folder).lstrip("/") for stat in bag.dagbag_stats),
    "seconds": time.process_time() - started,
    "heavy": sorted({"tensorflow", "keras", "numpy", "PIL", "moto", "sagemaker"} & set(sys.modules)),
    "tasks": {dag.dag_id: sorted(dag.task_ids) for dag in bag.dags.values()},
    "schedules": {dag.dag_id: str(dag.schedule) for dag in bag.dags.values()},
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """The DAGs folder of an account: what lies in dags/, and cxr/ beside it; nothing else of the repository."""
    made = tmp_path_factory.mktemp("account") / "dags"
    shutil.copytree(repo / "dags", made)
    shutil.copytree(repo / "cxr", made / "cxr")
    return made


def parse(folder: Path, **environment: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        env={**os.environ, **environment, "AIRFLOW__CORE__DAGS_FOLDER": str(folder)},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("PARSED "))[7:])


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> dict:
    return parse(folder, AIRFLOW_HOME=str(tmp_path_factory.mktemp("no-database")))


def test_the_folder_parses_without_a_database(parsed: dict) -> None:
    assert parsed["errors"] == {}


def test_the_packages_beside_the_dags_are_not_parsed_as_dags(parsed: dict) -> None:
    assert parsed["files"] == ["classify_backlog.py", "correct_labels.py", "report.py", "retrain.py"]


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


def test_no_optional_field_blocks_the_form_s_button(repo: Path) -> None:
    """Airflow's form takes an empty text field for missing unless its type allows null."""
    from cxr_pipeline.retrain_form import FORM

    blocking = [name for name, param in FORM.items() if param.value == "" or (param.value is None) != _nullable(param)]
    assert blocking == []


def _nullable(param: Any) -> bool:
    return "null" in param.schema["type"]


def test_the_form_offers_every_hyperparameter_as_the_training_job_reads_it() -> None:
    from cxr_pipeline.retrain_form import FORM

    from cxr.hyperparameters import SPECIFICATIONS, read_hyperparameters

    for name, specification in SPECIFICATIONS.items():
        assert (FORM[name].value, FORM[name].description) == (
            specification.form_default, specification.json_schema()["description"],
        )  # fmt: skip
    read_hyperparameters({name: FORM[name].value for name in SPECIFICATIONS if FORM[name].value is not None})


@pytest.mark.parametrize(
    ("text", "kind"),
    [("none", "NoneType"), ("drift", "list"), ("@daily", "str"), ("0 3 * * 1 or drift", "AssetOrTimeSchedule")],
)
def test_the_schedule_variable_is_understood(text: str, kind: str) -> None:
    from cxr_pipeline.schedule import schedule_of

    assert type(schedule_of(text)).__name__ == kind


def test_an_unknown_schedule_is_refused() -> None:
    from cxr_pipeline.schedule import schedule_of

    with pytest.raises(ValueError, match="after `or`"):
        schedule_of("@weekly or whenever")


def test_the_schedule_variable_is_read_when_the_dag_is_parsed(tmp_path: Path, folder: Path) -> None:
    parsed = parse(folder, AIRFLOW_HOME=str(tmp_path), AIRFLOW_VAR_RETRAIN_SCHEDULE="0 4 * * 6")
    assert parsed["schedules"]["retrain"] == "0 4 * * 6"


def test_every_dag_and_parameter_is_explained(repo: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(repo / "dags"))
    assert set(bag.dags) == {"retrain", "classify_backlog", "report", "correct_labels"}
    for dag in bag.dags.values():
        assert set(dag.task_ids) - set(re.findall(r"`(\w+)`", dag.doc_md or "")) == set()
        unexplained = [name for name in dag.params if not dag.params.get_param(name).description]
        assert unexplained == []
        assert dag.max_active_runs == 1
