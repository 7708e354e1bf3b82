"""Runs that show one side of the path each, and what the model says about them.

Rule: a parameter of the model that is wrong by a factor of two is noticed in at least one of them. A run is made of
seeds and settings alone, so that it can be made again.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.queueing import Outcome, System, simulate

TOLERANCE = 0.15
"""Largest relative difference between prediction and run in any of the figures."""
SEEDS = range(5)
"""A prediction is the median over these."""


def local(film_seconds: float, concurrency: int, **settings: Any) -> System:
    """A System on the local AWS: each of its pollers gathers a batch of its own, and all are there at once."""
    told: dict[str, Any] = {"window": 1.0, "cold_seconds": 0.0, "overhead_seconds": 0.0, "visibility": 60.0, **settings}
    return System(film_seconds, concurrency=concurrency, readers=concurrency, start=concurrency, **told)


@dataclass(frozen=True)
class Regime:
    """One run. system: what is configured; rate: messages a second at random moments, or `even` ones, None for all at
    once; fails: share of deliveries that fail; kills: share of messages whose first delivery kills the function.
    """

    name: str
    system: System
    messages: int
    rate: float | None = None
    even: bool = False
    fails: float = 0.0
    kills: float = 0.0
    seed: int = 3


CALIBRATION = Regime("calibration", local(0.02, 4), 120, 25.0)
REGIMES = (
    Regime("backlog, 2 at a time", local(0.03, 2, films_per_message=10, batch=1, window=0.0), 50),
    Regime("backlog, 4 at a time, from cold", local(0.03, 4, films_per_message=10, batch=1, window=0.0,
                                                    cold_seconds=4.0), 80),
    Regime("stream", local(0.05, 2, overhead_seconds=0.1), 240, 15.0),
    Regime("trickle", local(0.2, 2, overhead_seconds=0.6), 12, 0.5, even=True),
    Regime("stream, films fail", local(0.05, 4, visibility=3.0, max_receives=2), 240, 20.0, fails=0.35),
    Regime("stream, function killed", local(0.05, 4, visibility=5.0, cold_seconds=1.0), 360, 20.0, kills=0.03),
)  # fmt: skip


def arrivals(regime: Regime) -> np.ndarray:
    """When each message is sent (s)."""
    if regime.rate is None:
        return np.zeros(regime.messages)
    if regime.even:
        return np.arange(regime.messages) / regime.rate
    return np.cumsum(np.random.default_rng(regime.seed).exponential(1 / regime.rate, regime.messages))


def films(regime: Regime) -> np.ndarray:
    """How long each film of each message takes (s)."""
    s, random = regime.system, np.random.default_rng(regime.seed + 1)
    drawn = random.normal(s.film_seconds, s.spread * s.film_seconds, (regime.messages, s.films_per_message))
    return np.maximum(drawn, s.film_seconds / 4).round(4)


def troubles(regime: Regime) -> tuple[np.ndarray, np.ndarray]:
    """Of each message, how many of its first deliveries fail, and kill the function."""
    random = np.random.default_rng(regime.seed + 2)
    fails = random.geometric(1 - regime.fails, regime.messages) - 1
    return fails, (random.random(regime.messages) < regime.kills).astype(int)


def figures(
    ended: Sequence[float] | np.ndarray, latencies: Sequence[float] | np.ndarray, films_per_message: int,
    messages: int, deliveries: int, invocations: int, dead: int,
) -> dict[str, float]:  # fmt: skip
    """What is compared. Films per second count until nine tenths are acknowledged: the last may wait for a retry."""
    return {
        "films_per_s": 0.9 * len(ended) * films_per_message / float(np.quantile(ended, 0.9)),
        "p50_s": float(np.quantile(latencies, 0.5)),
        "p95_s": float(np.quantile(latencies, 0.95)),
        "deliveries_per_film": deliveries / messages,
        "films_per_invocation": deliveries * films_per_message / invocations,
        "dead_share": dead / messages,
    }


def of_outcome(outcome: Outcome, films_per_message: int) -> dict[str, float]:
    return figures(outcome.ended, outcome.latencies, films_per_message, outcome.messages, outcome.deliveries,
                   outcome.invocations, outcome.dead)  # fmt: skip


def median_of(outcomes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's median."""
    return {name: statistics.median(one[name] for one in outcomes) for name in outcomes[0]}


def predicted(regime: Regime, warm: int) -> dict[str, float]:
    """The model's figures of a run of `regime` whose system includes what the local AWS adds."""
    fails, kills = troubles(regime)
    outcomes = (simulate(arrivals(regime), regime.system, seed, fails=fails, kills=kills, warm=warm) for seed in SEEDS)
    return median_of([of_outcome(outcome, regime.system.films_per_message) for outcome in outcomes])


def difference(expected: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    """Difference of each figure relative to what was found; infinite for anything where nothing was found."""

    def relative(value: float, base: float) -> float:
        if value == base:
            return 0.0
        return abs(value / base - 1) if base else float("inf")

    return {name: relative(expected[name], found[name]) for name in found}


def rounded(values: Mapping[str, float], digits: int = 3) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}
