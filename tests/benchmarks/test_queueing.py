"""The model of the path obeys arithmetic: no message is lost, nothing is faster than its servers, growth is AWS's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.queueing import System, Uploader, simulate
from infra.config import Config

STEADY = System(0.1, spread=0.0, cold_seconds=0.0, overhead_seconds=0.0, window=0.0)


def test_the_defaults_are_the_deployment_s() -> None:
    deployed, system = Config(), System(0.1)
    assert system.concurrency == deployed.uploads_concurrency
    assert (system.batch, system.window) == (deployed.batch_size, deployed.batching_window)
    assert (system.visibility, system.max_receives) == (deployed.visibility_timeout, deployed.max_receive_count)


@pytest.mark.parametrize(
    ("fails", "kills", "settings"),
    [(0.0, 0.0, {}), (0.3, 0.0, {}), (0.0, 0.1, {}), (0.3, 0.1, {"max_receives": 2}), (0.2, 0.0, {"window": 0.0})],
)
def test_every_message_is_acknowledged_or_dead(fails: float, kills: float, settings: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    troubles = {"fails": random.geometric(1 - fails, 500) - 1, "kills": (random.random(500) < kills).astype(int)}
    outcome = simulate(np.linspace(0, 10, 500), System(0.1, **settings), **troubles)
    assert len(outcome.ended) + outcome.dead == outcome.messages == 500
    assert outcome.deliveries >= 500
    assert len(outcome.latencies) >= len(outcome.ended)


def test_the_same_seed_gives_the_same_run() -> None:
    first, again = (simulate(np.linspace(0, 5, 200), System(0.1), seed=4) for _ in range(2))
    assert np.array_equal(first.latencies, again.latencies) and first.seconds == again.seconds


def test_a_backlog_takes_what_its_servers_need() -> None:
    system = replace(STEADY, film_seconds=0.5, concurrency=4, start=4, batch=1)
    outcome = simulate(np.zeros(80), system)
    assert outcome.seconds == pytest.approx(80 * 0.5 / 4)
    assert outcome.peak_concurrency == 4 and outcome.cold_starts == 4


def test_a_lone_film_waits_for_company_no_longer_than_the_window() -> None:
    alone = simulate([0.0], replace(STEADY, window=2.0))
    assert alone.latencies[0] == pytest.approx(2.0 + 0.1)


def test_each_film_of_a_batch_has_its_result_when_its_turn_is_over() -> None:
    ten = simulate([0.0] * 10, replace(STEADY, window=2.0))
    assert np.sort(ten.latencies) == pytest.approx(np.arange(1, 11) * 0.1)
    assert ten.ended == pytest.approx([1.0] * 10)


def test_batches_that_are_gathered_side_by_side_share_what_arrives() -> None:
    arrivals = np.arange(0, 10, 0.05)
    sizes = {}
    for readers in (1, 4):
        system = replace(STEADY, film_seconds=0.01, window=1.0, concurrency=4, start=4, readers=readers)
        outcome = simulate(arrivals, system)
        sizes[readers] = outcome.deliveries / outcome.invocations
    assert sizes[1] > 9 and sizes[4] < 8


def test_concurrency_grows_by_three_hundred_a_minute_from_five() -> None:
    system = replace(STEADY, film_seconds=1000.0, concurrency=1000, batch=1)
    started = np.sort(simulate(np.zeros(200), system).ended - 1000.0)
    assert (started < 0.1).sum() == 5
    assert (started <= 20.01).sum() == pytest.approx(5 + 20 * 5, abs=2)


def test_a_failed_message_comes_back_after_the_visibility_timeout() -> None:
    outcome = simulate([0.0], replace(STEADY, max_receives=3), fails=[99])
    assert (outcome.dead, outcome.deliveries) == (1, 3)
    assert outcome.seconds == pytest.approx(2 * 720 + 0.1)


def test_a_killed_function_loses_the_films_behind_the_one_that_killed_it() -> None:
    system = replace(STEADY, batch=3, cold_seconds=2.0)
    outcome = simulate([0.0] * 3, system, kills=[0, 1, 0], warm=1)
    assert outcome.answered == pytest.approx([0.1, 720 + 2.2, 720 + 2.3])
    assert (outcome.deliveries, outcome.cold_starts, len(outcome.ended)) == (6, 1, 3)


def test_more_films_than_the_servers_can_do_pile_up() -> None:
    arrivals = np.arange(0, 60, 0.01)
    assert simulate(arrivals, System(0.136, concurrency=10)).quantile(0.99) > 10
    assert simulate(arrivals, System(0.136, concurrency=24)).quantile(0.99) < 10


def test_an_uploader_that_waits_for_the_queue_keeps_it_at_its_limit() -> None:
    system = replace(STEADY, concurrency=2, start=2, readers=2)
    outcome = simulate(Uploader(600, burst=10, burst_seconds=0.01, waits_above=60, looks_every=0.1), system)
    rate = 2 / system.film_seconds
    assert outcome.seconds == pytest.approx(600 / rate, rel=0.05)
    assert 60 / rate < outcome.quantile(0.5) < 80 / rate
    assert outcome.deliveries == len(outcome.ended) == 600


def test_a_slow_uploader_sets_the_pace_itself() -> None:
    outcome = simulate(Uploader(100, burst=10, burst_seconds=5.0, waits_above=60, looks_every=0.1), STEADY)
    assert outcome.seconds == pytest.approx(50, abs=2)
