"""The path as a discrete-event model: messages -> queue -> event source -> function. All times are seconds.

Rule: every mechanism but AWS's growth of concurrency (`start`, `per_minute`) is one that the local AWS has too, so that
a run there can contradict the model (benchmarks.local_check).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from infra.config import Config

OVERHEAD_SECONDS = 0.02
"""Per invocation: what Lambda, the runtime and the event's parsing add to its films; an assumption."""
COLD_SECONDS = 2.5
"""Image from Lambda's cache, imports, the model's download and self-test. An assumption: from process start to first
verdict with the model on disk benchmarks/results/inference.json has 1.6."""
SPREAD = 0.25
"""Standard deviation of a film's time as a share of its mean (films differ in size, S3 in latency); an assumption."""
START, PER_MINUTE = 5, 300
"""AWS's documentation of SQS event sources: five batches at a time to begin with, up to 300 more a minute."""
_DEPLOYED = Config()


@dataclass(frozen=True)
class System:
    """One event source and its function; by default that of new uploads, as infra.config deploys it.

    readers: batches that are gathered at the same time at most; start, per_minute: AWS's growth of concurrency.
    """

    film_seconds: float
    films_per_message: int = 1
    concurrency: int = _DEPLOYED.uploads_concurrency
    batch: int = _DEPLOYED.batch_size
    window: float = _DEPLOYED.batching_window
    visibility: float = _DEPLOYED.visibility_timeout
    max_receives: int = _DEPLOYED.max_receive_count
    cold_seconds: float = COLD_SECONDS
    overhead_seconds: float = OVERHEAD_SECONDS
    spread: float = SPREAD
    readers: int = START
    start: int = START
    per_minute: int = PER_MINUTE


@dataclass(frozen=True)
class Uploader:
    """Sends `files` in bursts that take burst_seconds each; while more than waits_above messages wait it looks again
    every looks_every seconds.
    """

    files: int
    burst: int
    burst_seconds: float
    waits_above: int
    looks_every: float


@dataclass(frozen=True)
class Outcome:
    """What became of the messages. answered: when each had its answer first; latencies: how long that was after its
    arrival; ended: when each was acknowledged; busy_seconds: what Lambda bills, cold starts included.
    """

    messages: int
    seconds: float
    answered: np.ndarray
    latencies: np.ndarray
    ended: np.ndarray
    invocations: int
    deliveries: int
    dead: int
    cold_starts: int
    busy_seconds: float
    peak_concurrency: int

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share)) if len(self.latencies) else math.nan


@dataclass(slots=True, eq=False)
class _Message:
    """fails, kills: how many of its first deliveries fail, and end the process that reads it."""

    arrived: float
    fails: int = 0
    kills: int = 0
    receives: int = 0
    taken: float = 0.0
    answered: bool = False


class _Run:
    """The state of one simulation."""

    def __init__(self, system: System, seed: int, warm: int) -> None:
        self.system, self.random = system, np.random.default_rng(seed)
        self.queue: deque[_Message] = deque()
        self.gathering: dict[int, list[_Message]] = {}
        self.events: list[tuple[float, int, str, Any]] = []
        self.order = count()
        self.busy = self.peak = self.invocations = self.deliveries = self.dead = self.cold = 0
        self.warm, self.grows_since, self.wake_at = warm, 0.0, math.inf
        self.busy_seconds = self.last = 0.0
        self.answered: list[float] = []
        self.latencies: list[float] = []
        self.ended: list[float] = []

    def at(self, when: float, what: str, payload: Any = None) -> int:
        number = next(self.order)
        heapq.heappush(self.events, (when, number, what, payload))
        return number

    def limit(self, now: float) -> int:
        """Invocations at a time that the event source allows itself by now."""
        grown = self.system.start + (now - self.grows_since) * self.system.per_minute / 60
        return min(self.system.concurrency, int(grown))

    def arrive(self, now: float, message: _Message) -> None:
        if not (self.queue or self.busy or self.gathering):
            self.grows_since = now
        self.queue.append(message)

    def upload(self, now: float, sender: Uploader, left: int) -> None:
        """The closed loop: another burst, or another look."""
        if len(self.queue) > sender.waits_above:
            self.at(now + sender.looks_every, "upload", (sender, left))
            return
        burst = min(sender.burst, left)
        for number in range(1, burst + 1):
            when = now + sender.burst_seconds * number / sender.burst
            self.at(when, "arrive", _Message(when))
        if left > burst:
            self.at(now + sender.burst_seconds, "upload", (sender, left - burst))

    def dispatch(self, now: float) -> None:
        """Hand what waits to the readers that may take it: each one that gathers or idles is as likely as the next."""
        s = self.system
        while self.queue:
            open_batches = list(self.gathering)
            idle = min(s.readers, self.limit(now) - self.busy) - len(open_batches)
            choices = max(0, idle) + len(open_batches)
            if not choices:
                break
            pick = int(self.random.integers(choices)) if choices > 1 else 0
            if pick < len(open_batches):
                self.fill(now, self.gathering[open_batches[pick]])
                if len(self.gathering[open_batches[pick]]) == s.batch:
                    self.invoke(now, self.gathering.pop(open_batches[pick]))
                continue
            batch = self.fill(now, [])
            if len(batch) == s.batch or not s.window:
                self.invoke(now, batch)
            else:
                number = self.at(now + s.window, "window")
                self.gathering[number] = batch
        if self.queue and self.limit(now) < s.concurrency:
            self.wake(now, now + 60 / s.per_minute)

    def fill(self, now: float, batch: list[_Message]) -> list[_Message]:
        for _ in range(min(len(self.queue), self.system.batch - len(batch))):
            message = self.queue.popleft()
            message.taken, message.receives = now, message.receives + 1
            batch.append(message)
        return batch

    def wake(self, now: float, when: float) -> None:
        if not now < self.wake_at <= when:
            self.wake_at = when
            self.at(when, "wake")

    def invoke(self, now: float, batch: list[_Message]) -> None:
        s = self.system
        each = s.film_seconds * (1 + s.spread * self.random.standard_normal(len(batch) * s.films_per_message))
        after = np.maximum(each, s.film_seconds / 4).cumsum()
        ends = s.overhead_seconds + after[s.films_per_message - 1 :: s.films_per_message]
        if self.warm:
            self.warm -= 1
        else:
            self.cold += 1
            ends += s.cold_seconds
        lasts, killed = 0.0, False
        for message, lasts in zip(batch, ends.tolist(), strict=True):
            if killed := message.receives <= message.kills:
                break
            if message.receives > message.fails and not message.answered:
                message.answered = True
                self.answered.append(now + lasts)
                self.latencies.append(now + lasts - message.arrived)
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        self.invocations += 1
        self.deliveries += len(batch)
        self.busy_seconds += lasts
        self.at(now + lasts, "done", (batch, killed))

    def done(self, now: float, batch: list[_Message], killed: bool) -> None:
        self.busy -= 1
        self.warm += not killed
        self.last = now
        for message in batch:
            if not killed and message.receives > message.fails:
                self.ended.append(now)
            elif message.receives >= self.system.max_receives:
                self.dead += 1
            else:
                self.at(max(now, message.taken + self.system.visibility), "arrive", message)

    def handle(self, number: int, now: float, what: str, payload: Any) -> None:
        if what == "done":
            self.done(now, *payload)
        elif what == "arrive":
            self.arrive(now, payload)
        elif what == "upload":
            self.upload(now, *payload)
        elif what == "window" and (batch := self.gathering.pop(number, None)):
            self.invoke(now, batch)


def simulate(
    arrivals: Sequence[float] | np.ndarray | Uploader,
    system: System,
    seed: int = 0,
    *,
    fails: Sequence[int] | np.ndarray | None = None,
    kills: Sequence[int] | np.ndarray | None = None,
    warm: int = 0,
) -> Outcome:
    """Runs messages that arrive at sorted times, or as an uploader sends them, until none is left.

    fails, kills: of each message, how many of its first deliveries fail, and kill the function when it comes to them.
    warm: processes that are warm at the beginning.
    """
    run = _Run(system, seed, warm)
    coming: deque[_Message] = deque()
    if isinstance(arrivals, Uploader):
        messages = arrivals.files
        run.at(0.0, "upload", (arrivals, messages))
    else:
        messages = len(arrivals)
        none = np.zeros(messages, int)
        troubles = zip(none if fails is None else fails, none if kills is None else kills, strict=True)
        coming.extend(_Message(float(at), int(f), int(k)) for at, (f, k) in zip(arrivals, troubles, strict=True))
    while coming or run.events:
        if coming and (not run.events or coming[0].arrived <= run.events[0][0]):
            now = coming[0].arrived
            while coming and coming[0].arrived == now:  # a backlog is there at once
                run.arrive(now, coming.popleft())
        else:
            now = run.events[0][0]
            while run.events and run.events[0][0] == now:  # so is a batch whose visibility timeout ends
                _, number, what, payload = heapq.heappop(run.events)
                run.handle(number, now, what, payload)
        run.dispatch(now)
    return Outcome(
        messages,
        run.last,
        np.array(run.answered),
        np.array(run.latencies),
        np.array(run.ended),
        run.invocations,
        run.deliveries,
        run.dead,
        run.cold,
        run.busy_seconds,
        run.peak,
    )
