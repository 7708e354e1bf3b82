"""A run as a person follows it: one line for each step with its time, a live bar meanwhile, the details in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.terminal import plain
from local_aws.terminal import Terminal


@dataclass
class Step:
    """A running step; `advance` moves its bar, `say` tells what happens now."""

    steps: Steps
    bar: Progress
    task: TaskID
    told: str = ""

    def total(self, count: int) -> None:
        """The number of things that this step does; its bar then counts them."""
        self.bar.update(self.task, total=count)

    def advance(self, count: int = 1) -> None:
        """`count` more of them are done."""
        self.bar.advance(self.task, count)

    def say(self, text: str) -> None:
        """A detail: shown beside the bar and written to the log, unless it was the last one already."""
        line = plain(" ".join(text.split()))
        if line != self.told:
            self.told = line
            self.bar.update(self.task, detail=line[: max(10, self.steps.terminal.width - 78)])
            self.steps.detail(f"      {line}")


class Steps:
    """The `count` steps of a run. `log` takes everything that is said; `verbose`: the terminal does so too."""

    def __init__(self, count: int, terminal: Terminal, log: IO[str], verbose: bool = False) -> None:
        self.count, self.terminal = count, terminal
        self._log, self._verbose = Terminal(log), verbose
        self._number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One step; its failure is shown where it happened and goes on to the caller."""
        self._number += 1
        headline = f"[{self._number}/{self.count}] {title}"
        self.detail(headline)
        started = time.monotonic()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self.terminal, transient=True, disable=not self.terminal.is_terminal) as bar:
            try:
                yield Step(self, bar, bar.add_task(plain(headline), total=None, detail=""))
            except BaseException:
                self.say(f"{headline}: failed after {time.monotonic() - started:.0f} s", "red")
                raise
        self.say(f"{headline}: {time.monotonic() - started:.0f} s")

    def say(self, text: str, style: str = "") -> None:
        """A line for everybody."""
        self.terminal.say(text, style)
        self._log.say(text)

    def detail(self, told: str | Table) -> None:
        """What is for the log, and for whoever asked for it on the terminal."""
        for terminal in (self._log, self.terminal) if self._verbose else (self._log,):
            terminal.say(told) if isinstance(told, str) else terminal.print(told)
