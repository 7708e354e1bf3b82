"""A document that names a command, a file or a field which does not exist is an error, not a nuisance."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    code = "\n".join(
        inline or block for inline, block in re.findall(r"`([^`\n]+)`|^ {4}(.+)$", document.read_text(), re.MULTILINE)
    )
    named = set(re.findall(r"(?:^|\s)make ([a-z-]+)", code))
    assert named <= targets()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_that_a_document_runs_exists(document: Path) -> None:
    ours = {"cxr", "training_job", "inference_lambda", "infra", "local_aws", "benchmarks"}
    named = {name.rstrip(".") for name in re.findall(r"python -m ([a-z_.0-9]+)", document.read_text())}
    missing = [name for name in named if name.split(".")[0] in ours and importlib.util.find_spec(name) is None]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


def test_the_readme_names_every_folder_and_every_make_target() -> None:
    text = (ROOT / "README.md").read_text()
    folders = ("dags", "training_job", "inference_lambda", "cxr", "infra", "local_aws", "benchmarks", "tests")
    assert all(f"[{folder}/]({folder})" in text for folder in folders)
    described = re.findall(r"^[a-z-]+:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(described) == len(targets() - {"lock"}) + 1, "every target has a line in `make help`"


def example(document: str) -> Any:
    (block,) = re.findall(r"```json\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    return json.loads(block)


def test_the_example_of_a_result_is_valid() -> None:
    jsonschema.validate(example("docs/results.md"), json.loads((ROOT / "cxr" / "result.schema.json").read_text()))


def test_the_readme_abridges_the_example_and_changes_nothing_in_it() -> None:
    whole, abridged = example("docs/results.md"), example("README.md")
    for name, value in abridged.items():
        assert value == whole[name] or value.items() <= whole[name].items(), name


def test_the_readme_is_a_page_and_names_every_document() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert all(f"(docs/{path.name})" in text for path in (ROOT / "docs").glob("*.md"))


def test_the_table_of_hyperparameters_is_the_job_s_own() -> None:
    from cxr.hyperparameters import SPECIFICATIONS, Number

    text = (ROOT / "docs" / "training.md").read_text().split("## Hyperparameters")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `([a-z_]+)` \| (.+?) \|", text, re.MULTILINE))
    assert list(documented) == list(SPECIFICATIONS)
    for name, specification in SPECIFICATIONS.items():
        shown = documented[name].strip("`")
        if isinstance(specification, Number) and specification.of_head:
            assert documented[name] == ", ".join(f"{value} (`{head}`)" for head, value in specification.of_head.items())
        elif isinstance(specification.default, float):
            assert float(shown) == specification.default
        else:
            assert shown == str(specification.default).lower()
