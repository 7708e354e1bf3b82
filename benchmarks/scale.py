"""The two questions that one machine cannot answer, asked of the model: a million films at once, a hundred a second.

Rule: no row goes beyond what S3 and an account allow, and no figure of a stream hangs on one seed.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.costs import compute, per_batch_size
from benchmarks.film_times import Serving
from benchmarks.queueing import Outcome, System, simulate
from infra.config import Config

MILLION = 1_000_000
FILMS_PER_MESSAGE = 10
"""Of a backlog message, as the DAG classify_backlog writes it."""
BACKLOG_CONCURRENCIES = (Config().backlog_concurrency, 100, 300)
STREAM_CONCURRENCIES = (20, Config().uploads_concurrency, 100)
BATCH_SIZES = (10, 5, 1)
RATE, MINUTES = 100.0, 10.0
"""Films a second, and for how long."""
SEEDS = range(3)
"""Of streams; each figure is the median. The sums of a backlog's 100,000 invocations hardly depend on the seed."""
S3_PUTS_PER_SECOND = 3_500
"""AWS's documentation: per partitioned prefix; each film is one PUT below results/ and one below heatmaps/."""
ACCOUNT_CONCURRENCY, UNRESERVED = 1_000, 100
"""AWS's documentation: default limit of an account in a region, and what must stay unreserved of it."""
SLACK_SECONDS = 30.0
"""A stream whose last film is acknowledged later than so long after its end has not been kept up with."""
BAD_DAYS: tuple[tuple[str, dict[str, float]], ...] = (
    ("nothing", {}),
    ("one film in a thousand kills its function once", {"killing": 0.001}),
    ("2 % of a film's deliveries fail", {"failing": 0.02}),
    ("every fourth delivery of a film fails", {"failing": 0.25}),
)
BAD_DAY_CONCURRENCY = 100


def backlog(servings: Sequence[Serving], concurrencies: Sequence[int] = BACKLOG_CONCURRENCIES) -> Iterator[list[Any]]:
    """Rows of the table: a million films that lie there already, one message to an invocation."""
    for serving in servings:
        for concurrency in concurrencies:
            system = System(serving.film_seconds, FILMS_PER_MESSAGE, concurrency=concurrency, batch=1, window=0.0)
            outcome = simulate(np.zeros(MILLION // FILMS_PER_MESSAGE), system)
            yield [
                serving.name,
                concurrency,
                round(outcome.seconds / 3600, 2),
                round(MILLION / outcome.seconds),
                outcome.cold_starts,
                round(compute(outcome.busy_seconds), 2),
            ]


@functools.cache
def arrivals(seed: int) -> np.ndarray:
    """Films at random moments (s), RATE a second on average."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / RATE, round(RATE * MINUTES * 60)))


@functools.cache
def streamed(system: System, failing: float = 0.0, killing: float = 0.0) -> list[Outcome]:
    """The stream through a system, once for each seed. failing: share of deliveries that fail; killing: share of films
    whose first delivery kills the function.
    """
    outcomes = []
    for seed in SEEDS:
        moments, random = arrivals(seed), np.random.default_rng([seed, 1])
        fails = random.geometric(1 - failing, len(moments)) - 1
        kills = (random.random(len(moments)) < killing).astype(int)
        outcomes.append(simulate(moments, system, seed, fails=fails, kills=kills))
    return outcomes


def waits(outcomes: Sequence[Outcome], *shares: float) -> list[float]:
    """Quantiles of the time from a film's arrival to its result (s)."""
    return [round(statistics.median(outcome.quantile(share) for outcome in outcomes), 1) for share in shares]


def stream(servings: Sequence[Serving]) -> Iterator[list[Any]]:
    """Rows of the table: new films at a constant mean rate, from a standing start."""
    for serving in servings:
        for concurrency in STREAM_CONCURRENCIES:
            outcomes = streamed(System(serving.film_seconds, concurrency=concurrency))
            ends = statistics.median(outcome.seconds for outcome in outcomes)
            yield [
                serving.name,
                concurrency,
                "yes" if ends < MINUTES * 60 + SLACK_SECONDS else "no",
                *waits(outcomes, 0.5, 0.95, 0.99),
                statistics.median(outcome.peak_concurrency for outcome in outcomes),
                round(statistics.median(outcome.deliveries / outcome.invocations for outcome in outcomes), 1),
            ]


def batch_sizes(servings: Sequence[Serving]) -> Iterator[list[Any]]:
    """Rows of the table: what depends on `batch_size`, dollars per million films and medians of the stream."""
    for batch in BATCH_SIZES:
        dollars = per_batch_size(batch)
        medians = [waits(streamed(System(serving.film_seconds, batch=batch)), 0.5)[0] for serving in servings]
        yield [batch, *(round(value, 2) for value in (*dollars.values(), sum(dollars.values()))), *medians]


def bad_day(serving: Serving) -> Iterator[list[Any]]:
    """Rows of the table: the same stream while something goes wrong."""
    for name, trouble in BAD_DAYS:
        outcomes = streamed(System(serving.film_seconds, concurrency=BAD_DAY_CONCURRENCY), **trouble)
        yield [
            name,
            round(statistics.median(outcome.deliveries / outcome.messages for outcome in outcomes), 3),
            statistics.median(outcome.dead for outcome in outcomes),
            *waits(outcomes, 0.5, 0.99, 0.999),
            round(statistics.median(outcome.seconds for outcome in outcomes) / 60),
        ]
