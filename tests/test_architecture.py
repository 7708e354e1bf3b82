"""The dependency arrows run one way; a module that breaks one is named here, not found in production."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import sources
from tests.sources import PARTS, imports, module_name, python_files

FORBIDDEN = {
    "cxr": {"tensorflow", "keras", "boto3", "botocore", "moto", "airflow", "sagemaker", *PARTS} - {"cxr"},
    "training_job": {"boto3", "moto", "airflow", "sagemaker", *PARTS} - {"cxr", "training_job"},
    "inference_lambda": {"tensorflow", "keras", "moto", "airflow", "sagemaker", *PARTS} - {"cxr", "inference_lambda"},
    "infra": {"tensorflow", "keras", "moto", "airflow", *PARTS} - {"cxr", "infra"},
    "dags": {"tensorflow", "keras", "moto", "sagemaker", *PARTS} - {"cxr", "dags"},
}
# cxr's lower storey: the standard library alone, so that DAGs and commands may import it.
LOWER = {
    "labels",
    "spreadsheet",
    "pointer",
    "result",
    "bundle",
    "verdict",
    "reasons",
    "dataset",
    "patients",
    "film_list",
    "subtypes",
    "hyperparameters",
    "metric_definitions",
    "noninferiority",
    "grid",
}


def outside(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names of a file's imports, with their lines."""
    return ((name.split(".")[0], line) for name, line in imports(path))


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_no_part_imports_across_a_wall(part: str, repo: Path) -> None:
    files = python_files(part)
    assert files, f"{part}/ has no Python file: the test would prove nothing"
    broken = [
        f"{path.relative_to(repo)}:{line} imports {name}"
        for path in files
        for name, line in outside(path)
        if name in FORBIDDEN[part]
    ]
    assert not broken, "\n".join(broken)


def test_only_the_local_aws_the_benchmarks_and_tests_know_moto(repo: Path) -> None:
    broken = [
        str(path.relative_to(repo))
        for part in set(PARTS) - {"local_aws"}
        for path in python_files(part)
        if "moto" in {name for name, _ in outside(path)}
    ]
    assert not broken


def test_the_wall_test_sees_a_forbidden_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    lazy = tmp_path / "part" / "lazy.py"
    lazy.parent.mkdir()
    lazy.write_text("def f():\n    import tensorflow.keras\n    from boto3 import client\n    from . import near\n")
    assert set(imports(lazy)) == {("tensorflow.keras", 2), ("boto3.client", 3), ("part.near", 4)}


def test_cxr_loads_without_tensorflow_boto3_and_airflow(repo: Path) -> None:
    modules = [f"cxr.{path.stem}" for path in python_files("cxr") if path.stem != "__init__"]
    program = (
        f"import sys\nfor name in {modules!r}: __import__(name)\n"
        "print(sorted({'tensorflow', 'keras', 'boto3', 'airflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("part", ["dags", "infra"])
def test_dags_and_commands_import_the_lower_storey_alone(part: str, repo: Path) -> None:
    broken = [
        f"{path.relative_to(repo)}:{line} imports {name}"
        for path in python_files(part)
        for name, line in imports(path)
        if name.split(".")[0] == "cxr" and name.split(".")[1] not in LOWER
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("name", sorted(LOWER))
def test_the_lower_storey_needs_the_standard_library_alone(name: str, repo: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(repo)!r}); import cxr.{name}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of modules, its first named again at the end; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_goes_round_in_a_circle_not_even_a_lazy_one() -> None:
    names = {module_name(path): path for part in PARTS for path in python_files(part)}
    graph = {
        name: {known for target, _ in imports(path) for known in (target, target.rpartition(".")[0]) if known in names}
        - {name}
        for name, path in names.items()
    }
    assert sum(map(len, graph.values())) > len(graph), "hardly an import was seen: the test would prove nothing"
    assert not circle(graph), " -> ".join(circle(graph))


def test_a_circle_is_seen() -> None:
    assert circle({"film": {"reader"}, "reader": {"film", "raster"}, "raster": set()}) in (
        ["film", "reader", "film"],
        ["reader", "film", "reader"],
    )


def too_many_parameters(text: str, limit: int = 6) -> Iterator[str]:
    """The functions with more parameters than `limit`, `self` and `cls` not counted."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg) if a]
            if len(set(names) - {"self", "cls"}) > limit:
                yield f"{node.lineno} {node.name}"


def test_no_function_has_more_than_six_parameters_and_no_module_more_than_350_lines(repo: Path) -> None:
    broken = []
    for path in (path for part in PARTS for path in python_files(part)):
        text, where = path.read_text(), path.relative_to(repo)
        broken += [f"{where}:{found}: make a bundle of them a dataclass" for found in too_many_parameters(text)]
        if (lines := text.count("\n")) > 350:
            broken.append(f"{where}: {lines} lines; part it by what it does")
    assert not broken, "\n".join(broken)


def test_a_function_of_seven_parameters_is_seen() -> None:
    source = "class A:\n    def f(self, a, b, c, *d, e, {}): ...\n"
    assert not list(too_many_parameters(source.format("f")))
    assert list(too_many_parameters(source.format("f, g"))) == ["2 f"]


def tracked(repo: Path) -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=repo, capture_output=True, text=True, check=False).stdout
    return [repo / name for name in listing.split("\0") if name and (repo / name).is_file()]


def test_no_tracked_file_is_a_dataset_or_a_model(repo: Path) -> None:
    broken = [
        str(path.relative_to(repo))
        for path in tracked(repo)
        if path.suffix in {".h5", ".keras", ".tflite", ".dcm", ".npz", ".jpeg", ".jpg"} or path.stat().st_size > 2**20
    ]
    assert not broken, f"data, weights and models do not belong into the repository: {broken}"
