"""The project's own Python files and what they import, for the tests of its walls and of its locks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("audit", "benchmarks", "cxr", "dags", "inference_lambda", "infra", "local_aws", "training_job")


def python_files(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name under which the file is imported: the DAGs folder and the tests' folders are on the path."""
    names = list(path.relative_to(ROOT).with_suffix("").parts)
    if names[0] == "dags":
        names.pop(0)
    elif names[0] == "tests":
        names = names[-1:]
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names of everything a file imports, wherever it stands, with its line; `a.b` for `from a import b`."""
    package = module_name(path).split(".") if path.stem == "__init__" else module_name(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)
