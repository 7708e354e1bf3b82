"""Lambda functions of package type Image run for real, in a small pool of warm processes per function.

Every way into moto's Lambda (Invoke, S3, SNS, EventBridge) ends in `LambdaFunction.invoke`; that one method is
replaced. More calls than warm processes wait for their turn instead of being throttled, and a call of invocation type
Event is answered when it has run.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable
from queue import LifoQueue
from typing import Any
from uuid import uuid4

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaFunction

from local_aws.patches import Patches
from local_aws.services.host import Host, UnknownImage
from local_aws.services.runtime_api import Invocation, Outcome, Sandbox

log = logging.getLogger(__name__)
TAIL_BYTES = 4096


class Throttled(LambdaClientError):
    """The function's reserved concurrency is 0: somebody stopped it."""

    code = 429

    def __init__(self, name: str) -> None:
        super().__init__("TooManyRequestsException", f"Rate Exceeded: the reserved concurrency of {name} is 0.")


class Pool:
    """The warm sandboxes of one configuration of one function, at most `size`; the last used is the next used."""

    def __init__(self, make: Callable[[int], Sandbox], size: int) -> None:
        self._make = make
        self._free: LifoQueue[Sandbox | None] = LifoQueue()
        for _ in range(size):
            self._free.put(None)
        self._all: list[Sandbox] = []
        self._lock = threading.Lock()
        self._closed = False

    def invoke(self, invocation: Invocation) -> Outcome:
        sandbox = self._free.get()
        try:
            if sandbox is None:
                with self._lock:
                    sandbox = self._make(len(self._all))
                    self._all.append(sandbox)
            return sandbox.invoke(invocation)
        finally:
            with self._lock:
                if self._closed and sandbox is not None:
                    sandbox.close()
                self._free.put(sandbox)

    def pids(self) -> list[int]:
        with self._lock:
            return [sandbox.pid for sandbox in self._all if sandbox.pid is not None]

    def close(self, at_once: bool) -> None:
        """Close the idle sandboxes; the busy ones too if `at_once`, else each when its invocation ends."""
        with self._lock:
            self._closed = True
            closing = self._all if at_once else [sandbox for sandbox in self._free.queue if sandbox is not None]
            for sandbox in closing:
                sandbox.close()


class Functions:
    """Runs the image functions of one local AWS, each in at most `concurrency` processes."""

    def __init__(self, host: Host, concurrency: int) -> None:
        self._host, self._concurrency = host, concurrency
        self._pools: dict[str, tuple[str, Pool]] = {}
        self._lock = threading.Lock()

    def install(self, patches: Patches) -> None:
        """Take the place of moto's `LambdaFunction.invoke` for functions whose code is an image."""

        def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
            def invoke(function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any) -> str | bytes:
                if "ImageUri" not in function.code:
                    return original(function, body, request_headers, response_headers)
                return self._invoke(function, body, response_headers)

            return invoke

        patches.replace(LambdaFunction, "invoke", replacement, "self body request_headers response_headers")
        patches.replace(LambdaFunction, "get_configuration", _with_logging, "self on_create")

    def run(self, function: LambdaFunction, body: bytes) -> Outcome:
        """Run one event and write its log to CloudWatch Logs; waits for a free warm process. Raises Throttled."""
        if function.reserved_concurrency == 0:
            raise Throttled(function.function_name)
        invocation = Invocation(body or b"{}", function.function_arn, float(function.timeout))
        try:
            outcome = self._pool(function).invoke(invocation)
        except (UnknownImage, OSError, RuntimeError) as error:
            payload = {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": str(error)}
            outcome = Outcome(json.dumps(payload).encode(), "Unhandled", [str(error)])
            log.error("function %s cannot run: %s", function.function_name, error)
        self._write_log(function, outcome.log)
        return outcome

    def pids(self) -> dict[str, list[int]]:
        """Process ids of the warm processes, by function name."""
        with self._lock:
            pools = {name: pool for name, (_, pool) in self._pools.items()}
        return {name: pool.pids() for name, pool in pools.items()}

    def close(self) -> None:
        with self._lock:
            pools = [pool for _, pool in self._pools.values()]
        for pool in pools:
            pool.close(at_once=True)

    def _invoke(self, function: LambdaFunction, body: Any, headers: dict[str, str]) -> bytes:
        data = body.encode() if isinstance(body, str) else bytes(body or b"")
        outcome = self.run(function, data)
        if outcome.error:
            headers["x-amz-function-error"] = outcome.error
        headers["x-amz-log-result"] = base64.b64encode("\n".join(outcome.log).encode()[-TAIL_BYTES:]).decode()
        headers["x-amz-executed-version"] = str(function.version)
        return outcome.payload

    def _pool(self, function: LambdaFunction) -> Pool:
        command = self._host.command_for(function.code["ImageUri"])
        environment = self._environment(function)
        size = max(1, min(self._concurrency, function.reserved_concurrency or self._concurrency))
        wanted = json.dumps([command, environment, size, function.code["ImageUri"]], sort_keys=True)
        with self._lock:
            known, pool = self._pools.get(function.function_name, ("", None))
            if pool is None or known != wanted:
                if pool is not None:
                    pool.close(at_once=False)
                pool = Pool(
                    lambda number: self._sandbox(f"{function.function_name}-{number}", command, environment), size
                )
                self._pools[function.function_name] = (wanted, pool)
            return pool

    def _sandbox(self, name: str, command: list[str], environment: dict[str, str]) -> Sandbox:
        """A sandbox with a folder of its own in the place of /tmp, which on AWS no two sandboxes share."""
        scratch = self._host.work_dir / f"tmp-{name}-{uuid4().hex[:8]}"
        scratch.mkdir(parents=True)
        own = {"TMPDIR": str(scratch), "CXR_SCRATCH": str(scratch / "cxr-model")}
        variables = {**self._host.inherited(), **own, **environment}
        return Sandbox(
            self._host.children, command, variables, self._host.cwd, self._host.log_dir / f"lambda-{name}.log"
        )

    def _environment(self, function: LambdaFunction) -> dict[str, str]:
        """What AWS sets, under what the function's configuration says."""
        return {
            **self._host.environment,
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": str(function.version),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_LOG_GROUP_NAME": function.logs_group_name,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._log_stream(function),
            **_log_format(function),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "LAMBDA_TASK_ROOT": str(self._host.cwd),
            "PYTHONUNBUFFERED": "1",
            "TZ": ":UTC",
            **{key: str(value) for key, value in function.environment_vars.items()},
        }

    @staticmethod
    def _log_stream(function: LambdaFunction) -> str:
        return time.strftime("%Y/%m/%d/", time.gmtime()) + f"[{function.version}]local"

    def _write_log(self, function: LambdaFunction, lines: list[str]) -> None:
        logs, group, stream = function.logs_backend, function.logs_group_name, self._log_stream(function)
        with self._lock:
            logs.ensure_log_group(group)
            if stream not in logs.groups[group].streams:
                logs.create_log_stream(group, stream)
            now = int(time.time() * 1000)
            logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])


def _with_logging(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """moto keeps no LoggingConfig; a function that a template made has one."""

    def get_configuration(self: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        found = original(self, on_create)
        default = {"LogFormat": "Text", "LogGroup": self.logs_group_name}
        return {**found, "LoggingConfig": {**default, **getattr(self, "logging_config", {})}}

    return get_configuration


def _log_format(function: LambdaFunction) -> dict[str, str]:
    """What tells awslambdaric to write its lines as JSON, and from which level on."""
    wanted = getattr(function, "logging_config", {})
    if wanted.get("LogFormat") != "JSON":
        return {}
    return {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": wanted.get("ApplicationLogLevel", "INFO")}
