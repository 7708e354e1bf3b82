"""The capacity model obeys arithmetic: no message is lost, nothing is faster than its servers, AWS's growth is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.capacity import System, simulate
from benchmarks.costs import idle, per_million

STEADY = System(spread=0.0, cold_seconds=0.0, overhead_seconds=0.0, film_seconds=0.1, window=0.0)


@pytest.mark.parametrize(
    "trouble", [{}, {"kill_share": 0.2}, {"fail_share": 0.3}, {"fail_share": 0.3, "max_receives": 2}]
)
def test_every_message_is_acknowledged_or_dead(trouble):
    outcome = simulate(np.linspace(0, 10, 500), System(**trouble))
    assert len(outcome.latencies) + outcome.dead == outcome.messages == 500
    assert outcome.deliveries >= 500


def test_the_same_seed_gives_the_same_run():
    first, again = (simulate(np.linspace(0, 5, 200), System(kill_share=0.1), seed=4) for _ in range(2))
    assert np.array_equal(first.latencies, again.latencies) and first.seconds == again.seconds


def test_a_backlog_takes_what_its_servers_need():
    system = System(
        concurrency=4, batch=1, spread=0.0, cold_seconds=0.0, overhead_seconds=0.0, film_seconds=0.5, start=4
    )
    outcome = simulate(np.zeros(80), system)
    assert outcome.seconds == pytest.approx(80 * 0.5 / 4)
    assert outcome.peak_concurrency == 4 and outcome.cold_starts == 4


def test_a_lone_film_waits_for_company_no_longer_than_the_window():
    alone = simulate([0.0], System(**{**vars_of(STEADY), "window": 2.0}))
    assert alone.latencies[0] == pytest.approx(2.0 + 0.1)
    ten = simulate([0.0] * 10, System(**{**vars_of(STEADY), "window": 2.0}))
    assert ten.latencies.max() == pytest.approx(10 * 0.1)


def test_concurrency_grows_by_three_hundred_a_minute_from_five():
    system = System(concurrency=1000, batch=1, film_seconds=1000.0, spread=0.0, cold_seconds=0.0, window=0.0)
    run = simulate(np.zeros(200), system)
    started = np.sort(run.ended - 1000.0 - system.overhead_seconds)
    assert (started < 0.1).sum() == 5
    assert (started <= 20.01).sum() == pytest.approx(5 + 20 * 5, abs=2)


def test_a_failed_message_comes_back_after_the_visibility_timeout():
    outcome = simulate([0.0], System(**{**vars_of(STEADY), "fail_share": 0.999999, "max_receives": 3}))
    assert (outcome.dead, outcome.deliveries) == (1, 3)
    assert outcome.seconds == pytest.approx(2 * 720 + 0.1)


def test_more_films_than_the_servers_can_do_pile_up():
    rate, seconds = 100.0, 0.136
    arrivals = np.arange(0, 60, 1 / rate)
    assert simulate(arrivals, System(concurrency=10)).quantile(0.99) > 10
    assert simulate(arrivals, System(concurrency=math.ceil(rate * seconds) + 10)).quantile(0.99) < 10


def test_the_sums_of_the_cost_tables_are_sums():
    *shares, total, _ = per_million(0.1, 0.4, 1.0)
    for column in (1, 2):
        assert total[column] == pytest.approx(sum(row[column] for row in shares), abs=0.05)
    *rows, total, _ = idle()
    assert total[1] == pytest.approx(sum(row[1] for row in rows), abs=0.05)


def vars_of(system):
    return {name: getattr(system, name) for name in system.__dataclass_fields__}
