"""Sums are sums, and what is paid for is what the templates and the function have."""

from __future__ import annotations

import pytest

from benchmarks.costs import ALARMS, OWN_METRICS, WATCHED, idle, kb_per_film, per_million, tables
from benchmarks.film_sizes import films, written
from benchmarks.film_times import committed, servings
from benchmarks.releases import find_bundle, load
from inference_lambda.handler import Tally
from infra.config import Config
from infra.plan import rendered
from infra.template import Place


def test_the_sums_of_the_cost_tables_are_sums() -> None:
    found, kb = servings(committed()), kb_per_film()
    *shares, rest, _ = tables(found, kb)["cost_shared"]["rows"]
    assert rest[1] == pytest.approx(sum(dollars for _, dollars in shares), abs=0.05)
    for _, _, compute, together in per_million(found, kb):
        assert together == pytest.approx(compute + rest[1], abs=0.02)
    *rows, total, _ = idle()
    assert total[1] == pytest.approx(sum(row[1] for row in rows), abs=0.05)


def test_a_million_films_of_the_small_network_cost_what_was_promised() -> None:
    together = {name: dollars for name, *_, dollars in per_million(servings(committed()), kb_per_film())}
    assert together["AVX2, int8, 112 px"] <= 18
    assert together["AVX-512 VNNI, int8, 112 px"] <= 16


def test_the_alarms_and_metrics_that_are_paid_are_those_of_the_template() -> None:
    place = Place(account="123456789012", region="us-east-1")
    resources = [r for stack in rendered(Config(region="us-east-1"), place) for r in stack.resources.values()]
    alarms = [r["Properties"] for r in resources if r["Type"] == "AWS::CloudWatch::Alarm"]
    watched = sum(
        1 if "MetricName" in alarm else sum("MetricStat" in one for one in alarm["Metrics"]) for alarm in alarms
    )
    of_the_model = 2  # refused, fallback
    assert (len(alarms), watched) == (ALARMS, WATCHED)
    assert len(Tally().counts) + len(Tally().latencies) + of_the_model == OWN_METRICS


@pytest.mark.heavy
def test_what_a_film_leaves_behind_is_what_the_function_wrote() -> None:
    model = load(find_bundle(None))
    one, four = (written(model, list(films(None, count)), 10) for count in (1, 4))
    assert 1 < one["result"] < 3 and 20 < one["heat map"] < 200
    assert four["log"] < one["log"], "the metrics of a batch are one line"
