"""Airflow's own UI on a local AWS, one command: `python -m local_aws airflow`.

The DAGs are the deployed ones, unchanged; what differs from production (no GPU, few films) is set as visible defaults
of the form. Everything started here ends with this process; state is kept in .airflow/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from cxr.labels import CLASSES
from infra.session import open_session
from infra.settings import airflow_settings
from infra.stacks import deploy
from local_aws.airflow import state
from local_aws.airflow.home import ROOT, airflow_environment, migrate
from local_aws.demo.inputs import new_files
from local_aws.deployment import local_config
from local_aws.processes import Child, Children
from local_aws.server import HOST, LocalAWS, PortTaken
from local_aws.synthetic import write_dataset

HOME = ROOT / ".airflow"
DAGS = ("retrain", "classify_backlog", "report", "correct_labels")
COMPONENTS = ("api-server", "dag-processor", "triggerer", "scheduler")
READY_SECONDS = 240.0
LOOK_SECONDS = 3.0
GRACE_SECONDS = 15.0
FILMS, UPLOADS_PER_CLASS = 160, 6
DATASET = "datasets/chest_xray/"

# A laptop has no GPU, and a hundred drawn films meet no hospital's floors: these defaults show in the form.
LAPTOP_DEFAULTS: dict[str, Any] = {
    "min_films": 5,
    "weights": "random", "require_gpu": False, "instance_type": "ml.m5.large", "epochs": 20, "augment_copies": 0,
    "alpha": 0.1, "check_interval": 2, "min_sensitivity": 0.3, "min_specificity": 0.1, "min_auroc": 0.5,
    "max_ece": 0.4, "max_parity_auroc_drop": 0.05, "max_parity_label_flips": 0.2, "max_parity_status_flips": 0.2,
    "margin_auroc": -0.3, "margin_balanced_accuracy": -0.5,
}  # fmt: skip


class NotReady(Exception):
    """A component of Airflow ended, or did not get ready in time."""


class Api:
    """Airflow's REST API of this machine, without a login."""

    def __init__(self, port: int) -> None:
        self.base = f"http://{HOST}:{port}"
        self._token: str | None = None

    def healthy(self) -> bool:
        """Whether all four components say so."""
        try:
            with urllib.request.urlopen(f"{self.base}/api/v2/monitor/health", timeout=5) as answer:
                health = json.load(answer)
        except (OSError, ValueError):
            return False
        wanted = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health[name]["status"] == "healthy" for name in wanted)

    def answers(self) -> bool:
        """Whether the API server does."""
        try:
            with urllib.request.urlopen(f"{self.base}/api/v2/version", timeout=5):
                return True
        except OSError:
            return False

    def lists_dags(self) -> bool:
        """Whether all DAGs of the project have been parsed: a page that was opened earlier would stay empty."""
        try:
            listed = self._call("GET", "/api/v2/dags?limit=100")["dags"]
        except OSError:
            return False
        return {dag["dag_id"] for dag in listed} >= set(DAGS)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run; return its id."""
        body = {"logical_date": None, "conf": dict(conf or {}), "run_after": datetime.now(UTC).isoformat()}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The runs of a DAG, newest first."""
        path = f"/api/v2/dags/{dag_id}/dagRuns?order_by=-run_after&limit=20"
        return list(self._call("GET", path)["dag_runs"])

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self._token is None:
            with urllib.request.urlopen(f"{self.base}/auth/token", timeout=30) as answer:
                self._token = json.load(answer)["access_token"]
        request = urllib.request.Request(
            self.base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def must_be_free(port: int) -> None:
    """Raise PortTaken where something listens on ``port`` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise PortTaken(f"port {port} on {HOST} is taken; stop what listens there, or pass PORT=8090") from None


def environment(home: Path, aws: Mapping[str, str], settings: Mapping[str, str], port: int) -> dict[str, str]:
    """The environment of Airflow's components: the DAGs unpaused, no login, the laptop's defaults in the form."""
    return {
        **airflow_environment(home, aws, settings),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "CXR_RETRAIN_DEFAULTS": json.dumps(LAPTOP_DEFAULTS),
    }


@contextlib.contextmanager
def components(settings: Mapping[str, str], api: Api, logs: Path) -> Iterator[dict[str, Child]]:
    """Airflow's four components, healthy; on the way out all of them, and what they started, are gone.

    The API server comes first: a task that starts before it fails its first try. Raises NotReady.
    """
    logs.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="local-airflow-")
    children = Children(Path(scratch))
    try:
        with contextlib.ExitStack() as files:
            running: dict[str, Child] = {}
            for name in COMPONENTS:
                output = files.enter_context((logs / f"{name}.log").open("wb"))
                command = [sys.executable, "-m", "airflow", name]
                running[name] = children.start(command, env=settings, cwd=ROOT, output=output)
                if name == "api-server":
                    wait_for(api.answers, running, logs)
            wait_for(api.healthy, running, logs)
            wait_for(api.lists_dags, running, logs)
            yield running
            for child in running.values():
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            for child in running.values():
                child.wait(max(0.0, deadline - time.monotonic()))
    finally:
        children.close()
        shutil.rmtree(scratch, ignore_errors=True)


def wait_for(ready: Callable[[], bool], running: Mapping[str, Child], logs: Path) -> None:
    """Return once ``ready`` says so. Raises NotReady with the end of a log where a component ends before."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        check_alive(running, logs)
        if time.monotonic() > deadline:
            raise NotReady(f"Airflow was not ready after {READY_SECONDS:.0f} s; look into {logs}")
        time.sleep(1.0)


def check_alive(running: Mapping[str, Child], logs: Path) -> None:
    """Raise NotReady where a component has ended."""
    for name, child in running.items():
        if child.ended.is_set():
            end = "\n".join((logs / f"{name}.log").read_text(errors="replace").splitlines()[-15:])
            raise NotReady(f"airflow {name} ended with {child.returncode}; the end of {logs / name}.log:\n{end}")


def load_films(aws: LocalAWS, settings: Mapping[str, str], films: int) -> None:
    """Put a synthetic dataset into the datasets bucket, a quarter of it test films."""
    objects = aws.objects()
    with tempfile.TemporaryDirectory() as scratch:
        write_dataset(Path(scratch), train=films - films // 4, test=films // 4)
        for path in sorted(Path(scratch).rglob("*.jpeg")):
            key = DATASET + path.relative_to(scratch).as_posix()
            objects.write(settings["datasets_bucket"], key, path.read_bytes())


def upload_films(aws: LocalAWS, settings: Mapping[str, str]) -> int:
    """Upload a few of the test films, two photographs and a broken file, as a ward would; return how many."""
    objects, s3 = aws.objects(), aws.client("s3")
    films: dict[str, list[tuple[str, bytes]]] = {label: [] for label in CLASSES}
    for label, chosen in films.items():
        for key in list(objects.keys(settings["datasets_bucket"], f"{DATASET}test/{label}/"))[:UPLOADS_PER_CLASS]:
            chosen.append((key.rpartition("/")[2], objects.read(settings["datasets_bucket"], key) or b""))
    files = new_files(films)
    for file in files:
        s3.put_object(Bucket=settings["uploads_bucket"], Key=file.key, Body=file.body)
    return len(files)


class Watch:
    """Keeps a person at the terminal, and the folder .airflow/, up to date with what the DAGs do."""

    def __init__(self, aws: LocalAWS, settings: Mapping[str, str], api: Api, console: Console, home: Path) -> None:
        self._aws, self._settings, self._api, self._console, self._home = aws, settings, api, console, home
        self._objects = aws.objects()
        self._pointer = self._read("models_bucket", state.POINTER)
        self._worklist = self._read("results_bucket", "reports/latest/worklist.html")
        self._report_at: float | None = None
        self._failed: set[str] = set()

    @property
    def serving(self) -> bool:
        """Whether a model serves."""
        return self._pointer is not None

    def look(self) -> None:
        """Say and keep what is new since the last look."""
        self._say_failures()
        pointer = self._read("models_bucket", state.POINTER)
        if pointer and pointer != self._pointer:
            self._promoted(json.loads(pointer), first=self._pointer is None)
            self._pointer = pointer
        if self._report_at and time.monotonic() > self._report_at and self._answered():
            with contextlib.suppress(OSError):  # a busy API server is asked again at the next look
                self._api.trigger("report", {"days": 0, "min_films": 5})
                self._report_at = None
        worklist = self._read("results_bucket", "reports/latest/worklist.html")
        if worklist and worklist != self._worklist:
            self._worklist = worklist
            path = self._home / "reports" / "worklist.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(worklist)
            self._console.print(f"worklist written: {path.as_uri()}", soft_wrap=True)

    def _say_failures(self) -> None:
        """Name every run that failed, once, with the page that tells why."""
        for dag_id in DAGS:
            runs: list[dict[str, Any]] = []
            with contextlib.suppress(OSError):  # a busy API server is asked again at the next look
                runs = self._api.runs(dag_id)
            for run in runs:
                name = f"{dag_id}/runs/{run['dag_run_id']}"
                if run["state"] == "failed" and name not in self._failed:
                    self._failed.add(name)
                    where = f"{self._api.base}/dags/{urllib.parse.quote(name)}"
                    self._console.print(f"a run of {dag_id} failed: {where}", style="bold red", soft_wrap=True)

    def _promoted(self, document: Mapping[str, Any], *, first: bool) -> None:
        self._console.print(f"model {document['version']} serves (serial {document['serial']})")
        state.save(self._aws, self._settings, self._home / "aws")
        if first:
            films = upload_films(self._aws, self._settings)
            self._console.print(f"{films} files uploaded to s3://{self._settings['uploads_bucket']}/")
            self._report_at = time.monotonic() + LOOK_SECONDS

    def _answered(self) -> bool:
        uploads = [k for k in self._objects.keys(self._settings["uploads_bucket"], "") if not k.startswith("_smoke/")]
        results = set(self._objects.keys(self._settings["results_bucket"], "results/"))
        return all(f"results/{key}.json" in results for key in uploads)

    def _read(self, bucket: str, key: str) -> bytes | None:
        names = self._objects.keys(self._settings[bucket], key)
        return self._objects.read(self._settings[bucket], key) if key in names else None


def serve(port: int, home: Path, films: int, console: Console) -> None:
    """Run everything until interrupted. Raises PortTaken, NotReady, or what the deployment raised."""
    must_be_free(port)
    logs = home / "logs" / "components"
    with LocalAWS(log_dir=home / "logs" / "aws") as aws:
        console.print(f"local AWS at {aws.endpoint}: deploying the stacks of infra/")
        config = local_config(aws.endpoint)
        outputs = deploy(open_session(config), config, say=lambda *_: None)
        settings = airflow_settings(outputs)
        if state.restore(aws, settings, home / "aws"):
            console.print(f"state of the last time restored from {home / 'aws'}")
        else:
            console.print(f"drawing {films} synthetic films")
            load_films(aws, settings, films)
        variables = environment(home, aws.environment, settings, port)
        console.print(f"starting Airflow (state and logs in {home})")
        migrate(variables)
        api = Api(port)
        with components(variables, api, logs) as running:
            console.print(f"[bold green]Airflow is at http://{HOST}:{port}[/] (no login); Ctrl-C stops everything")
            exports = " ".join(f"{name}={value}" for name, value in aws.environment.items())
            console.print(f"for the aws command: {exports}", soft_wrap=True)
            try:
                watch(aws, settings, api, running, logs, console, home)
            finally:
                state.save(aws, settings, home / "aws")


def watch(
    aws: LocalAWS, settings: Mapping[str, str], api: Api, running: Mapping[str, Child], logs: Path, console: Console,
    home: Path,
) -> None:  # fmt: skip
    """Train the first model where none serves, then look until interrupted."""
    observer = Watch(aws, settings, api, console, home)
    if not observer.serving:
        console.print("no model serves yet: `retrain` trains the first one (a few minutes)")
        wait_for(lambda: train_first(api), running, logs)
    while True:
        check_alive(running, logs)
        observer.look()
        time.sleep(LOOK_SECONDS)


def train_first(api: Api) -> bool:
    """Start `retrain` unless it runs already; False while the API server is too busy to answer."""
    try:
        if not any(run["state"] in ("queued", "running") for run in api.runs("retrain")):
            api.trigger("retrain")
    except OSError:
        return False
    return True


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_aws airflow", description="Airflow's UI on a local AWS.")
    parser.add_argument("--port", type=int, default=8080, help="port of the UI on 127.0.0.1 (default 8080)")
    parser.add_argument("--home", type=Path, default=HOME, help="where state and logs are kept (default .airflow)")
    parser.add_argument("--films", type=int, default=FILMS, help=f"synthetic films to draw (default {FILMS})")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C or SIGTERM; 1 where it cannot start."""
    arguments = parse(argv)
    console = Console(highlight=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        serve(arguments.port, arguments.home.resolve(), arguments.films, console)
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left running")
    except (PortTaken, NotReady, RuntimeError) as error:
        console.print(str(error), style="bold red", markup=False)
        return 1
    return 0
