"""The run without faults: uploads as fast as the queue takes them, then one at a time, for the latency without a queue
in front. A smaller run of each before and after says how long a batch takes, and shows a machine that changes its pace.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.audit import Version, quantiles
from benchmarks.faults import explain
from benchmarks.load import BURST, LOOKS_EVERY, MAX_WAITING, Put
from benchmarks.local_run import Run, Stored, say
from benchmarks.releases import Model
from local_aws.services.event_source import Delivery

ALONE = 60
"""Uploads one at a time."""
CALIBRATION = {"load": 300, "alone": 10}
"""Uploads before the run, and as many after it."""
COLD_BATCHES = 2
"""For each process: the batches of a calibration that its cold start may have slowed."""


def undisturbed(run: Run, model: Model, uploads: int) -> dict[str, Any]:
    """The figures of the run; its uploads per second and latencies are those of the full load. `path` and `calibration`
    are what benchmarks.capacity predicts them from.
    """
    run.releases.publish(model)
    run.releases.promote(model)
    before = calibrate(run, "before")
    say("full load")
    loaded, stuck = under_load(run, "load", uploads)
    say("one at a time")
    alone, latencies = one_at_a_time(run, "alone", ALONE)
    after = calibrate(run, "after")
    stored = run.read()
    report = run.report(stored, stuck, explain(run.dead_letters(), run.journal, ()))
    parts = {name: part(run, stored, name, seen) for name, seen in (("load", loaded), ("alone", alone))}
    return {
        **report,
        **{name: parts["load"][name] for name in ("uploads_per_second", "latency_s")},
        "latency_alone_s": quantiles(latencies),
        "parts": parts,
        "calibration": {
            "load": service(before["load"][COLD_BATCHES * run.config.uploads_concurrency :], after["load"]),
            "alone": service(before["alone"], after["alone"]),
            "burst_s": burst_seconds(run.uploader.puts, stored.uploads, "calibration-load"),
        },
        "path": {
            "concurrency": run.config.uploads_concurrency,
            "batch": run.config.batch_size,
            "window_s": run.config.batching_window,
            "waits_above": MAX_WAITING,
            "looks_every_s": LOOKS_EVERY,
        },
    }


def calibrate(run: Run, when: str) -> dict[str, list[Delivery]]:
    """The batches of a small run under load and of a few uploads one at a time."""
    say(f"calibration {when} the run")
    loaded, _ = under_load(run, f"calibration-load/{when}", CALIBRATION["load"])
    alone, _ = one_at_a_time(run, f"calibration-alone/{when}", CALIBRATION["alone"])
    return {"load": loaded, "alone": alone}


def under_load(run: Run, prefix: str, uploads: int) -> tuple[list[Delivery], int]:
    """Upload as fast as the queue takes it; the batches that this made, and the messages that were left over."""
    seen, first = len(run.journal.deliveries), len(run.uploader.puts)
    run.uploader.put_all(run.files.make(f"{prefix}/{number:05d}.jpeg", first + number) for number in range(uploads))
    stuck = run.settle(120 + uploads / 4)
    return batches_since(run, seen), stuck


def one_at_a_time(run: Run, prefix: str, uploads: int) -> tuple[list[Delivery], list[float]]:
    """The batches, and seconds from the start of each upload to its result."""
    seen, first = len(run.journal.deliveries), len(run.uploader.puts)
    waited = [alone(run, f"{prefix}/{number:03d}.jpeg", first + number) for number in range(uploads)]
    return batches_since(run, seen), waited


def alone(run: Run, key: str, number: int) -> float:
    """Seconds from the start of one upload to its result, with nothing else going on."""
    put = run.uploader.put(run.files.make(key, number))
    while True:
        with contextlib.suppress(run.s3.exceptions.ClientError):
            head = run.s3.head_object(Bucket=run.outputs["ResultsBucket"], Key=f"results/{key}.json")
            if head["Metadata"]["upload-version"] == put.version:
                return time.time() - put.sent
        time.sleep(0.01)


def batches_since(run: Run, seen: int) -> list[Delivery]:
    """Batches that ended after the first `seen`; pollers report one a moment after its messages are gone."""
    time.sleep(1.0)
    return run.journal.deliveries[seen:]


def part(run: Run, stored: Stored, name: str, deliveries: Sequence[Delivery]) -> dict[str, Any]:
    """The figures of the uploads below `name`/, by S3's clock."""
    found = stored.audit(run.uploader.puts, (), f"{name}/")
    return {
        "uploads": found.uploads,
        "uploads_per_second": found.uploads_per_second,
        "latency_s": found.latency_s,
        "invocations": len(deliveries),
    }


def service(*calibrations: Sequence[Delivery]) -> dict[str, Any]:
    """How long batches took: their number, messages in all, mean and standard deviation, and each calibration's mean
    (s).
    """
    seconds = [[delivery.ended - delivery.started for delivery in batches] for batches in calibrations]
    together = [one for batches in seconds for one in batches]
    return {
        "invocations": len(together),
        "messages": sum(len(delivery.messages) for batches in calibrations for delivery in batches),
        "mean_s": round(statistics.mean(together), 4),
        "deviation_s": round(statistics.stdev(together), 4),
        "means_s": [round(statistics.mean(batches), 4) for batches in seconds],
    }


def burst_seconds(puts: Sequence[Put], uploads: Sequence[Version], prefix: str) -> float:
    """Median time from the first request of a burst of uploads to the last that S3 stored."""
    stored = {upload.version: upload.stored for upload in uploads}
    mine = [put for put in puts if put.key.startswith(f"{prefix}/")]
    bursts = (mine[first : first + BURST] for first in range(0, len(mine), BURST))
    took = (max(stored[put.version] for put in burst) - min(put.sent for put in burst) for burst in bursts)
    return round(statistics.median(took), 4)
