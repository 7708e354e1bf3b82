"""The check of the model sees every parameter that the tables vary, and its record can be computed again."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.local_check import again, fitted, with_additions
from benchmarks.local_runs import Served, measure
from benchmarks.record import RESULTS
from benchmarks.regimes import REGIMES, TOLERANCE, Regime, difference, local, predicted
from benchmarks.scale import BACKLOG_CONCURRENCIES

VARIED = ("film_seconds", "films_per_message", "batch", "window", "visibility", "max_receives", "cold_seconds")


def changed(regime: Regime, name: str, factor: float) -> Regime:
    """The regime with one parameter of its system multiplied; the local AWS has as many readers as it has pollers."""
    value = getattr(regime.system, name)
    wrong: dict[str, Any] = {name: max(1, int(value * factor)) if isinstance(value, int) else value * factor}
    if name == "concurrency":
        wrong |= {"readers": wrong[name], "start": wrong[name]}
    return replace(regime, system=replace(regime.system, **wrong))


@functools.cache
def right(regime: Regime) -> dict[str, float]:
    """The figures of the unchanged model."""
    return predicted(regime, 1)


@pytest.mark.parametrize("factor", [2.0, 0.5])
@pytest.mark.parametrize("name", [*VARIED, "overhead_seconds", "concurrency"])
def test_a_model_that_is_wrong_by_a_factor_of_two_fails_in_some_regime(name: str, factor: float) -> None:
    def off(regime: Regime) -> float:
        return max(difference(predicted(changed(regime, name, factor), 1), right(regime)).values())

    assert any(off(regime) > TOLERANCE for regime in REGIMES)


def test_a_dead_letter_where_none_was_expected_is_never_close() -> None:
    assert difference({"films_per_s": 1.0, "dead_share": 0.1}, {"films_per_s": 1.25, "dead_share": 0.0}) == {
        "films_per_s": pytest.approx(0.2),
        "dead_share": float("inf"),
    }
    assert difference({"dead_share": 0.0}, {"dead_share": 0.0}) == {"dead_share": 0.0}


def test_the_additions_of_the_local_aws_are_found_in_its_batches() -> None:
    warm = [Served(n, 0.05 + 0.01 * n + 0.3, 0.3, False) for n in (1, 4, 10)]
    found = fitted([*warm, Served(2, 0.05 + 0.02 + 0.3 + 0.7, 0.3, True)])
    assert (found.per_invocation, found.per_message, found.per_cold_start) == pytest.approx((0.05, 0.01, 0.7))


def test_batches_of_one_size_tell_an_overhead_only_as_a_whole() -> None:
    found = fitted([Served(10, 1.2, 1.0, False), Served(10, 1.4, 1.0, False)])
    assert (found.per_invocation, found.per_message, found.per_cold_start) == pytest.approx((0.3, 0.0, 0.0))


def committed() -> dict[str, Any]:
    return json.loads((RESULTS / "capacity.json").read_text())["check"]


def test_the_published_predictions_follow_from_the_published_inputs() -> None:
    for one in committed()["regimes"]:
        assert again(one["inputs"]) == pytest.approx(one["predicted"], abs=0.002), one["inputs"]["name"]


def test_the_published_check_is_of_the_regimes_of_the_code_and_within_its_tolerance() -> None:
    check = committed()
    assert check["tolerance"] == TOLERANCE
    assert [one["inputs"]["name"] for one in check["regimes"]] == [regime.name for regime in REGIMES]
    for one, regime in zip(check["regimes"], REGIMES, strict=True):
        given = dict(one["inputs"]["system"])
        told = vars(regime.system)
        fitted_here = {"film_seconds", "overhead_seconds", "cold_seconds"}
        assert {n: v for n, v in given.items() if n not in fitted_here} == {
            n: v for n, v in told.items() if n not in fitted_here
        }
        assert one["difference"] == pytest.approx(difference(one["predicted"], one["measured"]), abs=0.02)
        assert max(one["difference"].values()) <= TOLERANCE


def test_the_check_is_far_from_what_the_tables_assume_and_the_documents_say_so() -> None:
    assert max(regime.system.concurrency for regime in REGIMES) < min(BACKLOG_CONCURRENCIES)
    text = " ".join((RESULTS.parents[1] / "docs" / "costs.md").read_text().split())
    assert "What the check cannot reach" in text and "300 a minute" in text and "cold starts" in text


@pytest.mark.heavy
def test_a_run_on_the_local_aws_yields_the_figures_that_are_predicted() -> None:
    regime = Regime("small", local(0.01, 2, window=0.0, visibility=2.0), 12, fails=0.2)
    run = measure(regime)
    expected = predicted(with_additions(regime, fitted(run.served)), run.warm)
    assert run.figures.keys() == expected.keys()
    assert run.figures["deliveries_per_film"] == expected["deliveries_per_film"] > 1
