"""How long one step takes, alone in its process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def timed(step: Callable[[], Any], runs: int) -> dict[str, list[float]]:
    """Wall and CPU milliseconds of each run."""
    wall, cpu = [], []
    for _ in range(runs):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        step()
        wall.append(round((time.perf_counter() - wall_start) * 1000, 3))
        cpu.append(round((time.process_time() - cpu_start) * 1000, 3))
    return {"wall_ms": wall, "cpu_ms": cpu}


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)
