"""`make` runs on the newest supported Python that works, and says what to install where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sources import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
WORKS = "#!/bin/sh\nexit 0\n"
SHIM = "#!/bin/sh\necho pyenv: command not found >&2\nexit 127\n"  # pyenv's stand-in for a version not switched on
UV = '#!/bin/sh\ncase "$*" in *install*) exit 0;; *) echo /managed/python3.13;; esac\n'


def make(folder: Path, programs: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Runs make with a PATH of these programs and a few of the system's."""
    (folder / "bin").mkdir()
    for name, script in programs.items():
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    for name in ("sh", "bash", "test"):
        (folder / "bin" / name).symlink_to(shutil.which(name) or name)
    (folder / "say.mk").write_text("say: ; @echo $(PYTHON)\n")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    return subprocess.run(
        [shutil.which("make") or "make", "--no-print-directory", "-f", "Makefile", "-f", folder / "say.mk", *words],
        cwd=ROOT,
        env=variables | {"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("programs", "chosen"),
    [
        ({"python3.11": WORKS, "python3.12": WORKS, "python3.13": WORKS}, "python3.13"),
        ({"python3.11": WORKS, "python3.12": WORKS, "python3.13": SHIM}, "python3.12"),
        ({"python3.11": WORKS, "python3.14": WORKS, "uv": UV}, "python3.11"),
        ({"python3.10": WORKS, "python3.14": WORKS, "uv": UV}, "/managed/python3.13"),
    ],
)
def test_the_newest_supported_python_that_works_is_taken(tmp_path: Path, programs: dict[str, str], chosen: str) -> None:
    assert make(tmp_path, programs, "say").stdout.strip() == chosen


def test_the_caller_may_name_another(tmp_path: Path) -> None:
    assert make(tmp_path, {"python3.13": WORKS}, "say", "PYTHON=/opt/python3.12").stdout.strip() == "/opt/python3.12"


def test_without_python_and_uv_the_remedy_is_named(tmp_path: Path) -> None:
    done = make(tmp_path, {"python3.14": WORKS}, "install", f"VENV={tmp_path}/venv")
    assert done.returncode != 0
    assert "python3.12-venv" in done.stdout and not (tmp_path / "venv").exists()
