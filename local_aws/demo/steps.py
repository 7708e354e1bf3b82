"""One progress display a person can follow: a live bar per step on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

LOG_WIDTH = 140


def _console() -> Console:
    """The terminal as it is; in a log, lines wide enough for a table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=LOG_WIDTH)


@dataclass
class Step:
    """A running step: `advance()` moves its bar, `say()` replaces the line beside it."""

    display: Steps
    title: str
    task: TaskID | None = None
    last: str = ""

    def total(self, count: int) -> None:
        """The number of things that this step does; its bar then counts them."""
        if self.task is not None:
            self.display.progress.update(self.task, total=count)

    def advance(self, count: int = 1) -> None:
        """`count` more of them are done."""
        if self.task is not None:
            self.display.progress.advance(self.task, count)

    def say(self, line: str) -> None:
        """Show what happens now; in a log each new line is printed once."""
        line = " ".join(line.split())
        if line == self.last:
            return
        self.last = line
        if self.task is None:
            self.display.console.print(f"      {line}", markup=False, highlight=False)
        else:
            self.display.progress.update(self.task, detail=line[: max(10, self.display.console.width - 78)])


@dataclass
class Steps:
    """Tells the steps of a run in order, with the time that each took."""

    count: int
    console: Console = field(default_factory=_console)
    progress: Progress = field(init=False)
    number: int = 0

    def __post_init__(self) -> None:
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}", markup=True),
            console=self.console,
        )

    @contextmanager
    def live(self) -> Iterator[Steps]:
        """Hold the live display for the duration of a run (on a terminal only)."""
        if not self.console.is_terminal:
            yield self
            return
        with self.progress:
            yield self

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One step; its failure is shown where it happened and goes on to the caller."""
        self.number += 1
        headline = f"[{self.number}/{self.count}] {title}"
        started = time.monotonic()
        step = Step(self, title)
        if self.console.is_terminal:
            step.task = self.progress.add_task(headline.replace("[", r"\["), total=None, detail="")
        else:
            self.console.print(headline, markup=False)
        try:
            yield step
        except BaseException:
            self.console.print(
                f"{headline}: failed after {time.monotonic() - started:.0f} s", style="red", markup=False
            )
            raise
        if step.task is None:
            self.console.print(f"      done in {time.monotonic() - started:.1f} s", markup=False)
        else:
            known = self.progress.tasks[step.task].total
            self.progress.update(step.task, total=known or 1, completed=known or 1)

    def warn(self, line: str) -> None:
        """A line that must not be overlooked."""
        self.console.print(f"WARNING: {line}", style="bold yellow", markup=False)
