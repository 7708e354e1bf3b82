"""What a folder imports is declared, what is declared is locked with hashes, and the lock installs wherever it says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.sources import PARTS, ROOT, imports, module_name, python_files

UV = Path(sys.executable).with_name("uv")
VERSIONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
# Each folder and the file that it is installed from. The containers' base image brings TensorFlow and Keras.
DECLARED_IN = {
    "inference_lambda": "inference_lambda/requirements.in",
    "training_job": "training_job/requirements.in",
    "infra": "requirements.in",
    "local_aws": "requirements.in",
    "audit": "requirements.in",
    "dags": "requirements.in",
    "tests": "requirements.in",
    "benchmarks": "benchmarks/requirements.in",
}
BASE_IMAGE = {"training_job": {"tensorflow", "keras"}}
# Packages without a wheel: pure Python, but for awslambdaric, whose native client is for Linux alone.
SOURCES = {"linux": {"inotify-simple", "sagemaker-training"}, "apple": {"awslambdaric"}}


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(path: Path) -> set[str]:
    """Names in an input file and in those that it includes."""
    names: set[str] = set()
    for line in path.read_text().splitlines():
        if included := re.match(r"-r (.+)", line):
            names |= declared(ROOT / included[1])
        elif name := re.match(r"[A-Za-z0-9._-]+", line):
            names.add(normal(name[0]))
    return names


def own_names() -> set[str]:
    """Top-level names of this repository's modules: what may be imported without an entry in a lock."""
    return {module_name(path).split(".")[0] for part in (*PARTS, "tests") for path in python_files(part)} | {"tests"}


def locks() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "*requirements*.txt"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in done.stdout.split()]


def requirements(lock: Path) -> list[str]:
    """The lock's entries, each with its hashes, as one line."""
    text = re.sub(r"^\s*#.*\n?", "", lock.read_text(), flags=re.M)
    return [entry for entry in re.sub(r"\\\n\s*", " ", text).splitlines() if entry]


@pytest.mark.parametrize("folder", DECLARED_IN)
def test_what_a_folder_imports_is_declared_in_its_own_file(folder: str) -> None:
    named = declared(ROOT / DECLARED_IN[folder]) | BASE_IMAGE.get(folder, set())
    if folder == "benchmarks":
        named |= declared(ROOT / "requirements.in")
    distributions = packages_distributions()
    known_names = sys.stdlib_module_names | own_names()
    foreign = (
        (name.split(".")[0], f"{path.relative_to(ROOT)}:{line} imports {name}")
        for part in ("cxr", folder)
        for path in python_files(part)
        for name, line in imports(path)
    )
    missing = [
        where
        for name, where in foreign
        if name not in known_names and not {normal(known) for known in distributions.get(name, [name])} & named
    ]
    assert not missing, f"declare in {DECLARED_IN[folder]}, then `make lock`:\n" + "\n".join(missing)


def test_every_input_has_a_lock_that_names_all_of_it() -> None:
    inputs = sorted(ROOT.glob("*requirements.in")) + sorted(ROOT.glob("*/requirements.in"))
    assert {path.with_suffix(".txt") for path in inputs} == set(locks())
    for path in inputs:
        locked = {normal(re.split(r"[=\[ ]", entry)[0]) for entry in requirements(path.with_suffix(".txt"))}
        assert declared(path) <= locked, f"{path.relative_to(ROOT)} changed since `make lock`"


@pytest.mark.parametrize("lock", locks(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_lock_pins_every_package_by_hash_and_names_no_registry(lock: Path) -> None:
    assert not [entry for entry in requirements(lock) if not re.match(r"[a-z0-9.-]+==\S+ .*--hash=sha256:", entry)]
    assert "://" not in lock.read_text()


def test_the_supported_versions_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    first, last = VERSIONS[0], VERSIONS[-1]
    assert project["project"]["requires-python"] == f">={first},<3.{int(last.split('.')[1]) + 1}"
    assert project["tool"]["mypy"]["python_version"] == first
    assert project["tool"]["ruff"]["target-version"] == "py" + first.replace(".", "")
    assert re.findall(r"^VERSIONS := (.+)$", (ROOT / "Makefile").read_text(), re.M) == [" ".join(reversed(VERSIONS))]


@pytest.mark.network
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_installs_from_wheels(platform: str, version: str, tmp_path: Path) -> None:
    """Everything has a wheel for this platform and Python, but for the packages that are named above."""
    sources = sorted(SOURCES["apple" if "apple" in platform else "linux"])
    command = [UV, "pip", "sync", "--dry-run", "--require-hashes", "--target", tmp_path, "--python", sys.executable]
    target = ["--python-platform", platform, "--python-version", version, "--only-binary", ":all:"]
    target += [word for name in sources for word in ("--no-binary", name)]
    words = [str(word) for word in (*command, *target, "requirements.txt")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " + tensorflow==" in done.stderr
