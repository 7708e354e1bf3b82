"""The prediction of the pipeline benchmark's run rests on its calibration and on the uploader's own rules."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks.audit import Result, Version
from benchmarks.load import File, Put, Uploader
from benchmarks.pipeline import BURST, Stored, burst_seconds, service
from benchmarks.pipeline_prediction import checked, compared, predicted
from benchmarks.record import RESULTS
from benchmarks.regimes import TOLERANCE
from local_aws.services.event_source import Delivery

PATH = {"concurrency": 2, "batch": 10, "window_s": 1, "visibility_s": 30, "max_receives": 5, "burst": 10,
        "waits_above": 60, "looks_every_s": 0.1}  # fmt: skip
CALIBRATION = {
    "load": {"invocations": 20, "messages": 200, "mean_s": 1.0, "deviation_s": 0.0},
    "alone": {"invocations": 10, "messages": 10, "mean_s": 0.2, "deviation_s": 0.0},
    "burst_s": 0.1,
}
INPUTS: dict[str, Any] = {"path": PATH, "calibration": CALIBRATION, "uploads": {"load": 1000, "alone": 20}}


def published() -> dict[str, Any]:
    return json.loads((RESULTS / "capacity.json").read_text())["pipeline"]


def test_a_full_queue_is_served_at_the_calibrated_pace() -> None:
    load = predicted(INPUTS)["load"]
    assert load["uploads_per_second"] == pytest.approx(20, rel=0.02)
    assert load["invocations"] == 100
    assert 60 / 20 < load["p50_s"] < 80 / 20


def test_an_upload_by_itself_takes_the_window_and_its_own_time() -> None:
    alone = predicted(INPUTS)["alone"]
    assert alone == {"p50_s": pytest.approx(1.2), "p95_s": pytest.approx(1.2), "invocations": 20}


def test_a_run_without_calibration_is_refused() -> None:
    for run in ({"faults": {}}, {"clean": {"uploads": 2060}}):
        with pytest.raises(ValueError, match=r"old\.json holds no undisturbed run with a calibration"):
            checked(run, Path("old.json"))


def test_each_part_is_compared_with_what_the_benchmark_reported() -> None:
    part = {"uploads_per_second": 20.0, "latency_s": {"p50": 3.4, "p95": 3.7}, "invocations": 100, "uploads": 1000}
    alone = {"uploads_per_second": 0.8, "latency_s": {"p50": 1.2, "p95": 2.4}, "invocations": 20, "uploads": 20}
    clean = {"path": PATH, "calibration": CALIBRATION, "parts": {"load": part, "alone": alone}}
    found = compared({"measured_at": "2026-01-01", "clean": clean})["parts"]
    assert found["load"]["difference"]["invocations"] == 0
    assert found["alone"]["difference"] == {"p50_s": 0.0, "p95_s": 0.5, "invocations": 0.0}


def test_the_published_prediction_follows_from_its_inputs_and_is_within_the_tolerance() -> None:
    pipeline = published()
    again = predicted(pipeline["inputs"])
    for name, part in pipeline["parts"].items():
        assert again[name] == pytest.approx(part["predicted"], abs=0.002)
        assert max(part["difference"].values()) <= TOLERANCE


def test_the_uploader_looks_at_the_queue_before_each_burst() -> None:
    class S3:
        def put_object(self, **_: Any) -> dict[str, str]:
            return {"VersionId": "v"}

    looks: list[int] = []
    uploader = Uploader(S3(), "uploads", lambda: looks.append(len(uploader.puts)) or 0, threading.Event())
    uploader.put_all(File(str(number), b"", "film") for number in range(3 * BURST))
    assert looks == [0, BURST, 2 * BURST]


def delivery(messages: int, seconds: float) -> Delivery:
    return Delivery("uploads", ("m",) * messages, (), 100.0, 100.0 + seconds, None, frozenset())


def test_a_calibration_keeps_the_pace_before_and_after() -> None:
    assert service([delivery(10, 1.0), delivery(10, 1.2)], [delivery(5, 0.8)]) == {
        "invocations": 3,
        "messages": 25,
        "mean_s": 1.0,
        "deviation_s": 0.2,
        "means_s": [1.1, 0.8],
    }


def test_a_burst_lasts_from_its_first_request_to_its_last_stored_file() -> None:
    puts = [Put(f"c/{n}", f"v{n}", "", "film", 10.0 + n) for n in range(2 * BURST)] + [Put("x", "vx", "", "film", 0.0)]
    stored = [Version(put.key, put.version, put.sent + 0.5) for put in puts]
    assert burst_seconds(puts, stored, "c") == BURST - 1 + 0.5


def test_a_part_of_a_run_is_judged_by_its_own_uploads() -> None:
    uploads = [Version("load/1", "v1", 10.0), Version("alone/1", "w1", 20.0)]
    results = [Result(one.key, one.stored + 1, one.version, 1, "m", "ok") for one in uploads]
    puts = [Put(one.key, one.version, "sha", "film", one.stored) for one in uploads]
    documents = {one.key: {"image": {"sha256": "sha", "version_id": one.version}, "status": "ok"} for one in uploads}
    assert Stored(uploads, results, documents).audit(puts, (), "load/").uploads_per_second == 1.0


def test_the_predicted_run_is_the_published_one() -> None:
    run = json.loads((RESULTS / "pipeline.json").read_text())
    assert published()["measured_at"] == run["measured_at"]
