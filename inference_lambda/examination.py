"""bytes + model -> everything that is known about one image, without S3.

The rule defended here: whatever the bytes are, there is a verdict; only a broken model or an exhausted machine raises.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cxr.bundle import sha256_of
from cxr.engine import Engine, Output
from cxr.film import Film, UnreadableImage
from cxr.reader import read_film
from cxr.verdict import Limits, Verdict, judge, unreadable


@dataclass(frozen=True)
class Examination:
    """film and output are None for an unreadable image. sha256: of the bytes; durations: ms per step."""

    verdict: Verdict
    sha256: str | None
    size: int
    film: Film | None = None
    output: Output | None = None
    durations: dict[str, float] = field(default_factory=dict)


def examine(data: bytes, engine: Engine, limits: Limits) -> Examination:
    """Reads, infers and judges one image."""
    digest = sha256_of(data)
    started = time.perf_counter()
    try:
        film = read_film(data, engine.side)
    except UnreadableImage as error:
        durations = {"decode": _ms_since(started)}
        return Examination(unreadable(error.code, error.sentence), digest, len(data), durations=durations)
    decoded = time.perf_counter()
    output = engine.run(film.pixels)
    durations = {"decode": (decoded - started) * 1000, "infer": _ms_since(decoded)}
    verdict = judge(output.probability, output.ood_distance, film.saturation, limits)
    return Examination(verdict, digest, len(data), film, output, durations)


def too_large(size: int, limit: int) -> Examination:
    """For an object that was not even downloaded; size, limit: bytes."""
    error = UnreadableImage("file_too_large", bytes=size, limit=limit)
    return Examination(unreadable(error.code, error.sentence), None, size)


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
