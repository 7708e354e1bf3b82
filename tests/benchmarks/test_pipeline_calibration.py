"""An undisturbed run records what is needed to predict it: its calibration, its bursts, its own uploads."""

from __future__ import annotations

from typing import Any

from benchmarks.audit import Result, Version
from benchmarks.load import BURST, File, Put, Uploader
from benchmarks.local_run import Stored
from benchmarks.undisturbed import burst_seconds, service
from local_aws.services.event_source import Delivery


def test_the_uploader_looks_at_the_queue_before_each_burst() -> None:
    class S3:
        def put_object(self, **_: Any) -> dict[str, str]:
            return {"VersionId": "v"}

    looks: list[int] = []

    def waiting() -> int:
        looks.append(len(uploader.puts))
        return 0

    uploader = Uploader(S3(), "uploads", waiting)
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
