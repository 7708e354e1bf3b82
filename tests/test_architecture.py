"""The dependency arrows run one way; a module that breaks one is named here, not found in production."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PARTS = ("cxr", "training_job", "inference_lambda", "infra", "local_aws", "dags", "benchmarks")
FORBIDDEN = {
    "cxr": {"tensorflow", "keras", "boto3", "botocore", "moto", "airflow", "sagemaker", *PARTS} - {"cxr"},
    "training_job": {"boto3", "moto", "airflow", "sagemaker", *PARTS} - {"cxr", "training_job"},
    "inference_lambda": {"tensorflow", "keras", "moto", "airflow", "sagemaker", *PARTS} - {"cxr", "inference_lambda"},
    "infra": {"tensorflow", "keras", "moto", "airflow", *PARTS} - {"cxr", "infra"},
    "dags": {"tensorflow", "keras", "moto", "sagemaker", *PARTS} - {"cxr", "dags"},
}
# cxr's lower storey: the standard library alone, so that DAGs and commands may import it.
LOWER = {"labels", "pointer", "result", "bundle", "verdict", "reasons", "dataset", "patients", "hyperparameters"}


def python_files(part: str, repo: Path) -> list[Path]:
    return sorted((repo / part).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names of every absolute import in a file, wherever it stands, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node.lineno


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_no_part_imports_across_a_wall(part: str, repo: Path) -> None:
    files = python_files(part, repo)
    assert files, f"{part}/ has no Python file: the test would prove nothing"
    broken = [
        f"{path.relative_to(repo)}:{line} imports {name}"
        for path in files
        for name, line in imported(path)
        if name in FORBIDDEN[part]
    ]
    assert not broken, "\n".join(broken)


def test_only_the_local_aws_the_benchmarks_and_tests_know_moto(repo: Path) -> None:
    broken = [
        str(path.relative_to(repo))
        for part in set(PARTS) - {"local_aws"}
        for path in python_files(part, repo)
        if "moto" in {name for name, _ in imported(path)}
    ]
    assert not broken


def test_the_wall_test_sees_a_forbidden_import(tmp_path: Path) -> None:
    lazy = tmp_path / "lazy.py"
    lazy.write_text("def f():\n    import tensorflow.keras\n    from boto3 import client\n")
    assert set(imported(lazy)) == {("tensorflow", 2), ("boto3", 3)}


def test_cxr_loads_without_tensorflow_boto3_and_airflow(repo: Path) -> None:
    modules = [f"cxr.{path.stem}" for path in python_files("cxr", repo) if path.stem != "__init__"]
    program = (
        f"import sys\nfor name in {modules!r}: __import__(name)\n"
        "print(sorted({'tensorflow', 'keras', 'boto3', 'airflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def cxr_modules(path: Path) -> Iterator[tuple[str, int]]:
    """The modules of cxr that a file imports, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((a.name.split(".")[1], node.lineno) for a in node.names if a.name.startswith("cxr."))
        elif isinstance(node, ast.ImportFrom) and node.module == "cxr":
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cxr."):
            yield (node.module or "").split(".")[1], node.lineno


@pytest.mark.parametrize("part", ["dags", "infra"])
def test_dags_and_commands_import_the_lower_storey_alone(part: str, repo: Path) -> None:
    broken = [
        f"{path.relative_to(repo)}:{line} imports cxr.{name}"
        for path in python_files(part, repo)
        for name, line in cxr_modules(path)
        if name not in LOWER
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("name", sorted(LOWER))
def test_the_lower_storey_needs_the_standard_library_alone(name: str, repo: Path) -> None:
    if not (repo / "cxr" / f"{name}.py").exists():
        pytest.skip(f"cxr/{name}.py is yet to come")
    program = f"import sys; sys.path.insert(0, {str(repo)!r}); import cxr.{name}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def tracked(repo: Path) -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=repo, capture_output=True, text=True, check=False).stdout
    return [repo / name for name in listing.split("\0") if name and (repo / name).is_file()]


def test_locks_name_no_registry(repo: Path) -> None:
    locks = [path for path in tracked(repo) if re.fullmatch(r"requirements.*\.txt", path.name)]
    assert locks
    broken = [
        f"{path.relative_to(repo)}: {line}"
        for path in locks
        for line in path.read_text().splitlines()
        if re.match(r"--(extra-)?index-url|--find-links|.*@ https?://", line)
    ]
    assert not broken


def test_no_tracked_file_is_a_dataset_or_a_model(repo: Path) -> None:
    broken = [
        str(path.relative_to(repo))
        for path in tracked(repo)
        if path.suffix in {".h5", ".keras", ".tflite", ".dcm", ".npz", ".jpeg", ".jpg"} or path.stat().st_size > 2**20
    ]
    assert not broken, f"data, weights and models do not belong into the repository: {broken}"
