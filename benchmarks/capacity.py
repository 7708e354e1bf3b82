"""How the path scales past one machine, by simulation: `python -m benchmarks.capacity [--no-check]`.

A discrete-event model of uploads queue -> event source -> function: arrivals, batching window, growth of concurrency,
cold starts, service times, killed invocations, failed messages, visibility, dead letters. Before it is believed, it
predicts a run on the local AWS (real queue, real pollers, a function that only waits) and both are recorded.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.costs import PRICES, idle, per_million, per_retraining
from benchmarks.record import record

VNNI_SECONDS, AVX2_SECONDS = 0.136, 0.424
"""One film on one vCPU: inference 53 ms with AVX-512 VNNI (341 with AVX2), decode 8, heat map and JSON 15, S3 60."""
SPREAD = 0.25
"""Standard deviation of a film's time as a share of its mean (films differ in size, S3 in latency)."""
OVERHEAD_SECONDS = 0.02
COLD_SECONDS = 2.5
"""Image pull from Lambda's cache, imports and the model's download and self-test; an assumption."""
MEMORY_GB = 1769 / 1024
TOLERANCE = 0.15
"""Largest relative difference between prediction and run in throughput, latency and deliveries."""


@dataclass(frozen=True)
class System:
    """One event source and its function. Times in seconds; `start` and `per_minute` are AWS's growth of concurrency."""

    concurrency: int = 50
    film_seconds: float = VNNI_SECONDS
    films_per_message: int = 1
    batch: int = 10
    window: float = 1.0
    visibility: float = 720.0
    max_receives: int = 5
    cold_seconds: float = COLD_SECONDS
    overhead_seconds: float = OVERHEAD_SECONDS
    spread: float = SPREAD
    fail_share: float = 0.0
    kill_share: float = 0.0
    start: int = 5
    per_minute: int = 300


def throughput(ended: Sequence[float] | np.ndarray) -> float:
    """Messages per second until nine tenths are acknowledged: the last ones may wait for their second delivery."""
    until = float(np.quantile(ended, 0.9))
    return 0.9 * len(ended) / until


@dataclass(frozen=True)
class Outcome:
    """What became of the messages. ended: when each was acknowledged (s); latencies: how long after its arrival."""

    messages: int
    seconds: float
    latencies: np.ndarray
    ended: np.ndarray
    invocations: int
    deliveries: int
    dead: int
    cold_starts: int
    busy_seconds: float
    peak_concurrency: int

    def throughput(self) -> float:
        return throughput(self.ended)

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share)) if len(self.latencies) else math.nan


@dataclass(slots=True)
class _Message:
    arrived: float
    fails: int = 0
    receives: int = 0


class _Run:
    """The state of one simulation."""

    def __init__(self, system: System, seed: int) -> None:
        self.system, self.random = system, np.random.default_rng(seed)
        self.queue: deque[tuple[float, _Message]] = deque()  # (visible since, message)
        self.events: list[tuple[float, int, str, Any]] = []
        self.order = count()
        self.busy = self.warm = self.peak = 0
        self.grows_since = 0.0
        self.wake_at = math.inf
        self.invocations = self.deliveries = self.dead = self.cold = 0
        self.busy_seconds = 0.0
        self.latencies: list[float] = []
        self.ended: list[float] = []

    def at(self, when: float, what: str, payload: Any = None) -> None:
        heapq.heappush(self.events, (when, next(self.order), what, payload))

    def limit(self, now: float) -> int:
        """Invocations at a time that the event source allows itself by now."""
        grown = self.system.start + (now - self.grows_since) * self.system.per_minute / 60
        return min(self.system.concurrency, int(grown))

    def arrive(self, now: float, message: _Message) -> None:
        if not self.queue and not self.busy:
            self.grows_since = now
        self.queue.append((now, message))

    def dispatch(self, now: float) -> None:
        """Start every invocation that may start now, and plan the next look."""
        s = self.system
        while self.queue and self.busy < self.limit(now):
            oldest = self.queue[0][0]
            if len(self.queue) < s.batch and now < oldest + s.window - 1e-9:
                self.wake(now, oldest + s.window)
                return
            self.invoke(now, [self.queue.popleft()[1] for _ in range(min(s.batch, len(self.queue)))])
        if self.queue and self.limit(now) < s.concurrency:
            self.wake(now, now + 60 / s.per_minute)

    def wake(self, now: float, when: float) -> None:
        if not now < self.wake_at <= when:
            self.wake_at = when
            self.at(when, "wake")

    def invoke(self, now: float, batch: list[_Message]) -> None:
        s = self.system
        films = len(batch) * s.films_per_message
        mean, deviation = films * s.film_seconds, s.film_seconds * s.spread * math.sqrt(films)
        lasts = s.overhead_seconds + max(mean / 4, self.random.normal(mean, deviation))
        if self.warm:
            self.warm -= 1
        else:
            self.cold += 1
            lasts += s.cold_seconds
        killed = s.kill_share > 0 and self.random.random() < s.kill_share
        if killed:
            lasts *= self.random.random()
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        self.invocations += 1
        self.deliveries += len(batch)
        self.busy_seconds += lasts
        self.at(now + lasts, "done", (now, batch, killed))

    def done(self, now: float, began: float, batch: list[_Message], killed: bool) -> None:
        self.busy -= 1
        self.warm += not killed
        for message in batch:
            message.receives += 1
            failed = message.receives <= message.fails or self.random.random() < self.system.fail_share
            if not killed and not failed:
                self.latencies.append(now - message.arrived)
                self.ended.append(now)
            elif message.receives >= self.system.max_receives:
                self.dead += 1
            else:
                self.at(max(now, began + self.system.visibility), "again", message)


def simulate(
    arrivals: Sequence[float] | np.ndarray,
    system: System,
    seed: int = 0,
    fails: Sequence[int] | np.ndarray | None = None,
) -> Outcome:
    """Runs messages that arrive at sorted times (s) through the system until none is left.

    `fails` says of each message how many of its first deliveries fail, beside what `system.fail_share` adds.
    """
    run, last = _Run(system, seed), 0.0
    coming = deque(zip(arrivals, np.zeros(len(arrivals), int) if fails is None else fails, strict=True))
    while coming or run.events:
        if coming and (not run.events or coming[0][0] <= run.events[0][0]):
            now = coming[0][0]
            while coming and coming[0][0] == now:  # a backlog is there at once
                run.arrive(now, _Message(*coming.popleft()))
        else:
            now, _, what, payload = heapq.heappop(run.events)
            if what == "done":
                run.done(now, *payload)
                last = now
            elif what == "again":
                run.arrive(now, payload)
        run.dispatch(now)
    latencies, ended = np.array(run.latencies), np.array(run.ended)
    return Outcome(len(arrivals), last, latencies, ended, run.invocations, run.deliveries, run.dead, run.cold,
                   run.busy_seconds, run.peak)  # fmt: skip


# ---------------------------------------------------------------- the two questions


def backlog(films: int = 1_000_000) -> Iterator[list[Any]]:
    """Rows of the table: films that lie there already, ten to a message, one message to an invocation."""
    for chip, seconds in (("AVX-512 VNNI", VNNI_SECONDS), ("AVX2 only", AVX2_SECONDS)):
        for concurrency in (40, 100, 300, 1000):
            system = System(concurrency, seconds, films_per_message=10, batch=1, window=0.0)
            outcome = simulate(np.zeros(films // 10), system)
            yield [chip, concurrency, round(outcome.seconds / 3600, 2), round(films / outcome.seconds),
                   outcome.cold_starts, round(outcome.busy_seconds * MEMORY_GB / 1e6, 3)]  # fmt: skip


def stream(rate: float = 100.0, minutes: float = 10.0) -> Iterator[list[Any]]:
    """Rows of the table: new films at a constant mean rate, from a standing start."""
    gaps = np.random.default_rng(1).exponential(1 / rate, round(rate * minutes * 60))
    for chip, seconds in (("AVX-512 VNNI", VNNI_SECONDS), ("AVX2 only", AVX2_SECONDS)):
        for concurrency in (10, 20, 50, 100):
            outcome = simulate(np.cumsum(gaps), System(concurrency, seconds))
            keeps_up = rate * seconds < concurrency and outcome.seconds < minutes * 60 + 30
            waits = (round(outcome.quantile(q), 1) for q in (0.5, 0.95, 0.99))
            yield [chip, concurrency, "yes" if keeps_up else "no", *waits, outcome.peak_concurrency,
                   round(outcome.messages / outcome.invocations, 1)]  # fmt: skip


def bad_day(rate: float = 100.0, minutes: float = 10.0) -> Iterator[list[Any]]:
    """Rows of the table: the same stream while something goes wrong."""
    gaps = np.random.default_rng(2).exponential(1 / rate, round(rate * minutes * 60))
    for name, trouble in (
        ("nothing", {}),
        ("1 % of the invocations are killed", {"kill_share": 0.01}),
        ("2 % of the films fail once in a while", {"fail_share": 0.02}),
        ("every fourth film fails", {"fail_share": 0.25}),
    ):
        outcome = simulate(np.cumsum(gaps), replace(System(), **trouble))
        yield [name, round(outcome.deliveries / outcome.messages, 3), outcome.dead,
               *(round(outcome.quantile(q), 1) for q in (0.5, 0.99)), round(outcome.seconds / 60)]  # fmt: skip


# ---------------------------------------------------------------- the check against the local AWS

FUNCTION = """
import json, time

def handler(event, context):
    failed = []
    for record in event["Records"]:
        film = json.loads(record["body"])
        time.sleep(film.get("seconds", 0))
        if int(record["attributes"]["ApproximateReceiveCount"]) <= film.get("fails", 0):
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
"""


def check(films: int = 400, rate: float = 25.0, seed: int = 3) -> dict[str, Any]:
    """Sends films through the local AWS's queue and pollers, and predicts the same run; both in one dict."""
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1 / rate, films))
    lasting = np.maximum(0.005, random.normal(0.05, 0.0125, films))
    failing = random.geometric(0.95, films) - 1
    measured = _on_local_aws(arrivals, lasting, failing, visibility=6)
    model = System(concurrency=2, film_seconds=float(np.mean(lasting)), window=1.0, visibility=6.0, cold_seconds=0.4,
                   overhead_seconds=measured.pop("overhead_s"), start=2)  # fmt: skip
    outcome = simulate(arrivals, model, seed, failing)
    predicted = {
        "films_per_s": outcome.throughput(),
        "p50_s": outcome.quantile(0.5),
        "p95_s": outcome.quantile(0.95),
        "deliveries_per_film": outcome.deliveries / films,
        "films_per_invocation": outcome.deliveries / outcome.invocations,
    }
    off = {
        name: abs(predicted[name] / measured[name] - 1)
        for name in ("films_per_s", "p50_s", "p95_s", "deliveries_per_film")
    }
    rounded = ({name: round(value, 3) for name, value in d.items()} for d in (measured, predicted, off))
    return dict(zip(("measured", "predicted", "relative_difference"), rounded, strict=True)) | {"films": films}


def _on_local_aws(arrivals: np.ndarray, lasting: np.ndarray, failing: np.ndarray, visibility: int) -> dict[str, float]:
    """Figures of the real run; deliveries come from the pollers' own record, not from the function."""
    from infra.session import open_session
    from infra.stacks import deploy
    from local_aws.demo import local_config
    from local_aws.server import LocalAWS

    deliveries: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "waiting.py").write_text(FUNCTION)
        images = {"inference": [sys.executable, "-m", "awslambdaric", "waiting.handler"]}
        with LocalAWS(images=images, cwd=Path(folder), on_delivery=deliveries.append) as aws:
            config = local_config(aws.endpoint)
            queue = deploy(open_session(config), config, say=lambda line: None)["UploadsQueueUrl"]
            sqs = aws.client("sqs")
            sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": str(visibility)})
            sent: dict[str, float] = {}
            began = time.time()
            for due, seconds, fails in zip(arrivals, lasting, failing, strict=True):
                time.sleep(max(0.0, began + due - time.time()))
                body = json.dumps({"seconds": round(float(seconds), 4), "fails": int(fails)})
                sent[sqs.send_message(QueueUrl=queue, MessageBody=body)["MessageId"]] = time.time()
            done: dict[str, float] = {}
            deadline = time.time() + 120
            while len(done) < len(sent) and time.time() < deadline:
                time.sleep(0.5)
                done = {m: d.ended for d in list(deliveries) for m in d.messages if m in sent and m not in d.failed}
    if len(done) < len(sent):
        raise RuntimeError(f"{len(sent) - len(done)} of {len(sent)} films were not acknowledged within two minutes")
    mine = [d for d in deliveries if set(d.messages) <= set(sent)]
    delivered = sum(len(d.messages) for d in mine)
    asleep = sum(json.loads(body)["seconds"] for d in mine for body in d.bodies)
    waited = [done[message] - sent[message] for message in sent]
    return {
        "films_per_s": throughput([ended - began for ended in done.values()]),
        "p50_s": float(np.quantile(waited, 0.5)),
        "p95_s": float(np.quantile(waited, 0.95)),
        "deliveries_per_film": delivered / len(sent),
        "films_per_invocation": delivered / len(mine),
        "overhead_s": max(0.0, sum(d.ended - d.started for d in mine) - asleep) / len(mine),
    }


def main(argv: list[str]) -> int:
    """Writes build/bench/capacity.json; 1 if the model does not predict the local run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--no-check", action="store_true", help="simulate only; the result cannot be published then")
    options = parser.parse_args(argv)
    note = "Simulated, not run on AWS: 136 ms a film with AVX-512 VNNI, 424 ms with AVX2 only, of which 60 ms are S3."
    per_film = (seconds + OVERHEAD_SECONDS / System().batch for seconds in (VNNI_SECONDS, AVX2_SECONDS))
    tables = {
        "capacity_backlog": {
            "columns": ["CPU", "concurrency", "hours", "films/s", "cold starts", "million GB-s"],
            "rows": list(backlog()), "note": note,
        },
        "capacity_stream": {
            "columns": ["CPU", "concurrency", "keeps up", "p50 (s)", "p95 (s)", "p99 (s)", "peak", "films/invocation"],
            "rows": list(stream()), "note": note,
        },
        "capacity_bad_day": {
            "columns": ["trouble", "deliveries/film", "dead letters", "p50 (s)", "p99 (s)", "minutes"],
            "rows": list(bad_day()), "note": note + " Concurrency 50, ten minutes of films.",
        },
        "cost_per_million": {
            "columns": ["$ per million films", "AVX-512 VNNI", "AVX2 only"],
            "rows": list(per_million(*per_film, MEMORY_GB)),
            "note": "Computed from list prices.",
        },
        "cost_per_retraining": {
            "columns": ["what is trained", "instance", "minutes (assumed)", "$"], "rows": list(per_retraining()),
            "note": "Computed from list prices; spot takes 50 to 70 % off.",
        },
        "cost_idle": {"columns": ["idle", "$ a month"], "rows": list(idle()), "note": "Computed from list prices."},
    }  # fmt: skip
    payload: dict[str, Any] = {"system": asdict(System()), "prices": PRICES, "tables": tables}
    agrees = True
    if not options.no_check:
        payload["check"] = checked = check()
        agrees = max(checked["relative_difference"].values()) <= TOLERANCE
        print(json.dumps(checked, indent=2))
    for name, table in tables.items():
        print(
            f"\n{name}\n"
            + "\n".join("  ".join(f"{cell!s:>14}" for cell in row) for row in [table["columns"], *table["rows"]])
        )
    print(f"\nwritten to {record('capacity', payload)}")
    if not agrees:
        print(
            f"the model differs from the local run by more than {TOLERANCE:.0%}: it must not be believed",
            file=sys.stderr,
        )
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
