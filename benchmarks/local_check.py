"""The model against runs on the local AWS: its real queue, pollers and processes, with a function that only waits.

Rule: nothing that is fitted comes from a run that is predicted. What the local AWS itself adds to the function is
measured in a calibration run first; every other input is what queue, event source and function were told. All inputs
are recorded, so that each prediction can be computed again from the result file.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.queueing import Outcome, System, simulate

TOLERANCE = 0.15
"""Largest relative difference between prediction and run in any of the figures."""
SEEDS = range(5)
"""A prediction is the median over these."""
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


def local(film_seconds: float, concurrency: int, **settings: Any) -> System:
    """A System on the local AWS: each of its pollers gathers a batch of its own, and all are there at once."""
    told: dict[str, Any] = {"window": 1.0, "cold_seconds": 0.0, "overhead_seconds": 0.0, "visibility": 60.0, **settings}
    return System(film_seconds, concurrency=concurrency, readers=concurrency, start=concurrency, **told)


@dataclass(frozen=True)
class Regime:
    """One run. system: what is configured; rate: messages a second at random moments, or `even` ones, None for all at
    once; fails: share of deliveries that fail; kills: share of messages whose first delivery kills the function.
    """

    name: str
    system: System
    messages: int
    rate: float | None = None
    even: bool = False
    fails: float = 0.0
    kills: float = 0.0
    seed: int = 3


CALIBRATION = Regime("calibration", local(0.02, 4), 120, 25.0)
REGIMES = (
    Regime("backlog, 2 at a time", local(0.03, 2, films_per_message=10, batch=1, window=0.0), 50),
    Regime("backlog, 4 at a time, from cold", local(0.03, 4, films_per_message=10, batch=1, window=0.0,
                                                    cold_seconds=4.0), 80),
    Regime("stream", local(0.05, 2, overhead_seconds=0.1), 240, 15.0),
    Regime("trickle", local(0.2, 2, overhead_seconds=0.6), 12, 0.5, even=True),
    Regime("stream, films fail", local(0.05, 4, visibility=3.0, max_receives=2), 240, 20.0, fails=0.35),
    Regime("stream, function killed", local(0.05, 4, visibility=5.0, cold_seconds=1.0), 360, 20.0, kills=0.03),
)  # fmt: skip


def arrivals(regime: Regime) -> np.ndarray:
    """When each message is sent (s)."""
    if regime.rate is None:
        return np.zeros(regime.messages)
    if regime.even:
        return np.arange(regime.messages) / regime.rate
    return np.cumsum(np.random.default_rng(regime.seed).exponential(1 / regime.rate, regime.messages))


def films(regime: Regime) -> np.ndarray:
    """How long each film of each message takes (s)."""
    s, random = regime.system, np.random.default_rng(regime.seed + 1)
    drawn = random.normal(s.film_seconds, s.spread * s.film_seconds, (regime.messages, s.films_per_message))
    return np.maximum(drawn, s.film_seconds / 4).round(4)


def troubles(regime: Regime) -> tuple[np.ndarray, np.ndarray]:
    """Of each message, how many of its first deliveries fail, and kill the function."""
    random = np.random.default_rng(regime.seed + 2)
    fails = random.geometric(1 - regime.fails, regime.messages) - 1
    return fails, (random.random(regime.messages) < regime.kills).astype(int)


def figures(
    ended: Sequence[float] | np.ndarray, latencies: Sequence[float] | np.ndarray, films_per_message: int,
    messages: int, deliveries: int, invocations: int, dead: int,
) -> dict[str, float]:  # fmt: skip
    """What is compared. Films per second count until nine tenths are acknowledged: the last may wait for a retry."""
    found = {
        "films_per_s": 0.9 * len(ended) * films_per_message / float(np.quantile(ended, 0.9)),
        "p50_s": float(np.quantile(latencies, 0.5)),
        "p95_s": float(np.quantile(latencies, 0.95)),
        "deliveries_per_film": deliveries / messages,
        "films_per_invocation": deliveries * films_per_message / invocations,
    }
    return {**found, "dead_share": dead / messages} if dead else found


def of_outcome(outcome: Outcome, films_per_message: int) -> dict[str, float]:
    return figures(outcome.ended, outcome.latencies, films_per_message, outcome.messages, outcome.deliveries,
                   outcome.invocations, outcome.dead)  # fmt: skip


def median_of(outcomes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's median."""
    return {name: statistics.median(one[name] for one in outcomes) for name in outcomes[0]}


def predicted(regime: Regime, warm: int) -> dict[str, float]:
    """The model's figures of a run of `regime` whose system includes what the local AWS adds."""
    fails, kills = troubles(regime)
    outcomes = (simulate(arrivals(regime), regime.system, seed, fails=fails, kills=kills, warm=warm) for seed in SEEDS)
    return median_of([of_outcome(outcome, regime.system.films_per_message) for outcome in outcomes])


def difference(expected: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    """Relative difference of each figure; infinite where one side lacks it."""
    names = {**expected, **found}
    return {name: abs(expected[name] / found[name] - 1) if {name} <= expected.keys() & found.keys() else float("inf")
            for name in names}  # fmt: skip


# ---------------------------------------------------------------- the run


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
    from local_aws.demo import local_config
    from local_aws.event_source import WAIT_SECONDS

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


# ---------------------------------------------------------------- calibration and check


@dataclass(frozen=True)
class Additions:
    """What the local AWS adds to a function that only waits (s)."""

    per_invocation: float
    per_message: float
    per_cold_start: float


def fitted(served: Sequence[Served]) -> Additions:
    """Least squares over the warm batches; cold starts take the rest. Nothing is ever below 0."""
    warm = [one for one in served if not one.cold]
    extra = np.array([one.seconds - one.slept for one in warm])
    sizes = np.array([one.messages for one in warm])
    slope, intercept = np.polyfit(sizes, extra, 1) if len(set(sizes)) > 1 else (0.0, float(extra.mean()))
    slope, intercept = (max(0.0, float(value)) for value in (slope, intercept))
    cold = [one.seconds - one.slept - intercept - slope * one.messages for one in served if one.cold]
    return Additions(intercept, slope, max(0.0, statistics.median(cold)) if cold else 0.0)


def with_additions(regime: Regime, added: Additions) -> Regime:
    """The regime as the model is given it: the films' real mean, and what the local AWS adds."""
    s = regime.system
    system = replace(
        s,
        film_seconds=round(float(films(regime).mean()) + added.per_message / s.films_per_message, 5),
        overhead_seconds=round(s.overhead_seconds + added.per_invocation, 5),
        cold_seconds=round(s.cold_seconds + added.per_cold_start, 5),
    )
    return replace(regime, system=system)


def compared(regime: Regime, added: Additions) -> dict[str, Any]:
    """One regime run and predicted."""
    run = measure(regime)
    inputs = with_additions(regime, added)
    expected = predicted(inputs, run.warm)
    return {
        "inputs": {**asdict(inputs), "warm": run.warm},
        "measured": rounded(run.figures),
        "predicted": rounded(expected),
        "difference": rounded(difference(expected, run.figures)),
    }


def again(inputs: Mapping[str, Any]) -> dict[str, float]:
    """The prediction from the inputs of a result file."""
    rest = {name: value for name, value in inputs.items() if name not in ("system", "warm")}
    return rounded(predicted(Regime(system=System(**inputs["system"]), **rest), inputs["warm"]))


def check(say: Callable[[str], None]) -> dict[str, Any]:
    """Calibration, then every regime; takes two to three minutes."""
    load = os.getloadavg()[0]
    say("calibration: what the local AWS adds")
    added = fitted(measure(CALIBRATION).served)
    regimes = []
    for regime in REGIMES:
        say(regime.name)
        regimes.append(compared(regime, added))
    return {
        "load_average_before": round(load, 2),
        "tolerance": TOLERANCE,
        "calibration": rounded(asdict(added), 4),
        "regimes": regimes,
    }


def rounded(values: Mapping[str, float], digits: int = 3) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}
