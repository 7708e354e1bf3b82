"""Kills the process groups of a local AWS, and removes its folders, once it is gone, however it went (even SIGKILL).

It reads `+PGID` and `-PGID` lines from its standard input, whose other end only the local AWS holds: end of file,
or a changed parent, means that the owner is dead. It runs in a session of its own, so that what kills the owner's
group does not kill the cleanup.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys

CHECK_SECONDS = 1.0


def watch(fd: int, parent: int) -> set[int]:
    """The groups still registered when the owner died or closed the pipe."""
    groups: set[int] = set()
    pending = b""
    while os.getppid() == parent:
        if not select.select([fd], [], [], CHECK_SECONDS)[0]:
            continue
        data = os.read(fd, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            group = int(line[1:])
            groups.add(group) if line[:1] == b"+" else groups.discard(group)
    return groups


def main() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    for group in watch(0, os.getppid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
