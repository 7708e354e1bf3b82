"""What every step of a job is given: where it reads and writes, its settings, when to stop, and what it has cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxr.hyperparameters import Hyperparameters
from training_job.console import Clock
from training_job.container import Container
from training_job.heads import HEADS, Head
from training_job.stop import Stop


@dataclass(frozen=True)
class Context:
    """One run of a job."""

    container: Container
    settings: Hyperparameters
    stop: Stop = field(default_factory=Stop)
    clock: Clock = field(default_factory=Clock)

    @property
    def head(self) -> Head:
        return HEADS[self.settings.head]
