"""What is said about a million films and a hundred a second follows from measured times, and a measured run agrees."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks import capacity
from benchmarks.assumptions import ACCOUNT_CONCURRENCY, S3_PUTS_PER_SECOND, UNRESERVED
from benchmarks.capacity import BACKLOG_CONCURRENCIES, BAD_DAY_CONCURRENCY, MILLION, TOLERANCE, bad_day, predicted
from benchmarks.film_times import SAME_SPEED, SIDE, Serving, committed, servings
from benchmarks.inference import costs
from benchmarks.queueing import OVERHEAD_SECONDS
from benchmarks.record import RESULTS, ROOT
from infra.config import Config

PIPELINE = json.loads((RESULTS / "pipeline.json").read_text())
CLEAN: dict[str, Any] = {
    "path": {"concurrency": 2, "batch": 10, "window_s": 1, "waits_above": 60, "looks_every_s": 0.1},
    "calibration": {"load": {"mean_s": 1.0}, "alone": {"mean_s": 0.2}, "burst_s": 0.1},
    "parts": {"load": {"uploads": 1000}, "alone": {"uploads": 20}},
}


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return capacity.tables()


def test_no_row_goes_beyond_what_s3_and_an_account_allow(tables: dict[str, Any]) -> None:
    for _, concurrency, _, films_per_second, *_ in tables["capacity_backlog"]["rows"]:
        assert films_per_second < S3_PUTS_PER_SECOND
        assert concurrency <= ACCOUNT_CONCURRENCY - UNRESERVED
    for _, concurrency, *_ in tables["capacity_stream"]["rows"]:
        assert concurrency <= ACCOUNT_CONCURRENCY - UNRESERVED


def test_a_million_films_take_their_own_time_divided_by_the_concurrency(tables: dict[str, Any]) -> None:
    """And the overhead of their invocations, and the minute in which the concurrency grows."""
    times = {serving.name: serving.film_seconds for serving in servings(committed())}
    for name, concurrency, hours, films_per_second, *_ in tables["capacity_backlog"]["rows"]:
        seconds = MILLION / concurrency * (times[name] + OVERHEAD_SECONDS / 10)
        assert 0.99 * seconds < MILLION / films_per_second < 1.01 * seconds + 60
        assert hours == pytest.approx(MILLION / films_per_second / 3600, abs=0.02)


def test_a_stream_is_kept_up_with_where_the_servers_suffice(tables: dict[str, Any]) -> None:
    times = {serving.name: serving.film_seconds for serving in servings(committed())}
    for name, concurrency, kept_up, *_ in tables["capacity_stream"]["rows"]:
        assert (kept_up == "yes") is (concurrency / times[name] > capacity.RATE)


def test_a_day_without_trouble_is_a_row_of_the_stream(tables: dict[str, Any]) -> None:
    nothing, slowest = tables["capacity_bad_day"]["rows"][0], servings(committed())[-1]
    (steady,) = (row for row in tables["capacity_stream"]["rows"] if row[:2] == [slowest.name, BAD_DAY_CONCURRENCY])
    assert [nothing[3], nothing[4]] == [steady[3], steady[5]]


def test_a_delivery_that_fails_costs_a_visibility_timeout_and_five_make_a_dead_letter() -> None:
    _, deliveries, dead, _, p99, *_ = bad_day(Serving("x", 0.1, 0.0, 0.0), "failing", 0.25, 0.0)
    assert deliveries == pytest.approx(sum(0.25**n for n in range(5)), abs=0.02)
    assert dead == pytest.approx(60_000 * 0.25**5, rel=0.35)
    assert p99 == pytest.approx(3 * Config().visibility_timeout, abs=5)


def test_a_killed_function_delivers_its_whole_batch_again() -> None:
    _, deliveries, dead, *_ = bad_day(Serving("x", 0.1, 0.0, 0.0), "killed", 0.0, 0.001)
    assert deliveries == pytest.approx(1 + Config().batch_size * 0.001, abs=0.003)
    assert dead == 0


def test_a_full_queue_is_served_at_the_calibrated_pace() -> None:
    load = predicted(CLEAN)["load"]
    assert load["uploads_per_second"] == pytest.approx(20, rel=0.02)
    assert load["invocations"] == 100
    assert 60 / 20 < load["p50_s"] < 80 / 20


def test_an_upload_by_itself_takes_the_window_and_its_own_time() -> None:
    assert predicted(CLEAN)["alone"] == {"p50_s": 1.2, "p95_s": 1.2, "invocations": 20}


def test_a_slow_uploader_sets_the_pace_itself() -> None:
    slow = {**CLEAN, "calibration": {**CLEAN["calibration"], "burst_s": 5.0}}
    assert predicted(slow)["load"]["uploads_per_second"] == pytest.approx(2, rel=0.02)


def test_the_largest_difference_is_that_of_the_figures() -> None:
    """What was measured: as predicted, but for a p95 of twice as much."""
    clean: dict[str, Any] = json.loads(json.dumps(CLEAN))
    for name, expected in predicted(CLEAN).items():
        latency = {"p50": expected["p50_s"], "p95": 2 * expected["p95_s"]}
        clean["parts"][name] |= {**expected, "latency_s": latency}
    load, alone = capacity.compared(clean)
    assert load[-1] == alone[-1] == 50.0
    assert alone[1] == "", "the pace of uploads one at a time is the benchmark's own"


@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_a_batch_time_that_is_wrong_by_a_factor_of_two_fails_the_check(wrong: float) -> None:
    clean = json.loads(json.dumps(PIPELINE["clean"]))
    for calibration in ("load", "alone"):
        clean["calibration"][calibration]["mean_s"] *= wrong
    assert max(row[-1] for row in capacity.compared(clean)) > 100 * TOLERANCE


def test_the_published_run_is_predicted_within_the_tolerance() -> None:
    assert max(row[-1] for row in capacity.compared(PIPELINE["clean"])) <= 100 * TOLERANCE
    assert capacity.main([]) == 0


def test_the_check_is_far_from_what_the_tables_assume_and_the_documents_say_so() -> None:
    assert PIPELINE["clean"]["path"]["concurrency"] < min(BACKLOG_CONCURRENCIES)
    text = " ".join((ROOT / "docs" / "costs.md").read_text().split())
    assert "What the check cannot reach" in text and "300 a minute" in text and "cold starts" in text


def test_every_precision_that_a_published_model_serves_has_its_rows() -> None:
    runs = json.loads((RESULTS / "accuracy.json").read_text())["runs"]
    served = {SAME_SPEED.get(run["precision"], run["precision"]) for run in runs}
    names = {serving.name for serving in servings(committed())}
    chips = ("AVX-512 VNNI", "AVX2")
    assert {f"{chip}, {precision}, {SIDE} px" for chip in chips for precision in served} <= names


def test_a_film_on_avx2_takes_what_the_published_measurement_says() -> None:
    (avx2,) = (serving for serving in servings(committed()) if serving.name == "AVX2, int8, 224 px")
    rows = committed()["tables"]["inference_cost"]["rows"]
    assert rows == costs(committed()["function"])
    assert [Config().memory_size, round(avx2.film_seconds * 1000)] in [row[:2] for row in rows]


def test_float16_needs_as_much_longer_as_float32_does() -> None:
    inference = committed()
    inference["engines"]["litert_float32"]["infer_ms"] = inference["engines"]["litert_int8"]["infer_ms"] + 50
    times = {serving.name: serving.film_seconds for serving in servings(inference)}
    assert times["AVX2, float16, 224 px"] == pytest.approx(times["AVX2, int8, 224 px"] + 0.05)
    assert times["AVX2, float16, 112 px"] == pytest.approx(times["AVX2, int8, 112 px"] + 0.05 / 4)


def test_the_runbook_says_how_long_a_million_films_take(tables: dict[str, Any]) -> None:
    text = " ".join((ROOT / "docs" / "runbook.md").read_text().split())
    (said,) = re.findall(r"A million films take ([\d.]+) to ([\d.]+) hours at the default concurrency", text)
    hours = [row[2] for row in tables["capacity_backlog"]["rows"] if row[1] == Config().backlog_concurrency]
    assert [float(one) for one in said] == [round(min(hours), 1), round(max(hours), 1)]
