"""A terminal shows bars, a log shows lines: one per epoch and stage, none redrawn."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from training_job import console

PROGRAM = """
import time
from training_job.console import bar, progress, say
for _ in progress(range(64), "features of train/", total=64):
    time.sleep(0.005)
for epoch in (1, 2):
    with bar(f"head, epoch {epoch} of 2", 10) as advance:
        for _ in range(10):
            advance(1)
            time.sleep(0.01)
    say(f"epoch={epoch} train:loss=0.5")
"""


def test_a_log_has_one_line_per_stage_and_epoch_and_nothing_redrawn(repo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=repo, capture_output=True, text=True, check=True, timeout=60
    )
    first, *rest = done.stdout.splitlines()
    assert first.startswith("features of train/: 64 in ")
    assert rest == ["epoch=1 train:loss=0.5", "epoch=2 train:loss=0.5"]
    assert "\r" not in done.stdout and "\x1b" not in done.stdout


def test_a_terminal_shows_a_bar_for_every_stage_and_epoch_and_keeps_the_lines(repo: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=repo, stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux's answer once the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "features of train/" in text and "64/64" in text
    assert all(f"head, epoch {epoch} of 2" in text and f"epoch={epoch} train:loss=0.5\r\n" in text for epoch in (1, 2))
    assert "\x1b[" in text, "a bar is redrawn in place"


def test_a_long_stage_says_in_a_log_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LOG_SECONDS", 0.0)
    assert list(console.progress(range(0, 96, 32), "features", total=70, unit=32)) == [0, 32, 64]
    counts = [line.split(": ")[1].split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert counts[:3] == [["32", "of", "70"], ["64", "of", "70"], ["70", "of", "70"]]


def test_the_cost_of_a_stage_is_never_less_than_what_this_process_spent() -> None:
    clock = console.Clock()
    with clock.stage("features"):
        pass
    clock.cost("features", 1000.0)
    clock.cost("features", 10.0)
    spent = clock.total()
    assert spent["features"] == pytest.approx(1000.0, abs=0.1) and spent["total"] == pytest.approx(1000.0, abs=1.0)
