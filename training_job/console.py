"""What a person sees while the job runs: progress bars on a terminal, plain lines in a log.

A log has one line per epoch and per stage, never a redrawn one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
LOG_SECONDS = 15.0


def say(text: str) -> None:
    """One line on stdout, at once: SageMaker's metric regexes read the log as it grows."""
    print(text, flush=True)


def progress(items: Iterable[Item], label: str, total: int | None = None, unit: int = 1) -> Iterator[Item]:
    """The items, with a bar on a terminal; in a log a line every LOG_SECONDS and one at the end.

    `unit` is what one item counts.
    """
    if sys.stdout.isatty():
        with bar(label, total) as advance:
            for item in items:
                yield item
                advance(unit)
        return
    started, count = time.perf_counter(), 0
    told = started
    for item in items:
        yield item
        count += unit
        if time.perf_counter() - told >= LOG_SECONDS:
            told = time.perf_counter()
            say(f"{label}: {min(count, total or count)} of {total or '?'} after {told - started:.0f} s")
    if count:
        say(f"{label}: {min(count, total or count)} in {time.perf_counter() - started:.1f} s")


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A callable that moves a bar on; it does nothing in a log. Lines that are said meanwhile appear above the bar."""
    if not sys.stdout.isatty():
        yield lambda steps: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as shown:
        task = shown.add_task(label, total=total)
        yield lambda steps: shown.advance(task, steps)


class Clock:
    """Seconds per stage, for metrics.json."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started, self._earlier = time.perf_counter(), 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 3)

    def cost(self, name: str, seconds: float) -> None:
        """A stage's whole cost, where it took up what an earlier process had left."""
        earlier = max(0.0, seconds - self.seconds.get(name, 0.0))
        self.seconds[name] = round(self.seconds.get(name, 0.0) + earlier, 3)
        self._earlier += earlier

    def total(self) -> dict[str, float]:
        return {**self.seconds, "total": round(time.perf_counter() - self._started + self._earlier, 3)}
