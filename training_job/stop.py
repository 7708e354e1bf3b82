"""SIGTERM (spot interruption, StopTrainingJob) turned into an orderly end.

The handler only sets a flag; the work looks at it between batches, so no file is ever cut in the middle.
"""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(Exception):
    """The platform asked the job to stop; what was reached is on disk."""


class Stop:
    """A flag that SIGTERM and SIGINT set; `check` raises Stopped once it is set."""

    def __init__(self) -> None:
        self.asked = False

    def install(self) -> Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def check(self) -> None:
        if self.asked:
            raise Stopped("asked to stop")
