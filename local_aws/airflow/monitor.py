"""Keeps a person at the terminal, and the folder .airflow/, up to date with what the DAGs do."""

from __future__ import annotations

import contextlib
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import httpx

from cxr.labels import CLASSES
from cxr.pointer import KEY, Pointer, parse
from local_aws.airflow import state
from local_aws.airflow.api import DAGS, Api
from local_aws.demo.inputs import evenly, new_files
from local_aws.server import LocalAWS
from local_aws.terminal import Terminal

DATASET = "datasets/chest_xray/"
WORKLIST = "reports/latest/worklist.html"
UPLOADS_PER_CLASS = 40
REPORT_SECONDS = 3.0
"""The first report waits so long for the first answers."""


class Monitor:
    """What has been seen of one local Airflow; `look` says and keeps what is new."""

    def __init__(self, aws: LocalAWS, settings: Mapping[str, str], api: Api, terminal: Terminal, home: Path) -> None:
        self._aws, self._settings, self._api, self._terminal, self._home = aws, settings, api, terminal, home
        self._objects = aws.objects()
        self._pointer = self._read("models_bucket", KEY)
        self._worklist = self._read("results_bucket", WORKLIST)
        self._report_at: float | None = None
        self._failed: set[str] = set()

    @property
    def serving(self) -> bool:
        """Whether a model serves."""
        return self._pointer is not None

    def train_first(self) -> bool:
        """Start `retrain` unless it runs already; False while the API server is too busy to answer."""
        try:
            if not any(run["state"] in ("queued", "running") for run in self._api.runs("retrain")):
                self._api.trigger("retrain")
        except httpx.HTTPError:
            return False
        return True

    def look(self) -> None:
        """Say and keep what is new since the last look; what a busy API server does not answer is asked again then."""
        with contextlib.suppress(httpx.HTTPError):
            self._say_failures()
        pointer = self._read("models_bucket", KEY)
        if pointer and pointer != self._pointer:
            self._promoted(parse(pointer))
            self._pointer = pointer
        if self._report_at and time.monotonic() > self._report_at and self._answered():
            with contextlib.suppress(httpx.HTTPError):
                self._api.trigger("report", {"days": 0, "min_films": 5})
                self._report_at = None
        worklist = self._read("results_bucket", WORKLIST)
        if worklist and worklist != self._worklist:
            self._worklist = worklist
            path = self._home / "reports" / "worklist.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(worklist)
            self._terminal.say(f"worklist written: {path.as_uri()}")

    def _say_failures(self) -> None:
        """Name every run that failed, once, with the page that tells why."""
        for dag_id in DAGS:
            for run in self._api.runs(dag_id):
                name = f"{dag_id}/runs/{run['dag_run_id']}"
                if run["state"] == "failed" and name not in self._failed:
                    self._failed.add(name)
                    where = f"{self._api.base}/dags/{urllib.parse.quote(name)}"
                    self._terminal.say(f"a run of {dag_id} failed: {where}", "bold red")

    def _promoted(self, pointer: Pointer) -> None:
        self._terminal.say(f"model {pointer.current.version} serves (serial {pointer.current.serial})")
        state.save(self._aws, self._settings, self._home / "aws")
        if not self.serving:
            self._terminal.say(f"{self._upload()} files uploaded to s3://{self._settings['uploads_bucket']}/")
            self._report_at = time.monotonic() + REPORT_SECONDS

    def _upload(self) -> int:
        """Upload some of the test films, two photographs and a broken file, as a ward would; return how many."""
        bucket, s3 = self._settings["datasets_bucket"], self._aws.client("s3")
        films: dict[str, list[tuple[str, bytes]]] = {}
        for label in CLASSES:
            keys = evenly(list(self._objects.keys(bucket, f"{DATASET}test/{label}/")), UPLOADS_PER_CLASS)
            films[label] = [(key.rpartition("/")[2], self._objects.read(bucket, key) or b"") for key in keys]
        files = new_files(films)
        for file in files:
            s3.put_object(Bucket=self._settings["uploads_bucket"], Key=file.key, Body=file.body)
        return len(files)

    def _answered(self) -> bool:
        uploads = [k for k in self._objects.keys(self._settings["uploads_bucket"], "") if not k.startswith("_smoke/")]
        results = set(self._objects.keys(self._settings["results_bucket"], "results/"))
        return all(f"results/{key}.json" in results for key in uploads)

    def _read(self, bucket: str, key: str) -> bytes | None:
        names = self._objects.keys(self._settings[bucket], key)
        return self._objects.read(self._settings[bucket], key) if key in names else None
