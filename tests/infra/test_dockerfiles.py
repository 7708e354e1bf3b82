"""Both Dockerfiles as data: what they copy exists and suffices, and nothing stands between a signal and Python."""

from __future__ import annotations

import ast
import json
import re

import pytest

from infra.images import INFERENCE, ROOT, TRAINING, build

IMAGES = {"inference_lambda": INFERENCE, "training_job": TRAINING}


def instructions(image):
    """(instruction, argument) in order, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / image.dockerfile).read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def arguments(image, name):
    return [argument for instruction, argument in instructions(image) if instruction == name]


@pytest.fixture(params=IMAGES)
def folder(request):
    return request.param


def test_the_base_comes_in_with_its_digest_at_build_time(folder):
    found = instructions(IMAGES[folder])
    assert found[0][0] == "ARG" and found[0][1].startswith("BASE=")
    assert all(argument.split()[0] == "${BASE}" for argument in arguments(IMAGES[folder], "FROM"))


def test_every_file_that_is_copied_exists(folder):
    sources = [p.relative_to(ROOT).as_posix() for p in IMAGES[folder].sources()]
    assert f"{folder}/requirements.txt" in sources and "cxr/reader.py" in sources


def test_what_is_copied_holds_every_module_of_ours_that_is_imported(folder):
    ours = {p.name for p in ROOT.iterdir() if (p / "__init__.py").exists()} | {
        "local_aws",
        "dags",
        "tests",
        "benchmarks",
    }
    for path in IMAGES[folder].sources():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                used = {name.partition(".")[0] for name in names} & ours
                assert used <= {"cxr", folder}, (path, used)


def test_the_entry_point_is_python_itself(folder):
    (entry,) = arguments(IMAGES[folder], "ENTRYPOINT")
    words = json.loads(entry)  # exec form is JSON; shell form is not
    assert words[0].startswith("python") and words[1] == "-m"
    assert words[2] == {"inference_lambda": "awslambdaric", "training_job": "training_job"}[folder]


def test_the_lambda_s_handler_exists():
    (command,) = arguments(INFERENCE, "CMD")
    module, _, function = json.loads(command)[0].rpartition(".")
    source = ROOT / f"{module.replace('.', '/')}.py"
    assert function in {node.name for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_requirements_are_installed_with_hashes_and_from_wheels_only(folder):
    (install,) = [a for a in arguments(IMAGES[folder], "RUN") if "pip install" in a]
    assert "--require-hashes" in install and "--only-binary :all:" in install and "--no-cache-dir" in install
    assert "--no-compile" not in install
    lines = (ROOT / folder / "requirements.txt").read_text().splitlines()
    pinned = [line for line in lines if re.match(r"^[a-z0-9]", line)]
    assert pinned and all(re.match(r"^[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^ ]+ (;.* )?\\$", line) for line in pinned)
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)


def test_our_own_code_is_compiled(folder):
    assert any("compileall" in a and "unchecked-hash" in a for a in arguments(IMAGES[folder], "RUN"))


def test_the_image_says_what_it_is(folder):
    (labels,) = arguments(IMAGES[folder], "LABEL")
    said = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', labels))
    assert said.pop("title") and said.pop("description")
    assert said == {"version": "${VERSION}", "revision": "${VERSION}", "base.name": "${BASE_NAME}",
                    "base.digest": "${BASE_DIGEST}"}  # fmt: skip


def test_every_build_argument_is_one_that_the_dockerfile_takes_and_all_are_given(folder):
    image = IMAGES[folder]
    given = dict(a.split("=", 1) for a in build(image, "base:3", "sha256:1", "repository", "7") if "=" in a)
    taken = {argument.split("=")[0] for argument in arguments(image, "ARG")}
    assert {name: given[name] for name in taken} == {
        "BASE": "base:3@sha256:1", "BASE_NAME": "base:3", "BASE_DIGEST": "sha256:1", "VERSION": "7",
    }  # fmt: skip


def test_a_new_tag_builds_no_layer_again(folder):
    """An argument is a variable of every RUN below it, and what it changes is not taken from the cache."""
    names = [name for name, _ in instructions(IMAGES[folder])]
    versioned = instructions(IMAGES[folder]).index(("ARG", "VERSION"))
    assert not {"RUN", "COPY"} & set(names[versioned:])


def test_a_build_sends_only_what_it_copies(folder):
    rules = (ROOT / f"{IMAGES[folder].dockerfile}.dockerignore").read_text().split()
    assert rules[rules.index("*")] == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {"!cxr/", f"!{folder}/"}


def test_no_tensorflow_in_the_lambda():
    locked = (ROOT / "inference_lambda/requirements.txt").read_text()
    assert not re.search(r"^(tensorflow|keras|torch|onnxruntime)\b", locked, re.MULTILINE)


def test_no_secret_and_no_variable_that_could_hold_one(folder):
    text = (ROOT / IMAGES[folder].dockerfile).read_text()
    assert not re.search(r"(?i)password|secret|token|AWS_ACCESS", text)
