"""Load and faults: thousands of uploads through S3, queue, Lambda and back, first undisturbed, then under faults.

`python -m benchmarks.pipeline [--uploads N] [--bundle FOLDER]`. The first run begins and ends with a calibration and
records what benchmarks.capacity needs to predict the rest of it. In the second run 10 % of the events come twice, 5 %
out of order, 3 % of the uploads are overwritten, the Lambda process is killed every few seconds, 2 % of its S3 calls
answer 503, a second model is promoted midway, and the file that the pointer then names is damaged for a while.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import audit as audits
from benchmarks.faults import FaultProxy, Journal, Killer, Tap, explain
from benchmarks.load import MAX_WAITING, File, Files, Put, Uploader
from benchmarks.record import record
from benchmarks.releases import Model, Releases, another, find_bundle, load
from infra.config import Config
from infra.session import open_session
from infra.stacks import deploy
from local_aws.deployment import local_config
from local_aws.server import LocalAWS
from local_aws.services.event_source import Delivery

OVERWRITTEN = 0.03
BUSY_SHARE = 0.02
KILL_SECONDS = 5.0
VISIBILITY_SECONDS = 30
"""720 s in production: a batch that was killed would come back after twelve minutes, and five such after an hour."""
DAMAGED_SECONDS = 15.0
PROMOTE_AT = 0.4
PROMISES = ("lost", "wrong_version", "wrong_bytes", "dishonest", "stuck", "dlq_unexplained")
"""Figures that must be 0."""
TRICKLE = 60
"""Uploads one at a time, to measure latency without a queue in front."""
CALIBRATION = {"load": 150, "alone": 10}
"""Uploads before the undisturbed run, and as many after it, that show how long a batch takes under load and alone."""
BURST, LOOKS_EVERY = 10, 0.1
"""benchmarks.load.Uploader: files between two looks at the queue, and seconds between two looks while it is full."""
COLD_BATCHES = 2
"""For each process: the batches of a calibration that its cold start may have slowed."""


@dataclass(frozen=True)
class Stored:
    """What S3 holds of a run."""

    uploads: list[audits.Version]
    results: list[audits.Result]
    documents: dict[str, dict[str, Any]]

    def audit(self, puts: Sequence[Put], dead_keys: Sequence[str], prefix: str = "") -> audits.Audit:
        """The judgement on the uploads whose key begins with `prefix`."""
        uploads = [version for version in self.uploads if version.key.startswith(prefix)]
        return audits.audit(uploads, self.results, self.documents, puts, dead_keys)


@dataclass
class Run:
    """One run on a fresh local AWS."""

    aws: LocalAWS
    config: Config
    outputs: dict[str, str]
    journal: Journal
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.s3, self.sqs = self.aws.client("s3"), self.aws.client("sqs")
        self.queue = self.outputs["UploadsQueueUrl"]
        self.sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)})
        self.uploader = Uploader(self.s3, self.outputs["UploadsBucket"], self.waiting, self.stop)
        self.files = Files(self.seed)
        self.releases = Releases(self.s3, self.outputs["ModelsBucket"])

    def waiting(self) -> int:
        """Messages that could be received now."""
        return self.depth(self.queue, "ApproximateNumberOfMessages")

    def depth(self, url: str, *names: str) -> int:
        wanted = names or tuple(f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed"))
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(wanted))["Attributes"]
        return sum(int(answer.get(name, 0)) for name in wanted)

    def settle(self, timeout: float, *queues: str) -> int:
        """Wait until nothing waits, is delayed or is in flight; what is left after `timeout` seconds (stuck)."""
        deadline = time.monotonic() + timeout
        while True:
            left = sum(self.depth(url) for url in (self.queue, *queues))
            if not left or time.monotonic() > deadline:
                return left
            say(f"{left} messages to go")
            time.sleep(2.0)

    def dead_letters(self) -> list[tuple[str, str]]:
        """(message id, body) of each dead letter; they are left where they are, visible."""
        url = self.outputs["UploadsDeadLetterQueueUrl"]
        found: list[dict[str, Any]] = []
        while batch := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get(
            "Messages"
        ):
            found += batch
        for message in found:
            self.sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        return [(message["MessageId"], message["Body"]) for message in found]

    def redrive(self) -> int:
        """Send the dead letters back to their queue, as the runbook says; messages left when all has settled."""
        url = self.outputs["UploadsDeadLetterQueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.sqs.start_message_move_task(SourceArn=arn)
        return self.settle(300) + self.depth(url)

    def read(self) -> Stored:
        """Every version of every upload and result."""
        say("reading every version of every upload and result")
        objects = self.aws.objects()
        results = audits.read_results(self.s3, objects, self.outputs["ResultsBucket"])
        documents = audits.read_documents(self.s3, self.outputs["ResultsBucket"], {result.key for result in results})
        uploads = audits.read_uploads(self.s3, objects, self.outputs["UploadsBucket"])
        return Stored(uploads, results, documents)

    def audit(self, stored: Stored, dead_keys: Sequence[str]) -> audits.Audit:
        """What S3's versions say about this run so far."""
        found = stored.audit(self.uploader.puts, dead_keys)
        for name in PROMISES[:4]:
            for key in getattr(found, name)[:10]:
                say(f"{name}: {key}")
        return found

    def report(self, stored: Stored, stuck: int, letters: list[dict[str, Any]]) -> dict[str, Any]:
        """The figures of this run, from S3's versions."""
        found = self.audit(stored, [key for letter in letters for key in letter["uploads"]])
        deliveries = self.journal.deliveries
        return {
            **found.summary(),
            "stuck": stuck,
            "dlq": len(letters),
            "dlq_unexplained": sum(not letter["explained"] for letter in letters),
            "dlq_causes": dict(sum((Counter(letter["causes"]) for letter in letters), Counter())),
            "dlq_entries": letters,
            "invocations": len(deliveries),
            "messages_delivered": sum(len(delivery.messages) for delivery in deliveries),
            "deliveries_per_upload": round(
                sum(len(delivery.messages) for delivery in deliveries) / max(1, found.upload_versions), 3
            ),
        }


def undisturbed(run: Run, model: Model, uploads: int) -> dict[str, Any]:
    """A run without faults: full load, then one upload at a time for the latency without a queue in front. A smaller
    run of each before and after, so that a machine that changes its pace shows, says how long a batch takes.

    The run's uploads per second and latencies are those of the full load.
    """
    run.releases.publish(model)
    run.releases.promote(model)
    before = calibrate(run, "before")
    say("full load")
    loaded, stuck = under_load(run, "load", uploads)
    say("one at a time")
    alone, latencies = one_at_a_time(run, "alone", TRICKLE)
    after = calibrate(run, "after")
    stored = run.read()
    report = run.report(stored, stuck, explain(run.dead_letters(), run.journal, ()))
    parts = {name: part(run, stored, name, seen) for name, seen in (("load", loaded), ("alone", alone))}
    return {
        **report,
        **{name: parts["load"][name] for name in ("uploads_per_second", "latency_s")},
        "latency_alone_s": audits.quantiles(latencies),
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
            "visibility_s": VISIBILITY_SECONDS,
            "max_receives": run.config.max_receive_count,
            "burst": BURST,
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
    waited = [trickle(run, f"{prefix}/{number:03d}.jpeg", first + number) for number in range(uploads)]
    return batches_since(run, seen), waited


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


def burst_seconds(puts: Sequence[Put], uploads: Sequence[audits.Version], prefix: str) -> float:
    """Median time from the first request of a burst of uploads to the last that S3 stored."""
    stored = {upload.version: upload.stored for upload in uploads}
    mine = [put for put in puts if put.key.startswith(f"{prefix}/")]
    bursts = (mine[first : first + BURST] for first in range(0, len(mine), BURST))
    took = (max(stored[put.version] for put in burst) - min(put.sent for put in burst) for burst in bursts)
    return round(statistics.median(took), 4)


def trickle(run: Run, key: str, number: int) -> float:
    """Seconds from the start of one upload to its result, with nothing else going on."""
    put = run.uploader.put(run.files.make(key, number))
    while True:
        with contextlib.suppress(run.s3.exceptions.ClientError):
            head = run.s3.head_object(Bucket=run.outputs["ResultsBucket"], Key=f"results/{key}.json")
            if head["Metadata"]["upload-version"] == put.version:
                return time.time() - put.sent
        time.sleep(0.01)


def disturbed(run: Run, model: Model, uploads: int, kill_seconds: float) -> dict[str, Any]:
    """A run under all faults; they end when the last file has been uploaded and answered, or has given up."""
    first, second = another(model, "first"), model
    for published in (first, second):
        run.releases.publish(published)
    run.releases.promote(first)
    with tempfile.TemporaryDirectory() as folder, faults(run, Path(folder), kill_seconds) as (tap_url, proxy):
        midway = Midway(run, second, round(uploads * PROMOTE_AT))
        run.uploader.put_all(midway.watch(with_overwrites(run.files, uploads, run.seed)))
        midway.finish()
        stuck = run.settle(300 + uploads / 2, tap_url)
        failures = proxy.failures()
        letters = explain(run.dead_letters(), run.journal, [failure["at"] for failure in failures])
    report = run.report(run.read(), stuck, letters)
    return {
        **report,
        "after_redrive": after_redrive(run) if letters else None,
        "injected": {
            "kills": len(run.journal.kills),
            "events_duplicated": run.journal.duplicated,
            "events_out_of_order": run.journal.disordered,
            "s3_503_before_effect": sum(failure["effect"] == "before" for failure in failures),
            "s3_503_after_effect": sum(failure["effect"] == "after" for failure in failures),
            "overwritten": len(run.uploader.puts) - uploads,
            "promotions_midway": 1,
            "damaged_seconds": round(sum(end - start for start, end in run.journal.unsound), 1),
        },
    }


def after_redrive(run: Run) -> dict[str, int]:
    """The same promises once the faults are over and the dead letters have been sent back: now without excuse."""
    point_function_at(run, run.aws.endpoint)
    stuck = run.redrive()
    found = run.audit(run.read(), ())
    return {"lost": len(found.lost), "wrong_version": len(found.wrong_version), "stuck": stuck}


class Midway:
    """Promotes the second model when `after` files have been uploaded, its file damaged for a while."""

    def __init__(self, run: Run, model: Model, after: int) -> None:
        self._run, self._model, self._after = run, model, after
        self._thread: threading.Thread | None = None

    def watch(self, files: Iterator[File]) -> Iterator[File]:
        for number, file in enumerate(files):
            if number == self._after:
                self._thread = threading.Thread(target=self._promote_damaged)
                self._thread.start()
            yield file

    def finish(self) -> None:
        if self._thread:
            self._thread.join()

    def _promote_damaged(self) -> None:
        begun = time.time()
        self._run.releases.damage(self._model)
        serial = self._run.releases.promote(self._model)
        say(f"promoted serial {serial}, its model damaged for {DAMAGED_SECONDS:.0f} s")
        time.sleep(DAMAGED_SECONDS)
        self._run.releases.publish(self._model)
        self._run.journal.unsound.append((begun, time.time() + 1))


def with_overwrites(files: Files, uploads: int, seed: int) -> Iterator[File]:
    """`uploads` files, 3 % of them followed, a little later, by another file of the same name."""
    chance, pending = random.Random(seed), []  # type: ignore[var-annotated]
    for number in range(uploads):
        key = f"load/{number:05d} ä+b.jpeg"
        yield files.make(key, number)
        if chance.random() < OVERWRITTEN:
            pending.append((number + chance.randint(1, 40), key))
        while pending and min(pending)[0] <= number:
            due = min(pending)
            pending.remove(due)
            yield files.make(due[1], uploads + number)
    for number, key in sorted(pending):
        yield files.make(key, 2 * uploads + number)


@contextlib.contextmanager
def faults(run: Run, folder: Path, kill_seconds: float) -> Iterator[tuple[str, FaultProxy]]:
    """Tap, killer and proxy in place; yields the tap's queue and the proxy."""
    tap_url = run.sqs.create_queue(QueueName="tap", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    arn = run.sqs.get_queue_attributes(QueueUrl=tap_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    run.s3.put_bucket_notification_configuration(
        Bucket=run.outputs["UploadsBucket"],
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    port = urlsplit(run.aws.endpoint).port or 0
    proxy = FaultProxy(port, BUSY_SHARE, run.seed, folder / "failures.jsonl")
    point_function_at(run, proxy.endpoint)
    function = run.outputs["FunctionName"]
    parts = (
        Tap(run.aws.client, tap_url, run.queue, run.journal, run.seed),
        Killer(lambda: run.aws.processes().get(function, []), kill_seconds, run.journal, run.seed),
    )
    for part in parts:
        part.start()
    try:
        yield tap_url, proxy
    finally:
        for part in parts:
            part.close()
        proxy.close()


def point_function_at(run: Run, endpoint: str) -> None:
    """Send the function's AWS calls through `endpoint`."""
    client, name = run.aws.client("lambda"), run.outputs["FunctionName"]
    variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "AWS_ENDPOINT_URL": endpoint}}
    )


def on_local_aws(body: Callable[[Run], dict[str, Any]], seed: int) -> dict[str, Any]:
    """Deploy the project's stacks on a fresh local AWS, run `body` there, and add when it began (UTC), how busy the
    machine was before, and the seconds it took.
    """
    journal, begun = Journal(), time.monotonic()
    before = {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    with LocalAWS(on_delivery=journal.delivered) as aws:
        config = local_config(aws.endpoint)
        outputs = deploy(open_session(config), config, say=say)
        report = body(Run(aws, config, outputs, journal, seed))
    return {**before, **report, "seconds": round(time.monotonic() - begun, 1)}


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def good(report: dict[str, Any]) -> bool:
    """Whether a run kept every promise."""
    return not any(report[name] for name in PROMISES) and not any((report.get("after_redrive") or {}).values())


def table(reports: dict[str, dict[str, Any]]) -> str:
    """The figures side by side."""
    rows = (
        *("uploads", "upload_versions", "uploads_per_second", "lost", "wrong_version", "wrong_bytes", "dishonest"),
        *("stuck", "dlq", "dlq_unexplained", "result_versions", "invocations", "deliveries_per_upload", "seconds"),
    )
    lines = [f"{'':24}" + "".join(f"{name:>14}" for name in reports)]
    for row in rows:
        lines.append(f"{row:24}" + "".join(f"{report[row]!s:>14}" for report in reports.values()))
    redriven = (report.get("after_redrive") for report in reports.values())
    lines.append(f"{'lost after redrive':24}" + "".join(f"{r['lost'] if r else '':>14}" for r in redriven))
    for quantile in ("p50", "p95", "p99"):
        values = (report["latency_s"].get(quantile, "") for report in reports.values())
        lines.append(f"{f'latency {quantile} (s)':24}" + "".join(f"{value!s:>14}" for value in values))
    return "\n".join(lines)


def published(reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The table of the documents: a row per run."""
    columns = ["run", "uploads", "uploads/s", "p50 (s)", "p95 (s)", "lost", "wrong version", "stuck", "dead letters"]
    rows = [
        [
            {"clean": "undisturbed", "faults": "under faults"}[name],
            report["upload_versions"],
            report["uploads_per_second"],
            report["latency_s"]["p50"],
            report["latency_s"]["p95"],
            *(report[promise] for promise in ("lost", "wrong_version", "stuck", "dlq")),
        ]
        for name, report in reports.items()
    ]
    loads = ", ".join(str(report["load_average_before"]) for report in reports.values())
    note = (
        "Faults: 10 % of events twice, 5 % out of order, 3 % of uploads overwritten, the function killed every few "
        "seconds, 2 % of S3 calls answered 503, a promotion midway, its model damaged once. Latency: upload to result. "
        "Speed of the undisturbed run: its part under full load. Local AWS with two function processes and a tiny "
        f"model: it measures the path, not VGG16. Load average of the machine before each run: {loads}."
    )
    return {"columns": columns, "rows": rows, "note": note}


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--uploads", type=int, default=2000, help="files per run (default 2000)")
    parser.add_argument("--bundle", type=Path, help="a bundle to serve (default: one trained on synthetic films)")
    parser.add_argument("--only", choices=("clean", "faults"), help="one of the two runs")
    parser.add_argument("--kill-seconds", type=float, default=KILL_SECONDS, help="mean time between kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    logging.getLogger("local_aws").setLevel(logging.ERROR)
    model = load(find_bundle(options.bundle))
    runs: dict[str, Callable[[Run], dict[str, Any]]] = {
        "clean": lambda run: undisturbed(run, model, options.uploads),
        "faults": lambda run: disturbed(run, model, options.uploads, options.kill_seconds),
    }
    reports = {}
    for name in [options.only] if options.only else list(runs):
        say(f"run: {name}")
        reports[name] = on_local_aws(runs[name], options.seed)
    print(table(reports))
    settings = {
        "uploads": options.uploads,
        "model": {"precision": model.bundle.precision, "weights": model.bundle.weights.get("label")},
        "visibility_timeout_s": VISIBILITY_SECONDS,
        "kill_every_s": options.kill_seconds,
        "s3_503_share": BUSY_SHARE,
        "overwritten_share": OVERWRITTEN,
        "seed": options.seed,
    }
    path = record("pipeline", {"settings": settings, **reports, "tables": {"pipeline": published(reports)}})
    print(f"written to {path}")
    return 0 if all(good(report) for report in reports.values()) else 1


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
