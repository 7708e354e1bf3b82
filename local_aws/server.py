"""A local AWS in this process: moto on loopback with real execution behind SageMaker, Lambda and SQS.

    with LocalAWS() as aws:
        aws.client("s3").create_bucket(Bucket="films")

Nothing leaves the machine, and nothing that it starts outlives it. Its state is moto's, which is global: one local
AWS at a time in a process, empty when it starts and gone when it ends.
"""

from __future__ import annotations

import atexit
import errno
import json
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.sax.saxutils import escape

import boto3
from flask import Response, request
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal.models import moto_api_backend
from moto.server import DomainDispatcherApplication, MotoRequestHandler, ThreadedMotoServer, create_backend_app
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from local_aws.cloudformation.stacks import install as install_cloudformation
from local_aws.patches import Patches
from local_aws.processes import Children
from local_aws.services import queues, registry, storage
from local_aws.services.event_source import Delivery, EventSources
from local_aws.services.functions import Functions
from local_aws.services.host import IMAGES, Host
from local_aws.services.training import TrainingJobs

HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT = DEFAULT_ACCOUNT_ID
ROOT = Path(__file__).resolve().parent.parent
LAMBDA_CONCURRENCY = 2
_one_at_a_time = threading.Lock()
log = logging.getLogger(__name__)


class PortTaken(OSError):
    """Something else listens on the port."""


class _RequestHandler(MotoRequestHandler):
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class _Server(ThreadedMotoServer):
    """moto's threaded server on a socket that is bound before the thread starts, so that a taken port cannot hang."""

    def __init__(self, port: int) -> None:
        super().__init__(HOST, port, verbose=False)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(
                f"port {port} on {HOST} is taken; stop what listens there, or pass 0 for any free one"
            ) from None
        self._socket.listen(128)

    def _server_entry(self) -> None:
        application = DomainDispatcherApplication(_backend_app)
        host, port = self._socket.getsockname()
        self._server = make_server(
            host, port, application, threaded=True, request_handler=_RequestHandler, fd=self._socket.fileno()
        )
        self._server_ready_event.set()
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        super().stop()
        if self._server:
            self._server.server_close()
        self._socket.close()


def _backend_app(service: Any) -> Any:
    """moto's application for one service; what it cannot do is answered with a sentence, not with a page of HTML."""
    application = create_backend_app(service)
    application.debug = False
    application.register_error_handler(Exception, _explain)
    return application


def _explain(error: Exception) -> Any:
    if isinstance(error, HTTPException):
        return error
    log.exception("%s %s failed inside the local AWS", request.method, request.path)
    missing = isinstance(error, NotImplementedError)
    code, status = ("NotImplemented", 501) if missing else ("InternalFailure", 500)
    message = f"local AWS: {type(error).__name__}: {error}"
    if request.mimetype.startswith("application/x-amz-json") or request.path.startswith("/20"):
        body, kind = json.dumps({"__type": code, "message": message}), "application/json"
    else:
        text = escape(message)
        body, kind = (
            f"<ErrorResponse><Error><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>",
            "text/xml",
        )
    return Response(body, status, {"x-amzn-errortype": code}, mimetype=kind)


class LocalAWS:
    """A context manager; inside it `endpoint`, `environment` and `client` reach the local AWS.

    port: 0 for any free one. images: command per short image name (see services/host.py), added to the defaults.
    log_dir: where the output of each Lambda process and training job is kept (default: a temporary folder, removed at
    the end). concurrency: warm processes per function at most. on_delivery: called after each batch that a queue handed
    to a function, with what became of it (for harnesses). Raises PortTaken, UnsupportedMoto.
    """

    def __init__(
        self,
        port: int = 0,
        images: Mapping[str, Sequence[str]] | None = None,
        log_dir: Path | str | None = None,
        *,
        concurrency: int = LAMBDA_CONCURRENCY,
        cwd: Path = ROOT,
        on_delivery: Callable[[Delivery], None] | None = None,
    ) -> None:
        self._port = port
        self._images = {**IMAGES, **(images or {})}
        self._wanted_log_dir = Path(log_dir) if log_dir else None
        self._concurrency, self._cwd, self._on_delivery = concurrency, cwd, on_delivery
        self._session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
        self._making_clients = threading.Lock()
        self._running = False

    def __enter__(self) -> LocalAWS:
        if not _one_at_a_time.acquire(blocking=False):
            raise RuntimeError("a local AWS runs in this process already; moto's state is global, so use that one")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._running = True
        atexit.register(self.stop)
        self._folder = Path(tempfile.mkdtemp(prefix="local-aws-"))
        self.log_dir = self._wanted_log_dir or self._folder / "logs"
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._server = _Server(self._port)
        self._children = Children(self._folder)
        machine = Host(
            self._children, self._images, lambda: self.environment, self._cwd, self._folder / "work", self.log_dir
        )
        self.functions = Functions(machine, self._concurrency)
        self._sources = EventSources(self.functions, self._concurrency, self._on_delivery)
        self.training_jobs = TrainingJobs(machine)
        _forget_everything()
        self._patches = Patches()
        queues.install(self._patches, lambda: self.endpoint)
        storage.install(self._patches)
        registry.install(self._patches)
        install_cloudformation(self._patches, lru_cache(self.client))
        self.functions.install(self._patches)
        self._sources.install(self._patches)
        self.training_jobs.install(self._patches)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"

    def stop(self) -> None:
        """Stop serving and kill every child process; safe to call again."""
        if not self._running:
            return
        self._running = False
        atexit.unregister(self.stop)
        for part, method in (
            ("_sources", "end"),
            ("training_jobs", "close"),
            ("functions", "close"),
            ("_sources", "close"),
            ("_children", "close"),
            ("_server", "stop"),
            ("_patches", "undo"),
        ):
            if hasattr(self, part):
                getattr(getattr(self, part), method)()
        _forget_everything()
        shutil.rmtree(self._folder, ignore_errors=True)
        _one_at_a_time.release()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point boto3, Airflow and the aws command at the local AWS, and at nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, **arguments: Any) -> Any:
        """A boto3 client of the local AWS."""
        with self._making_clients:  # a session must not make two clients at once
            return self._session.client(service, **{"endpoint_url": self.endpoint, **arguments})

    def objects(self) -> storage.Objects:
        """S3 without HTTP: thousands of objects a second, for seeding and for harnesses."""
        return storage.Objects(ACCOUNT)

    def processes(self) -> dict[str, list[int]]:
        """Process ids of what runs now: warm Lambda processes by function name, training jobs by job name."""
        jobs = {name: [pid] for name, pid in self.training_jobs.pids().items()}
        return {**self.functions.pids(), **jobs}


def _forget_everything() -> None:
    moto_api_backend.reset()
