"""The run under faults: events twice or late, uploads overwritten, the function killed, S3 busy, and a second model
promoted midway whose file is damaged for a while. The faults end when every upload has been answered or given up; then
the dead letters are sent back, and no promise may be broken any more.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.faults import FaultProxy, Killer, Tap, explain
from benchmarks.load import File, Files
from benchmarks.local_run import Run, say
from benchmarks.releases import Model, another

OVERWRITTEN = 0.03
BUSY_SHARE = 0.02
DAMAGED_SECONDS = 15.0
PROMOTE_AT = 0.4


def disturbed(run: Run, model: Model, uploads: int, kill_seconds: float) -> dict[str, Any]:
    """The figures of the run, of what was injected, and of the time after the faults."""
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
        self._thread = threading.Thread(target=self._promote_damaged)

    def watch(self, files: Iterator[File]) -> Iterator[File]:
        for number, file in enumerate(files):
            if number == self._after:
                self._thread.start()
            yield file

    def finish(self) -> None:
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
    chance = random.Random(seed)
    pending: list[tuple[int, str]] = []
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
    port, function = urlsplit(run.aws.endpoint).port or 0, run.outputs["FunctionName"]
    tap = Tap(run.aws.client("sqs"), tap_url, run.queue, run.journal, run.seed)
    killer = Killer(lambda: run.aws.processes().get(function, []), kill_seconds, run.journal, run.seed)
    with FaultProxy(port, BUSY_SHARE, run.seed, folder / "failures.jsonl") as proxy:
        point_function_at(run, proxy.endpoint)
        with tap, killer:
            yield tap_url, proxy


def point_function_at(run: Run, endpoint: str) -> None:
    """Send the function's AWS calls through `endpoint`."""
    client, name = run.aws.client("lambda"), run.outputs["FunctionName"]
    variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "AWS_ENDPOINT_URL": endpoint}}
    )
