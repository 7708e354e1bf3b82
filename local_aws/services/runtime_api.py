"""The Lambda Runtime API for one sandbox: the real `awslambdaric` runs in a warm process and asks it for work.

As on AWS: an error that the handler raises leaves the process warm; a crash, a timeout or a failed initialisation
costs the process, and the next invocation starts a fresh one.
"""

from __future__ import annotations

import json
import math
import queue
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

from local_aws.lines import NewLines
from local_aws.processes import Child, Children, describe_exit

PREFIX = "/2018-06-01/runtime"
INIT_SECONDS = 60.0
"""Time to import the handler. AWS allows 10 s and then goes on inside the first invocation's timeout; a shared
laptop gets more."""


@dataclass
class Invocation:
    """One event on its way through a sandbox."""

    body: bytes
    function_arn: str
    timeout: float
    request_id: str = field(default_factory=lambda: str(uuid4()))
    deadline: float = 0.0


@dataclass
class Outcome:
    """What came back: the payload, the kind of error (`Unhandled` or None) and the log lines of this invocation."""

    payload: bytes
    error: str | None
    log: list[str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sandbox: Sandbox

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that was killed leaves a broken connection behind: its end is reported as the outcome."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        if self.path != f"{PREFIX}/invocation/next":
            return self._answer(404, b"{}")
        invocation = self.server.sandbox.next()
        if invocation is None:
            return self._answer(500, b'{"errorMessage": "the sandbox is closing"}')
        self._answer(
            200,
            invocation.body,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid4().hex[:24]};Sampled=0",
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match = re.fullmatch(rf"{PREFIX}/(?:invocation/([^/]+)/(response|error)|init/(error))", self.path)
        if not match:
            return self._answer(404, b"{}")
        request_id, kind, init = match.groups()
        self.server.sandbox.posted("init" if init else kind, request_id, body)
        self._answer(202, b'{"status": "OK"}')

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Sandbox:
    """One warm process of a function; runs one invocation at a time."""

    def __init__(
        self, children: Children, command: Sequence[str], environment: Mapping[str, str], cwd: Path, log_file: Path
    ) -> None:
        self._children, self._command, self._cwd, self._log_file = children, list(command), cwd, log_file
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.sandbox = self
        host, port = self._server.server_address[:2]
        self._environment = {**environment, "AWS_LAMBDA_RUNTIME_API": f"{host!s}:{port}"}
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        self._child: Child | None = None
        self._current: str | None = None
        self._reset()

    @property
    def pid(self) -> int | None:
        """Process id of the warm process, None while there is none."""
        child = self._child
        return child.pid if child and not child.ended.is_set() else None

    def invoke(self, invocation: Invocation) -> Outcome:
        """Run one event to its end; never raises for what the function did."""
        begun = time.monotonic()
        init_ms = None
        if self.pid is None:
            failure = self._begin()
            init_ms = (time.monotonic() - begun) * 1000
            if failure:
                return self._finish(invocation, failure, begun, init_ms)
        begun = time.monotonic()
        invocation.deadline = time.time() + invocation.timeout
        self._current = invocation.request_id
        self._work.put(invocation)
        try:
            kind, payload = self._results.get(timeout=invocation.timeout)
        except queue.Empty:
            kind, payload = "timeout", b""
        return self._finish(invocation, (kind, payload), begun, init_ms)

    def next(self) -> Invocation | None:
        """Block until there is work for the process (Runtime API: GET invocation/next)."""
        work = self._work
        self._ready.set()
        return work.get()

    def posted(self, kind: str, request_id: str | None, body: bytes) -> None:
        if kind == "init" or request_id == self._current:
            self._results.put((kind, body))
            self._ready.set()

    def close(self) -> None:
        if self._child:
            self._child.stop()
        self._work.put(None)
        self._server.shutdown()
        self._server.server_close()

    def _reset(self) -> None:
        self._work: queue.Queue[Invocation | None] = queue.Queue()
        self._results: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._ready = threading.Event()
        self._current = None

    def _begin(self) -> tuple[str, bytes] | None:
        """Start the process and wait until it asks for work; what went wrong, or None."""
        self._work.put(None)
        self._reset()
        results, ready = self._results, self._ready

        def ended(child: Child) -> None:
            results.put(("exit", describe_exit(child.returncode).encode()))
            ready.set()

        with self._log_file.open("ab") as output:
            self._lines = NewLines(self._log_file)
            self._child = self._children.start(
                self._command, env=self._environment, cwd=self._cwd, output=output, on_exit=ended
            )
        if not ready.wait(INIT_SECONDS):
            return "init timeout", b""
        return None if results.empty() else results.get()

    def _finish(
        self, invocation: Invocation, result: tuple[str, bytes], begun: float, init_ms: float | None
    ) -> Outcome:
        kind, payload = result
        milliseconds = (time.monotonic() - begun) * 1000
        request_id = invocation.request_id
        self._current = None
        if kind not in ("response", "error") and self._child:
            self._child.stop()
        error, last = _error_of(kind, payload, request_id, invocation.timeout)
        log = [f"START RequestId: {request_id} Version: $LATEST", *filter(None, self._lines.read(last=True))]
        if last:
            log.append(last["errorMessage"])
            payload = json.dumps(last).encode()
        log.append(f"END RequestId: {request_id}")
        report = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {milliseconds:.2f} ms",
            f"Billed Duration: {math.ceil(milliseconds)} ms",
            f"Memory Size: {self._environment.get('AWS_LAMBDA_FUNCTION_MEMORY_SIZE', '')} MB",
            *([f"Init Duration: {init_ms:.2f} ms"] if init_ms else []),
        ]
        log.append("\t".join(report))
        return Outcome(payload, error, log)


def _error_of(kind: str, payload: bytes, request_id: str, timeout: float) -> tuple[str | None, dict[str, str] | None]:
    """AWS's error kind, and the payload that AWS makes where the function could not send one itself."""
    if kind == "response":
        return None, None
    if kind in ("error", "init"):
        return "Unhandled", None
    if kind in ("timeout", "init timeout"):
        seconds = timeout if kind == "timeout" else INIT_SECONDS
        what = "Task timed out" if kind == "timeout" else "Initialisation timed out"
        message = f"RequestId: {request_id} Error: {what} after {seconds:.2f} seconds"
        return "Unhandled", {"errorType": "Sandbox.Timedout", "errorMessage": message}
    message = f"RequestId: {request_id} Error: Runtime exited with error: {payload.decode()}"
    return "Unhandled", {"errorType": "Runtime.ExitError", "errorMessage": message}
