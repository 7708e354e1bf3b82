"""Each container's environment, built as its Dockerfile builds it, in a folder that holds nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.images import INFERENCE, ROOT, TRAINING, Image

VERSION = "3.12"  # of both base images
PYTHON = os.environ.get("CXR_PYTHON312", VERSION)  # a version that uv finds, or a path
BASE_BRINGS = {INFERENCE: (), TRAINING: ("tensorflow-cpu==2.21.0", "keras==3.15.1")}
UV = Path(sys.executable).with_name("uv")


@dataclass(frozen=True)
class Environment:
    """What a container holds: an interpreter with the locked packages, and the copied sources as the working folder."""

    image: Image
    python: Path
    program: Path
    megabytes: float

    def command(self) -> list[str]:
        """The Dockerfile's entry point and command, with this environment's interpreter."""
        text = (ROOT / self.image.dockerfile).read_text()
        words = [w for name in ("ENTRYPOINT", "CMD") for line in re.findall(rf"^{name} (.+)$", text, re.M)
                 for w in json.loads(line)]  # fmt: skip
        return [str(self.python), *words[1:]]

    def build_check(self) -> str:
        """The imports that the Dockerfile tries at the end of the build."""
        (check,) = re.findall(r'python[0-9.]* -c "(import [^"]+)"', (ROOT / self.image.dockerfile).read_text())
        return check


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Image], Environment]:
    """environment(image) builds it: the hashed lock, less what the Dockerfile takes out, plus what the base adds."""

    def build(image: Image) -> Environment:
        folder = tmp_path_factory.mktemp(image.kind)
        part = Path(image.dockerfile).parent
        _run(UV, "venv", "--quiet", "--python", PYTHON, folder / "venv")
        install = (UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", folder / "venv")
        _run(*install, "--require-hashes", "--only-binary", ":all:", "-r", ROOT / part / "requirements.txt")
        (packages,) = folder.glob(f"venv/lib/python{VERSION}/site-packages")
        for pattern in _removed(image):
            found = list(packages.glob(pattern))
            assert found, f"{pattern} is not there any more; take it out of the Dockerfile"
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        size = sum(p.stat().st_size for p in packages.rglob("*") if p.is_file() and not p.is_symlink()) / 1e6
        if BASE_BRINGS[image]:
            _run(*install, *BASE_BRINGS[image])
        for source in image.sources():
            target = folder / "program" / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        return Environment(image, folder / "venv/bin/python", folder / "program", size)

    return build


def _removed(image: Image) -> list[str]:
    """Patterns, relative to the packages, of what the Dockerfile deletes from them."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / image.dockerfile).read_text())
    return [p for line in re.findall(r"^RUN cd /package && rm -rf (.+)$", text, re.M) for p in line.split()]


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, cwd=ROOT)
