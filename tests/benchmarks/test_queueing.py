"""The path obeys arithmetic: nothing is faster than its servers, growth is AWS's, a film waits for its turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.queueing import Path, begun, streamed
from infra.config import Config

STEADY = Path(0.1, cold_seconds=0.0, overhead_seconds=0.0, start=1000)
EVEN = np.arange(1, 6001) / 100


def test_the_defaults_are_the_deployment_s() -> None:
    assert (Path(0.1).concurrency, Path(0.1).batch) == (Config().uploads_concurrency, Config().batch_size)


def test_a_backlog_takes_what_its_servers_need() -> None:
    path = replace(STEADY, film_seconds=0.5, concurrency=4, batch=1)
    begins, processes = begun(80, lambda number, earlier: 0.0, path)
    assert begins.max() + path.batch_seconds == pytest.approx(80 * 0.5 / 4)
    assert processes == 4


def test_concurrency_grows_by_three_hundred_a_minute_from_five() -> None:
    path = Path(1000.0, concurrency=1000, batch=1, cold_seconds=0.0)
    begins, _ = begun(200, lambda number, earlier: 0.0, path)
    assert (begins < 0.1).sum() == 5
    assert (begins <= 20.01).sum() == 5 + 20 * 5


def test_a_cold_process_begins_later_and_a_warm_one_is_preferred() -> None:
    path = replace(STEADY, concurrency=2, batch=1, cold_seconds=3.0)
    begins, processes = begun(3, lambda number, earlier: (0.0, 0.0, 4.0)[number], path)
    assert begins.tolist() == [3.0, 3.0, 4.0]
    assert processes == 2


def test_each_film_of_a_batch_has_its_answer_when_its_turn_is_over() -> None:
    path = replace(STEADY, overhead_seconds=0.5)
    assert path.answers(np.array([2.0]))[0] == pytest.approx(2.5 + 0.1 * np.arange(1, 11))


def test_a_film_waits_for_its_batch_to_fill_and_for_those_before_it() -> None:
    """A batch gets twenty films a second: its first waits 0.45 s for the last and is served before it."""
    served = streamed(EVEN, STEADY)
    waits = (served.answered - served.arrived)[20]
    assert waits == pytest.approx(0.05 * np.arange(9, -1, -1) + 0.1 * np.arange(1, 11))


def test_every_full_batch_is_served_once_and_in_order() -> None:
    served = streamed(EVEN, Path(0.4))
    assert np.array_equal(np.sort(served.arrived.ravel()), EVEN)
    assert (served.answered > served.arrived).all()


@pytest.mark.parametrize(("concurrency", "keeps_up"), [(10, False), (24, True)])
def test_more_films_than_the_servers_can_do_pile_up(concurrency: int, keeps_up: bool) -> None:
    assert (streamed(EVEN, Path(0.136, concurrency)).waited(0.99)[0] < 10) is keeps_up


def test_films_that_come_too_slowly_to_fill_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a batch of 10 takes 9\.0 s to fill, longer than its window of 1 s"):
        streamed(np.arange(0.0, 100.0, 0.2), Path(0.1))
