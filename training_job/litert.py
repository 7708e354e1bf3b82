"""Running a .tflite of ours that is not the served one: the feature trunk and the head that is measured on it.

Features are computed by the same converter, kernels and weights as the served file, so a head is trained on the
very numbers that it will be served with. (The served file itself is run by cxr.engine.)
"""

from __future__ import annotations

import os

import numpy as np


class Signature:
    """A .tflite with one input and named outputs, called on one item at a time."""

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=model, num_threads=threads or cores())
        self._run = self._interpreter.get_signature_runner()
        (self._input,) = self._run.get_input_details()

    def __call__(self, item: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs (with their batch axis of one) of a single item [...] given without the batch axis."""
        return self._run(**{self._input: item[None].astype(np.float32)})


def cores() -> int:
    """Cores that this process may use; CXR_THREADS caps it on a shared machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, int(os.environ.get("CXR_THREADS", allowed))))
