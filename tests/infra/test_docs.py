"""The operator's documents name commands, settings and files that exist."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from cxr.hyperparameters import SPECIFICATIONS
from infra import __main__ as command_line
from infra.config import Config
from infra.template import FOLDER

ROOT = Path(FOLDER).parent
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "SECURITY.md", ROOT / "README.md"]
OPERATOR_S = [path for path in DOCUMENTS if path.name in ("deploy.md", "runbook.md", "costs.md", "SECURITY.md")]
SETTINGS = {setting.name for setting in dataclasses.fields(Config)}


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def document(request):
    return request.param


def commands():
    parser = command_line._parser()
    (choices,) = [action.choices for action in parser._actions if action.choices and action.dest == "command"]
    return choices


def test_the_table_of_commands_is_complete_and_every_option_in_it_exists():
    rows = re.findall(r"^\| (`.+?`) \|", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE)
    named = {}
    for row in rows:
        for name, rest in re.findall(r"`([a-z-]+)([^`]*)`", row):
            named[name] = re.findall(r"--[a-z-]+", rest)
    known = commands()
    assert set(named) == set(known)
    for name in known:
        options = {option for action in known[name]._actions for option in action.option_strings}
        assert set(named[name]) <= options, name


def test_every_command_line_in_a_document_is_one_that_parses(document):
    """A bare name in the text needs to exist; a line with arguments must be one that can be typed."""
    text = document.read_text()
    blocks = re.findall(r"^ {4,}(?:\S*/)?python -m infra (.+)$", text, re.MULTILINE)
    for line in blocks + re.findall(r"`python -m infra ([^`]+)`", text):
        line = re.split(r"\s+#|[|>]|\)\"", re.sub(r"<[^>]+>", "7", line))[0]
        name, *arguments = shlex.split(line)
        assert name in commands(), line
        if arguments:
            command_line._parser().parse_args([name, *arguments])


@pytest.mark.parametrize("document", OPERATOR_S, ids=lambda path: path.name)
def test_every_setting_that_an_operator_s_document_names_exists(document):
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]+)?`", document.read_text()))
    elsewhere = {"roll_back", "classify_backlog", "no_answer", "message_refused", "max_runtime_minutes", "safe_mode",
                 "aws_default", "means_s", "out_of_distribution", "model_withdrawn", "correct_labels"}  # fmt: skip
    of_the_form = set(re.findall(r'"([a-z_]+)"', (ROOT / "dags/cxr_pipeline/retrain_form.py").read_text()))
    of_the_form |= set(SPECIFICATIONS)
    assert named <= SETTINGS | elsewhere | of_the_form, named - SETTINGS - elsewhere - of_the_form


def test_every_file_that_a_document_links_to_exists(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_every_anchor_that_a_document_links_to_exists(document):
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", document.read_text()):
        text = ((document.parent / target) if target else document).read_text()
        titles = {
            re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.+)$", text, re.M)
        }
        assert anchor in titles, (target, anchor)


def test_known_limitations_are_numbered_without_a_gap():
    text = (ROOT / "SECURITY.md").read_text().partition("## Known limitations")[2]
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 8


def test_every_promise_of_security_names_tests_that_exist():
    promises = re.findall(r"^\| .+ \| (`tests/.+`) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert len(promises) > 10
    for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", " ".join(promises)):
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{test}"
