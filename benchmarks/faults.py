"""The faults of the pipeline benchmark, each injected outside the function, and the record that explains them later.

Rule: every dead letter must be explained by faults that were written down when they happened: each of its deliveries
was killed by the harness, met a 503, or found no sound model.
"""

from __future__ import annotations

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
from typing import Any

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


class Tap:
    """Stands between S3's notifications and the uploads queue: repeats some events, holds others back."""

    def __init__(self, client: Callable[[str], Any], source: str, target: str, journal: Journal, seed: int) -> None:
        self._sqs, self._source, self._target = client("sqs"), source, target
        self._journal, self._random = journal, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._source, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                self._forward(message["Body"])
                self._sqs.delete_message(QueueUrl=self._source, ReceiptHandle=message["ReceiptHandle"])

    def _forward(self, body: str) -> None:
        late = self._random.randint(*DELAY_SECONDS)
        disordered = self._random.random() < DISORDERED
        self._sqs.send_message(QueueUrl=self._target, MessageBody=body, DelaySeconds=late if disordered else 0)
        self._journal.disordered += disordered
        if self._random.random() < DUPLICATED:
            again = self._random.choice((0, late))
            self._sqs.send_message(QueueUrl=self._target, MessageBody=body, DelaySeconds=again)
            self._journal.duplicated += 1


class Killer:
    """Kills a warm process of the function every few seconds."""

    def __init__(self, pids: Callable[[], list[int]], every: float, journal: Journal, seed: int) -> None:
        self._pids, self._every, self._journal, self._random = pids, every, journal, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._every * self._random.uniform(0.6, 1.4)):
            pids = self._pids()
            if pids:
                self._journal.kills.append(time.time())
                try:
                    os.kill(self._random.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    continue


class FaultProxy:
    """The proxy of fault_proxy.py in a process of its own."""

    def __init__(self, upstream: int, share: float, seed: int, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "benchmarks.fault_proxy", str(upstream), str(share), str(seed), str(log)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoint = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def failures(self) -> list[dict[str, Any]]:
        """The injected failures so far: {"at": seconds, "method": ..., "effect": "before" or "after"}."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]


def explain(letters: Iterable[tuple[str, str]], journal: Journal, busy: Iterable[float]) -> list[dict[str, Any]]:
    """Each dead letter (message id, body) with its keys and the cause of each of its failed deliveries."""
    moments = list(busy)
    explained = []
    for message, body in letters:
        causes = journal.causes(message, moments)
        explained.append(
            {
                "uploads": keys_of(body),
                "deliveries": len(causes),
                "causes": dict(Counter(causes)),
                "explained": bool(causes) and "unexplained" not in causes,
            }
        )
    return explained
