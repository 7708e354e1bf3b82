"""No child process outlives the local AWS: not after an exception, not after Ctrl-C, not after SIGKILL.

Each child leads a process group of its own, which is registered with a cleanup process (`cleanup.py`); that one kills
what is left once the parent is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

CLEANUP = [sys.executable, "-I", "-S", str(Path(__file__).with_name("cleanup.py"))]


class Child:
    """A running command: `pid`, `returncode` (None while it runs), and `wait`."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.ended = threading.Event()

    @property
    def returncode(self) -> int | None:
        return self._popen.returncode if self.ended.is_set() else None

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the command ended within `timeout` seconds."""
        return self.ended.wait(timeout)

    def signal(self, number: int) -> None:
        """Send a signal to the command's whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def stop(self, grace: float = 0.0) -> None:
        """SIGTERM, `grace` seconds, then SIGKILL to the whole group; returns when the command is gone."""
        if grace and not self.ended.is_set():
            self.signal(signal.SIGTERM)
            self.ended.wait(grace)
        self.signal(signal.SIGKILL)
        self.ended.wait()


class Children:
    """The children of one local AWS; `folder`, if there is one, holds its files and goes with it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._living: set[Child] = set()
        self._lock = threading.RLock()
        self._closed = False
        command = [*CLEANUP, *([str(folder)] if folder else [])]
        self._cleanup = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        output: IO[bytes] | int,
        on_exit: Callable[[Child], None] | None = None,
    ) -> Child:
        """Start a command, standard output and error going to `output`; `on_exit` is called once it has ended.

        Raises FileNotFoundError with the command's name where it does not exist.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the local AWS is shutting down and starts no more processes")
            popen = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._register("+", popen.pid)
            child = Child(popen)
            self._living.add(child)
        threading.Thread(target=self._reap, args=(child, popen, on_exit), daemon=True).start()
        return child

    def close(self) -> None:
        """Kill every child with its group, and wait for them."""
        with self._lock:
            self._closed = True
            living = list(self._living)
        for child in living:
            child.stop()
        with contextlib.suppress(BrokenPipeError):
            self._cleanup.stdin.close()  # type: ignore[union-attr]
        self._cleanup.wait()

    def _reap(self, child: Child, popen: subprocess.Popen[bytes], on_exit: Callable[[Child], None] | None) -> None:
        popen.wait()
        child.signal(signal.SIGKILL)
        self._register("-", child.pid)
        with self._lock:
            self._living.discard(child)
        child.ended.set()
        if on_exit:
            on_exit(child)

    def _register(self, sign: str, group: int) -> None:
        with contextlib.suppress(OSError, ValueError), self._lock:
            self._cleanup.stdin.write(f"{sign}{group}\n".encode())  # type: ignore[union-attr]
            self._cleanup.stdin.flush()  # type: ignore[union-attr]


def describe_exit(returncode: int | None) -> str:
    """`exit status 3`, or `signal: killed`: the words that AWS Lambda uses."""
    if returncode is not None and returncode < 0:
        return f"signal: {(signal.strsignal(-returncode) or str(-returncode)).lower()}"
    return f"exit status {returncode}"
