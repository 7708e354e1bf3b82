"""bytes + model -> everything that is known about one image, without S3.

Whatever the bytes are, there is a verdict; only a broken model or an exhausted machine raises.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from cxr import grid
from cxr.bundle import sha256_of
from cxr.engine import Engine, Output
from cxr.film import Film, UnreadableImage
from cxr.overlay import levels
from cxr.reader import read_film
from cxr.result import Answerer, Image, Mark, Measured, build
from cxr.verdict import Limits, Verdict, judge, unreadable


@dataclass(frozen=True)
class Source:
    """Where an image came from; all None for a local file but the key, which is then the file's name as given."""

    bucket: str | None
    key: str | None
    version_id: str | None = None
    etag: str | None = None


@dataclass(frozen=True)
class Assessment:
    """film and output are None for an unreadable image. sha256: of the bytes; size: bytes; durations: ms per step."""

    verdict: Verdict
    sha256: str | None
    size: int
    film: Film | None = None
    output: Output | None = None
    durations: dict[str, float] = field(default_factory=dict)

    def result(
        self,
        source: Source,
        model: Answerer,
        limits: Limits,
        heatmap: dict[str, str] | None = None,
        supersedes: Mark | None = None,
    ) -> dict[str, Any]:
        """The result document (cxr.result.build). heatmap: {"bucket", "key"} of a PNG that was written; supersedes:
        another model's answer.
        """
        seen = (self.film.format, self.film.width, self.film.height) if self.film else (None, None, None)
        image = Image(source.bucket, source.key, source.version_id, source.etag, self.sha256, self.size, *seen)
        ood = {"distance": self.output.ood_distance, "limit": limits.ood_limit} if self.output else None
        place: dict[str, str | None] = {"bucket": None, "key": None, **(heatmap or {})}
        heat = {**place, "grid": grid.encode(levels(self.output.heatmap).tobytes())} if self.output else None
        return build(image, model, self.verdict, Measured(ood, self.durations, heat), supersedes)


def assess(data: bytes, engine: Engine, limits: Limits) -> Assessment:
    """Reads, infers and judges one image."""
    digest = sha256_of(data)
    started = time.perf_counter()
    try:
        film = read_film(data, engine.side)
    except UnreadableImage as error:
        durations = {"decode": _ms_since(started)}
        return Assessment(unreadable(error.code, error.sentence), digest, len(data), durations=durations)
    decoded = time.perf_counter()
    output = engine.run(film.pixels)
    durations = {"decode": (decoded - started) * 1000, "infer": _ms_since(decoded)}
    verdict = judge(output.probability, output.ood_distance, film.saturation, limits)
    return Assessment(verdict, digest, len(data), film, output, durations)


def too_large(size: int, limit: int) -> Assessment:
    """For an object that was not even downloaded; size, limit: bytes."""
    error = UnreadableImage("file_too_large", bytes=size, limit=limit)
    return Assessment(unreadable(error.code, error.sentence), None, size)


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
