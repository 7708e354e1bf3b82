"""Costs and scale in the documents follow from the constants of the code: a changed price or limit makes them stale."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks.assumptions import assumptions
from benchmarks.costs import (
    ALARMS,
    OWN_METRICS,
    WATCHED,
    idle,
    kb_per_film,
    per_batch_size,
    per_million,
    per_retraining,
)
from benchmarks.film_sizes import films, written
from benchmarks.film_times import SAME_SPEED, committed, servings
from benchmarks.record import RESULTS, ROOT
from benchmarks.releases import find_bundle, load
from benchmarks.scale import (
    ACCOUNT_CONCURRENCY,
    BACKLOG_CONCURRENCIES,
    BAD_DAY_CONCURRENCY,
    BATCH_SIZES,
    MILLION,
    S3_PUTS_PER_SECOND,
    UNRESERVED,
    backlog,
)
from inference_lambda.handler import Tally
from infra.config import Config
from infra.plan import rendered
from infra.template import Place


def table(name: str) -> list[list[Any]]:
    """The rows of a published table."""
    return json.loads((RESULTS / "capacity.json").read_text())["tables"][name]["rows"]


def test_the_published_costs_are_those_of_the_code() -> None:
    kb, found = kb_per_film(), servings(committed())
    assert table("cost_per_million") == list(per_million(found, kb))
    assert table("cost_per_retraining") == list(per_retraining())
    assert table("cost_idle") == list(idle())
    assert table("capacity_assumptions") == assumptions(committed(), kb)


def test_the_published_backlog_is_that_of_the_code() -> None:
    fastest, most = servings(committed())[0], BACKLOG_CONCURRENCIES[-1]
    (row,) = backlog([fastest], [most])
    assert row in table("capacity_backlog")


def test_the_published_price_of_small_batches_is_that_of_the_code() -> None:
    for batch, row in zip(BATCH_SIZES, table("capacity_batch_size"), strict=True):
        dollars = per_batch_size(batch)
        assert row[:6] == [batch, *(round(value, 2) for value in (*dollars.values(), sum(dollars.values())))]


def test_the_sums_of_the_cost_tables_are_sums() -> None:
    *shares, total, _ = per_million(servings(committed()), kb_per_film())
    for column in range(1, len(total)):
        assert total[column] == pytest.approx(sum(row[column] for row in shares), abs=0.05)
    *rows, total, _ = idle()
    assert total[1] == pytest.approx(sum(row[1] for row in rows), abs=0.05)


def test_a_day_without_trouble_is_a_row_of_the_stream() -> None:
    slowest = servings(committed())[-1]
    (steady,) = (row for row in table("capacity_stream") if row[:2] == [slowest.name, BAD_DAY_CONCURRENCY])
    nothing = table("capacity_bad_day")[0]
    assert [nothing[3], nothing[4]] == [steady[3], steady[5]]


def test_no_row_goes_beyond_what_s3_and_an_account_allow() -> None:
    for _, concurrency, _, films_per_second, *_ in table("capacity_backlog"):
        assert films_per_second < S3_PUTS_PER_SECOND
        assert concurrency <= ACCOUNT_CONCURRENCY - UNRESERVED
    for _, concurrency, *_ in table("capacity_stream"):
        assert concurrency <= ACCOUNT_CONCURRENCY - UNRESERVED


def test_every_precision_that_a_published_model_serves_has_its_rows() -> None:
    runs = json.loads((RESULTS / "accuracy.json").read_text())["runs"]
    served = {SAME_SPEED.get(run["precision"], run["precision"]) for run in runs}
    for chip in ("AVX-512 VNNI", "AVX2"):
        assert served <= {serving.precision for serving in servings(committed()) if serving.chip == chip}


def test_a_film_on_avx2_takes_what_the_published_measurement_says() -> None:
    (avx2,) = (serving for serving in servings(committed()) if serving.name == "AVX2, int8")
    (row,) = (row for row in committed()["cost"]["rows"] if row["memory_mb"] == Config().memory_size)
    assert round(avx2.film_seconds * 1000) == row["ms_per_film"]


def test_float16_needs_as_much_longer_as_float32_does() -> None:
    inference = committed()
    inference["engines"]["litert_float32"]["infer_ms"] = inference["engines"]["litert_int8"]["infer_ms"] + 50
    int8, float16 = (serving.film_seconds for serving in servings(inference) if serving.chip == "AVX2")
    assert float16 == pytest.approx(int8 + 0.05)


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


def test_the_runbook_says_how_long_a_million_films_take() -> None:
    text = " ".join((ROOT / "docs" / "runbook.md").read_text().split())
    (said,) = re.findall(r"A million films take ([\d.]+) to ([\d.]+) hours at the default concurrency", text)
    hours = [row[2] for row in table("capacity_backlog") if row[1] == Config().backlog_concurrency]
    assert [float(one) for one in said] == [round(min(hours), 1), round(max(hours), 1)]
    assert MILLION == 1_000_000


@pytest.mark.heavy
def test_what_a_film_leaves_behind_is_what_the_function_wrote() -> None:
    model = load(find_bundle(None))
    one, four = (written(model, list(films(None, count)), 10) for count in (1, 4))
    assert 1 < one["result"] < 3 and 20 < one["heat map"] < 200
    assert four["log"] < one["log"], "the metrics of a batch are one line"
