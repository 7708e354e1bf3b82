"""Runs a command that dies with its parent: `python launcher.py PARENT_PID COMMAND...`.

The tie (on Linux; elsewhere there is none) is made between fork and exec, in a fresh process: a pre-exec hook inside a
threaded parent is not safe.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    parent, command = int(argv[0]), argv[1:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
