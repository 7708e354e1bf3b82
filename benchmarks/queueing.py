"""Queue, event source and function, calculated batch by batch. All times are seconds.

A batch begins when it is complete and a process is free: a warm one, or a new one as soon as the event source may start
it. Every film takes equally long. What comes back after a failure, and what it then takes from others, is left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from infra.config import Config

OVERHEAD_SECONDS = 0.02
"""Per invocation: what Lambda, the runtime and the event's parsing add to its films; an assumption."""
COLD_SECONDS = 2.5
"""Image from Lambda's cache, imports, the model's download and self-test; an assumption."""
START, PER_MINUTE = 5, 300
"""AWS's documentation of SQS event sources: five batches at a time to begin with, up to 300 more a minute."""
READERS = START
"""Batches that an event source gathers at the same time; an assumption."""
DEPLOYED = Config()


@dataclass(frozen=True)
class Path:
    """One event source and its function; by default that of new uploads, as infra.config deploys it."""

    film_seconds: float
    concurrency: int = DEPLOYED.uploads_concurrency
    batch: int = DEPLOYED.batch_size
    cold_seconds: float = COLD_SECONDS
    overhead_seconds: float = OVERHEAD_SECONDS
    start: int = START

    @property
    def batch_seconds(self) -> float:
        return self.overhead_seconds + self.batch * self.film_seconds

    def answers(self, begins: np.ndarray) -> np.ndarray:
        """When each film of batches that begin then has its answer [batches, batch]: as soon as its turn is over."""
        return begins[:, None] + self.overhead_seconds + self.film_seconds * np.arange(1, self.batch + 1)


@dataclass(frozen=True)
class Served:
    """Full batches that went through a path. arrived, answered: of each film [batches, batch]; processes: how many were
    started, each of them cold.
    """

    arrived: np.ndarray
    answered: np.ndarray
    processes: int

    def waited(self, *shares: float) -> list[float]:
        """Quantiles of the time from a film's arrival to its answer."""
        return np.quantile(self.answered - self.arrived, shares).tolist()


def begun(batches: int, complete: Callable[[int, Sequence[float]], float], path: Path) -> tuple[np.ndarray, int]:
    """When each batch begins, and how many processes were started. complete: from a batch's number and the beginnings
    of those before it, when it is there to be served; never earlier than the one before.
    """
    free: list[float] = []
    begins: list[float] = []
    for number in range(batches):
        at = complete(number, begins)
        allowed = max(at, (len(free) - path.start + 1) * 60 / PER_MINUTE)
        if len(free) < path.concurrency and (not free or free[0] > allowed):
            begin = allowed + path.cold_seconds
        else:
            begin = max(at, heapq.heappop(free))
        heapq.heappush(free, begin + path.batch_seconds)
        begins.append(begin)
    return np.array(begins), len(free)


def streamed(moments: np.ndarray, path: Path) -> Served:
    """Films that arrive at sorted moments. Raises ValueError if a batch would be served before it is full."""
    films = moments[: len(moments) // (path.batch * READERS) * path.batch * READERS]
    arrived = films.reshape(-1, path.batch, READERS).swapaxes(1, 2).reshape(-1, path.batch)
    arrived = arrived[np.argsort(arrived[:, -1])]
    if (fills := float(np.median(arrived[:, -1] - arrived[:, 0]))) > DEPLOYED.batching_window:
        raise ValueError(
            f"a batch of {path.batch} takes {fills:.1f} s to fill, longer than its window of "
            f"{DEPLOYED.batching_window} s, and only full ones are calculated; take more films a second"
        )
    begins, processes = begun(len(arrived), lambda number, _: float(arrived[number, -1]), path)
    return Served(arrived, path.answers(begins), processes)
