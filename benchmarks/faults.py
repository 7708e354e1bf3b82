"""The faults of the pipeline benchmark, each injected outside the function, and the record that explains them later.

Every dead letter must be explained by faults that were written down when they happened: each of its deliveries was
killed by the harness, met a 503, or found no sound model.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.audit import keys_of
from benchmarks.record import ROOT
from local_aws.services.event_source import Delivery

DUPLICATED, DISORDERED = 0.10, 0.05
DELAY_SECONDS = (2, 8)
"""How late the second copy of an event, or an event out of order, arrives."""


@dataclass
class Journal:
    """Times (time.time()) at which faults were injected."""

    kills: list[float] = field(default_factory=list)
    unsound: list[tuple[float, float]] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    duplicated: int = 0
    disordered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def delivered(self, delivery: Delivery) -> None:
        with self.lock:
            self.deliveries.append(delivery)

    def causes(self, message: str, busy: Iterable[float]) -> list[str]:
        """What made each failed delivery of a message fail; `unexplained` where nothing that was injected did."""
        failed = [d for d in self.deliveries if message in d.failed]
        return [self._cause(delivery, list(busy)) for delivery in failed]

    def _cause(self, delivery: Delivery, busy: list[float]) -> str:
        def during(moments: Iterable[float]) -> bool:
            return any(delivery.started - 1 <= moment <= delivery.ended + 1 for moment in moments)

        if delivery.error and "Runtime.ExitError" in delivery.error:
            return "process killed" if during(self.kills) else "unexplained"
        if any(begun <= delivery.ended and delivery.started <= ended for begun, ended in self.unsound):
            return "no sound model"
        return "503 from S3" if during(busy) else "unexplained"


class Fault(threading.Thread):
    """Injects faults in the background while its `with` block runs."""

    def __init__(self, journal: Journal, seed: int) -> None:
        super().__init__(daemon=True)
        self.journal, self.random, self.over = journal, random.Random(seed), threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(timeout=10)


class Tap(Fault):
    """Stands between S3's notifications and the uploads queue: repeats some events, holds others back."""

    def __init__(self, sqs: Any, source: str, target: str, journal: Journal, seed: int) -> None:
        super().__init__(journal, seed)
        self._sqs, self._source, self._target = sqs, source, target

    def run(self) -> None:
        while not self.over.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._source, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                self._forward(message["Body"])
                self._sqs.delete_message(QueueUrl=self._source, ReceiptHandle=message["ReceiptHandle"])

    def _forward(self, body: str) -> None:
        late = self.random.randint(*DELAY_SECONDS)
        disordered = self.random.random() < DISORDERED
        self._send(body, late if disordered else 0)
        self.journal.disordered += disordered
        if self.random.random() < DUPLICATED:
            self._send(body, self.random.choice((0, late)))
            self.journal.duplicated += 1

    def _send(self, body: str, delay: int) -> None:
        self._sqs.send_message(QueueUrl=self._target, MessageBody=body, DelaySeconds=delay)


class Killer(Fault):
    """Kills a warm process of the function every few seconds."""

    def __init__(self, pids: Callable[[], list[int]], every: float, journal: Journal, seed: int) -> None:
        super().__init__(journal, seed)
        self._pids, self._every = pids, every

    def run(self) -> None:
        while not self.over.wait(self._every * self.random.uniform(0.6, 1.4)):
            if pids := self._pids():
                self.journal.kills.append(time.time())
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.random.choice(pids), signal.SIGKILL)


class FaultProxy:
    """The proxy of fault_proxy.py in a process of its own."""

    def __init__(self, upstream: int, share: float, seed: int, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "benchmarks.fault_proxy", str(upstream), str(share), str(seed), str(log)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoint = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def failures(self) -> list[dict[str, Any]]:
        """The injected failures so far: {"at": seconds, "method": ..., "effect": "before" or "after"}."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]


def explain(letters: Iterable[tuple[str, str]], journal: Journal, busy: Iterable[float]) -> list[dict[str, Any]]:
    """Each dead letter (message id, body) with its keys and the cause of each of its failed deliveries."""
    moments, explained = list(busy), []
    for message, body in letters:
        causes = Counter(journal.causes(message, moments))
        explained.append(
            {
                "uploads": keys_of(body),
                "deliveries": causes.total(),
                "causes": dict(causes),
                "explained": bool(causes) and "unexplained" not in causes,
            }
        )
    return explained
