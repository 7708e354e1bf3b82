"""What survives an interruption: the state after the last whole epoch, in one file.

A checkpoint appears whole or not at all, and is taken up only by a job with the same data, weights,
hyperparameters and code; then the resumed job ends where the uninterrupted one would have. What was refused at the end
is not computed again only to be refused again.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training_job import files
from training_job.console import say

FILE, REFUSAL = "state.npz", "refused.json"
_GROUPS = ("weights", "best", "optimizer")
# What a file raises that was cut short on its way to or from S3.
_UNREADABLE = (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


@dataclass
class State:
    """Progress of one phase. `epoch` counts finished epochs; arrays are in Keras' variable order.

    earlier: the histories of the phases before this one.
    """

    phase: str
    epoch: int = 0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    earlier: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_epoch: int = 0
    weights: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)

    def histories(self) -> dict[str, list[dict[str, float]]]:
        """{phase: its epochs}, this phase's last."""
        return {**self.earlier, self.phase: self.history}


class Checkpoints:
    """The folder that SageMaker keeps in S3 while the job runs."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path, self._refusal = folder / FILE, folder / REFUSAL
        self._fingerprint = fingerprint

    def save(self, state: State) -> None:
        arrays = {f"{group}_{n}": a for group in _GROUPS for n, a in enumerate(getattr(state, group))}
        plain = {name: value for name, value in asdict(state).items() if name not in _GROUPS}
        plain["fingerprint"] = self._fingerprint
        buffer = io.BytesIO()
        np.savez(buffer, about=np.array(json.dumps(plain)), **arrays)
        files.write(self._path, buffer.getvalue())

    def load(self) -> State | None:
        """The saved state; None when there is none, it belongs to another job, or it cannot be read (then said)."""
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                plain = json.loads(str(stored["about"]))
                if plain.pop("fingerprint") != self._fingerprint:
                    return None
                counts = {group: sum(name.startswith(f"{group}_") for name in stored.files) for group in _GROUPS}
                arrays: dict[str, Any] = {
                    group: [stored[f"{group}_{n}"] for n in range(count)] for group, count in counts.items()
                }
            return State(**plain, **arrays)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            _say_unreadable(self._path, error)
            return None

    def refuse(self, why: dict[str, Any]) -> None:
        """Remember, as JSON, why what these checkpoints lead to cannot be served."""
        files.write(self._refusal, json.dumps({"fingerprint": self._fingerprint, "why": why}))

    def refusal(self) -> dict[str, Any] | None:
        """The remembered refusal; None when there is none, it belongs to another job, or it cannot be read."""
        try:
            found = json.loads(self._refusal.read_text())
            return found["why"] if found["fingerprint"] == self._fingerprint else None
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            _say_unreadable(self._refusal, error)
            return None


def _say_unreadable(path: Path, error: Exception) -> None:
    say(f"checkpoint {path} cannot be read ({type(error).__name__}: {error}); the job starts over")
