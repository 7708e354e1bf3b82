"""The one place that knows LiteRT.

Numbers leave the model only through one checked signature, and a model that does not
reproduce its own golden films on this very machine is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np

from cxr.bundle import SIDES

SIGNATURE = "serving_default"
INPUT_NAME = "film"
OUTPUT_NAMES = frozenset({"probability", "heatmap", "ood_distance"})
DISTANCE_TOLERANCE = 0.05
"""Relative; the distance decides only near its limit, and int8 kernels of different CPUs round differently."""

MAX_TOLERANCE = 0.1
"""Of a golden film's probability; exports write 0.02. A model that is further off is another model."""
MAX_GOLDEN_BYTES = 64 << 20
"""Unpacked; a film of 320 px with its answers has 0.1 MB."""


class EngineError(Exception):
    """The model file is unusable; the message says which expectation it breaks."""


@dataclass(frozen=True)
class Output:
    """probability: calibrated, of PNEUMONIA. heatmap: float32 [h, w] >= 0. ood_distance: >= 0."""

    probability: float
    heatmap: np.ndarray
    ood_distance: float


class _Golden(NamedTuple):
    """films: uint8 [n, side, side]; the answers recorded for them; tolerance: of the probability."""

    films: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray
    heatmaps: np.ndarray
    tolerance: float


class Engine:
    """A LiteRT interpreter of one deployed model. A path is mapped into memory, bytes are copied.

    side: px of the square films that it takes.
    """

    def __init__(self, model: Path | bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        try:
            self._interpreter = Interpreter(num_threads=threads, **source)
            signature = self._interpreter.get_signature_list().get(SIGNATURE, {})
            self._check_names(signature)
            self._run = self._interpreter.get_signature_runner(SIGNATURE)
            self.side = self._checked_side()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT refuses the model: {error}") from error

    def run(self, pixels: np.ndarray) -> Output:
        """pixels: uint8 [side, side]. ValueError for any other shape or dtype."""
        if pixels.shape != (self.side, self.side) or pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 {(self.side, self.side)}: "
                f"read the film with cxr.reader.read_film(data, {self.side})"
            )
        raw = self._run(**{INPUT_NAME: pixels.astype(np.float32)[None, :, :, None]})
        heatmap = raw["heatmap"].reshape(raw["heatmap"].shape[-2:]).copy()
        return Output(float(raw["probability"].item()), heatmap, float(raw["ood_distance"].item()))

    def check_golden(self, golden: Path | bytes, at_most: int | None = None) -> None:
        """Runs the films of golden.npz (the first `at_most`); EngineError if an answer differs from the recorded one or
        the file is none. OSError only for a path that cannot be opened.

        Each film costs one inference, so a cold start asks for few.
        """
        recorded = _recorded(golden, self.side)
        answers = zip(recorded.films, recorded.probabilities, recorded.distances, recorded.heatmaps, strict=True)
        for film, probability, distance, heatmap in islice(answers, at_most):
            self._compare(self.run(film), probability, distance, heatmap, recorded.tolerance)

    def _compare(self, got: Output, probability: float, distance: float, heatmap: np.ndarray, tolerance: float) -> None:
        if not abs(got.probability - probability) <= tolerance:
            raise EngineError(
                f"golden probability {probability:.5f}, got {got.probability:.5f}, tolerance {tolerance:.5f}"
            )
        if not abs(got.ood_distance - distance) <= DISTANCE_TOLERANCE * max(1.0, abs(float(distance))):
            raise EngineError(
                f"golden distance {distance:.3f}, got {got.ood_distance:.3f}, tolerance {DISTANCE_TOLERANCE:.0%}"
            )
        if got.heatmap.shape != heatmap.shape or not np.isfinite(got.heatmap).all():
            raise EngineError(f"golden heat map {heatmap.shape}, got {got.heatmap.shape}, which must be finite")

    def _check_names(self, signature: dict) -> None:
        inputs, outputs = set(signature.get("inputs", ())), set(signature.get("outputs", ()))
        if inputs != {INPUT_NAME} or outputs != OUTPUT_NAMES:
            raise EngineError(
                f"signature {SIGNATURE} has {sorted(inputs)} -> {sorted(outputs)}, "
                f"expected {INPUT_NAME} -> {sorted(OUTPUT_NAMES)}"
            )

    def _checked_side(self) -> int:
        details = self._run.get_input_details()[INPUT_NAME]
        shape, dtype = tuple(int(n) for n in details["shape"]), np.dtype(details["dtype"])
        side = shape[1] if len(shape) > 1 else 0
        if shape != (1, side, side, 1) or side not in SIDES or dtype != np.float32:
            raise EngineError(
                f"input is {dtype} {shape}, expected float32 (1, side, side, 1) with a side of "
                f"{SIDES.start} to {SIDES[-1]} px in steps of {SIDES.step}"
            )
        return side


def _recorded(golden: Path | bytes, side: int) -> _Golden:
    """The content of golden.npz. Raises EngineError unless it is whole and of the form that an export writes, OSError
    only for a path that cannot be read.
    """
    data = golden if isinstance(golden, bytes) else golden.read_bytes()
    try:
        films, tolerance, answers = _unpacked(data)
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(
            f"golden.npz is no archive of golden films ({type(error).__name__}); export the bundle again"
        ) from error
    probabilities, distances, heatmaps = answers
    if films.dtype != np.uint8 or films.shape[1:] != (side, side) or not len(films):
        raise EngineError(
            f"golden films are {films.dtype} {films.shape}, expected uint8 (n, {side}, {side}); export the bundle again"
        )
    shapes = probabilities.shape, distances.shape, heatmaps.shape[:1]
    if shapes != (films.shape[:1],) * 3:
        raise EngineError(f"golden.npz holds {len(films)} films and answers of {shapes}; export the bundle again")
    if not all(np.isfinite(answer).all() for answer in answers):
        raise EngineError("golden.npz records an answer that is no finite number; export the bundle again")
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise EngineError(
            f"golden.npz lets a probability be off by {tolerance:g}, at most {MAX_TOLERANCE:g} is accepted; "
            "export the bundle again"
        )
    return _Golden(films, probabilities, distances, heatmaps, tolerance)


def _unpacked(data: bytes) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """films, tolerance and answers of an archive. Raises EngineError if they would take more memory than golden films
    do, and whatever numpy and zipfile raise for what is no such archive.
    """
    with ZipFile(BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_GOLDEN_BYTES:
        raise EngineError(
            f"golden.npz unpacks to {size} bytes, the limit is {MAX_GOLDEN_BYTES}; export the bundle again"
        )
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        answers = [arrays[name].astype(np.float32) for name in ("probability", "ood_distance", "heatmap")]
        return arrays["films"], float(arrays["tolerance"]), answers
