"""The words of films and answers stand in cxr/labels.py alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr import labels

PARTS = ("cxr", "training_job", "inference_lambda", "infra", "local_aws", "benchmarks")


def words(path: Path) -> Iterator[tuple[int, object]]:
    """Every text of a module, and every tuple or list of texts, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            yield node.lineno, tuple(item.value for item in node.elts if isinstance(item, ast.Constant))


@pytest.mark.parametrize(
    "word", [labels.CLASSES, labels.STATUSES, labels.PRIORITIES, labels.INTENDED_USE, *labels.LIMITATIONS]
)
def test_no_other_module_spells_them_out(word: object, repo: Path) -> None:
    homes = {
        f"{path.relative_to(repo)}:{line}"
        for part in PARTS
        for path in sorted((repo / part).rglob("*.py"))
        for line, found in words(path)
        if found == word
    }
    assert {home.partition(":")[0] for home in homes} == {"cxr/labels.py"}, sorted(homes)
