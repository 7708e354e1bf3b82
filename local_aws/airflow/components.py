"""Airflow's four components as child processes: healthy before anything is asked of them, gone afterwards."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from local_aws.airflow.api import Api
from local_aws.processes import Child, Children
from local_aws.server import ROOT

NAMES = ("api-server", "dag-processor", "triggerer", "scheduler")
READY_SECONDS = 240.0
GRACE_SECONDS = 15.0
TAIL_LINES = 15


class NotReady(Exception):
    """A component of Airflow ended, or did not get ready in time."""


class Components:
    """The running components, by name; each writes `<name>.log` into `logs`."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.children = Children()
        self.running: dict[str, Child] = {}

    def start(self, name: str, environment: Mapping[str, str]) -> None:
        with (self.logs / f"{name}.log").open("wb") as output:
            command = [sys.executable, "-m", "airflow", name]
            self.running[name] = self.children.start(command, env=environment, cwd=ROOT, output=output)

    def check(self) -> None:
        """Raise NotReady, with the end of its log, where a component has ended."""
        for name, child in self.running.items():
            if child.ended.is_set():
                log = self.logs / f"{name}.log"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
                raise NotReady(f"airflow {name} ended with {child.returncode}; the end of {log}:\n{tail}")

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return once `ready` says so. Raises NotReady where a component ends before, or READY_SECONDS are over."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise NotReady(f"Airflow was not ready after {READY_SECONDS:.0f} s; look into {self.logs}")
            time.sleep(1.0)

    def end(self) -> None:
        """Ask all of them to end, and give them GRACE_SECONDS together."""
        for child in self.running.values():
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for child in self.running.values():
            child.wait(max(0.0, deadline - time.monotonic()))


@contextlib.contextmanager
def components(environment: Mapping[str, str], api: Api, logs: Path) -> Iterator[Components]:
    """Airflow, ready; on the way out all components, and what they started, are gone.

    The API server comes first: a task that starts before it fails its first try. Raises NotReady.
    """
    logs.mkdir(parents=True, exist_ok=True)
    airflow = Components(logs)
    try:
        for name in NAMES:
            airflow.start(name, environment)
            if name == "api-server":
                airflow.wait(api.answers)
        airflow.wait(api.ready)
        yield airflow
        airflow.end()
    finally:
        airflow.children.close()
