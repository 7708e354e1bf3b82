"""A local AWS in this process: moto on loopback with real execution behind SageMaker, Lambda and SQS.

    with LocalAWS() as aws:
        aws.client("s3").create_bucket(Bucket="films")

Nothing leaves the machine, and nothing that it starts outlives it. Its state is moto's, which is global: one local
AWS at a time in a process, empty when it starts and gone when it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import boto3
from flask import Response, request
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal.models import moto_api_backend
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
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


class _Server:
    """moto behind HTTP, in threads; the socket is bound here, so that a taken port is an error and not an exit."""

    def __init__(self, port: int) -> None:
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
        self.port = self._socket.getsockname()[1]
        application, descriptor = DomainDispatcherApplication(_backend_app), self._socket.fileno()
        self._server = make_server(
            HOST, self.port, application, threaded=True, request_handler=_RequestHandler, fd=descriptor
        )
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
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

    def __enter__(self) -> LocalAWS:
        if not _one_at_a_time.acquire(blocking=False):
            raise RuntimeError("a local AWS runs in this process already; moto's state is global, so use that one")
        with contextlib.ExitStack() as undo:
            undo.callback(_one_at_a_time.release)
            self._start(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop serving and kill every child process."""
        self._undo.close()

    def _start(self, undo: contextlib.ExitStack) -> None:
        """What is started or replaced is undone in the opposite order."""
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="local-aws-", ignore_cleanup_errors=True)))
        self.log_dir = self._wanted_log_dir or folder / "logs"
        self.log_dir.mkdir(parents=True, exist_ok=True)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        moto_api_backend.reset()
        undo.callback(moto_api_backend.reset)
        patches = Patches()
        undo.callback(patches.undo)
        server = _Server(self._port)
        undo.callback(server.stop)
        self.endpoint = f"http://{HOST}:{server.port}"
        self._children = Children(folder)
        undo.callback(self._children.close)
        machine = Host(self._children, self._images, self.environment, self._cwd, folder / "work", self.log_dir)
        self.functions = Functions(machine, self._concurrency)
        self._sources = EventSources(self.functions, self._concurrency, self._on_delivery)
        undo.callback(self._sources.close)
        undo.callback(self.functions.close)
        self.training_jobs = TrainingJobs(machine)
        undo.callback(self.training_jobs.close)
        undo.callback(self._sources.end)
        queues.install(patches, self.endpoint)
        storage.install(patches)
        registry.install(patches)
        install_cloudformation(patches, lru_cache(self.client))
        for part in (self.functions, self._sources, self.training_jobs):
            part.install(patches)

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
