"""A regime on the local AWS: its real queue, pollers and processes, with a function that only waits.

Rule: what is measured comes from the pollers' own record and from the function's clock, never from the model.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.queueing import System
from benchmarks.regimes import Regime, arrivals, figures, films, troubles

PATIENCE_SECONDS = 90.0
FUNCTION = """
import json, os, time

time.sleep({cold_seconds})
cold = 1

def handler(event, context):
    global cold
    time.sleep({overhead_seconds})
    failed = []
    for record in event["Records"]:
        message = json.loads(record["body"])
        received = int(record["attributes"]["ApproximateReceiveCount"])
        for seconds in message.get("films", []):
            time.sleep(seconds)
        if received <= message.get("kills", 0):
            os._exit(1)
        if received <= message.get("fails", 0):
            failed.append({{"itemIdentifier": record["messageId"]}})
        else:
            with open({answers!r}, "a") as answers:
                answers.write(f"{{record['messageId']}} {{time.time()}} {{cold}}\\n")
        cold = 0
    return {{"batchItemFailures": failed}}
"""


@dataclass(frozen=True)
class Served:
    """One batch: its messages, how long the poller was busy with it, how long the function slept, whether it was the
    process's first.
    """

    messages: int
    seconds: float
    slept: float
    cold: bool


@dataclass(frozen=True)
class Measured:
    """A run: the figures, the batches of messages that had one answer each, and processes warm before it began."""

    figures: dict[str, float]
    served: list[Served]
    warm: int


@dataclass
class _Watch:
    """What the pollers and the function report."""

    sent: dict[str, float] = field(default_factory=dict)
    deliveries: list[Any] = field(default_factory=list)

    def mine(self) -> list[Any]:
        return [delivery for delivery in list(self.deliveries) if set(delivery.messages) <= set(self.sent)]

    def acknowledged(self) -> dict[str, float]:
        return {m: d.ended for d in self.mine() for m in d.messages if m not in d.failed}

    def dead(self, max_receives: int) -> int:
        failures = Counter(message for delivery in self.mine() for message in delivery.failed)
        return sum(times >= max_receives for times in failures.values())


def measure(regime: Regime) -> Measured:
    """Runs a regime on a fresh local AWS. Raises RuntimeError if messages are left over."""
    from local_aws.server import LocalAWS

    watch = _Watch()
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers"
        (Path(folder) / "waiting.py").write_text(FUNCTION.format(**asdict(regime.system), answers=str(answers)))
        images = {"inference": [sys.executable, "-m", "awslambdaric", "waiting.handler"]}
        with LocalAWS(
            images=images, cwd=Path(folder), concurrency=regime.system.concurrency, on_delivery=watch.deliveries.append
        ) as aws:
            queue = _deployed(aws, regime.system)
            _until(lambda: watch.deliveries, 15.0)  # S3's test event warms a process
            warm = sum(map(len, aws.processes().values()))
            began = time.time()
            _send(aws.client("sqs"), queue, regime, watch.sent)
            receives = regime.system.max_receives
            settled = lambda: len(watch.acknowledged()) + watch.dead(receives) == len(watch.sent)  # noqa: E731
            if not _until(settled, PATIENCE_SECONDS):
                raise RuntimeError(f"{regime.name}: messages were left over after {PATIENCE_SECONDS:.0f} s")
            lines = [line.split() for line in answers.read_text().splitlines()]
    first: dict[str, tuple[float, bool]] = {}
    for message, when, cold in lines:
        if message in watch.sent:
            first.setdefault(message, (float(when), bool(int(cold))))
    mine = watch.mine()
    found = figures(
        [ended - began for ended in watch.acknowledged().values()],
        [when - watch.sent[message] for message, (when, _) in first.items()],
        regime.system.films_per_message, len(watch.sent), sum(len(d.messages) for d in mine), len(mine),
        watch.dead(receives),
    )  # fmt: skip
    served = [
        Served(len(d.messages), d.ended - d.started, sum(sum(json.loads(body)["films"]) for body in d.bodies),
               first[d.messages[0]][1])
        for d in mine if not d.failed
    ]  # fmt: skip
    return Measured(found, served, warm)


def _deployed(aws: Any, system: System) -> str:
    """The uploads queue's address on a local AWS that is configured as `system` says."""
    from infra.session import open_session
    from infra.stacks import deploy
    from local_aws.deployment import local_config
    from local_aws.services.event_source import WAIT_SECONDS

    config = replace(
        local_config(aws.endpoint),
        uploads_concurrency=system.concurrency,
        batch_size=system.batch,
        batching_window=int(system.window),
        max_receive_count=system.max_receives,
    )
    queue = deploy(open_session(config), config, say=lambda line: None)["UploadsQueueUrl"]
    visibility = {"VisibilityTimeout": str(int(system.visibility))}
    aws.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes=visibility)
    time.sleep(2 * WAIT_SECONDS)  # a poll that began earlier still has the timeout of the template
    return queue


def _send(sqs: Any, queue: str, regime: Regime, sent: dict[str, float]) -> None:
    """Sends every message at its time; those that are due together go ten to a call."""
    fails, kills = troubles(regime)
    bodies = [
        json.dumps({"films": seconds, "fails": int(f), "kills": int(k)})
        for seconds, f, k in zip(films(regime).tolist(), fails, kills, strict=True)
    ]
    due, began = arrivals(regime), time.time()
    size = 10 if regime.rate is None else 1
    for first in range(0, len(bodies), size):
        time.sleep(max(0.0, began + due[first] - time.time()))
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[first : first + size])]
        now = time.time()
        answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        sent.update({entry["MessageId"]: now for entry in answer["Successful"]})


def _until(condition: Callable[[], Any], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return bool(met)
