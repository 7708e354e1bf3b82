"""The Lambda function in this process, with an S3 that is a dictionary: `python -m benchmarks.function FOLDER` prints
how long it takes for a film, step by step and as a whole.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from benchmarks.engines import FILM
from benchmarks.releases import Model, load, published, release
from benchmarks.timing import timed
from cxr import pointer
from cxr import result as results
from cxr.engine import Engine
from cxr.overlay import overlay, png
from cxr.reader import read_film
from cxr.verdict import Limits, judge
from inference_lambda.assessment import Source, assess
from inference_lambda.config import MB_PER_VCPU, Config
from inference_lambda.handler import Function
from inference_lambda.store import Store
from training_job.memory import peak_mib


class Objects:
    """S3 in a dictionary; of what is written it keeps the size, in bytes by key, so that every upload stays new."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects
        self.written: dict[str, int] = {}

    def get_object(self, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        body = self._objects[Key]
        return {"Body": io.BytesIO(body), "ETag": '"e"', "VersionId": "v", "ContentLength": len(body)}

    def head_object(self, **_: Any) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": "404"}}, "HeadObject")

    def put_object(self, Key: str, Body: bytes, **_: Any) -> dict[str, Any]:
        self.written[Key] = len(Body)
        return {}


@contextlib.contextmanager
def serving(model: Model, uploads: Mapping[str, bytes], threads: int = 1) -> Iterator[tuple[Function, Objects]]:
    """The function, its model promoted, and the S3 that holds the uploads by key. Every film gets a picture."""
    promoted = pointer.promoted(release(model, "models"), None, 0, pointer.Move("benchmark", "benchmark"))
    s3 = Objects({**published(model), pointer.KEY: promoted.to_bytes(), **uploads})
    with tempfile.TemporaryDirectory() as scratch:
        config = Config(
            "uploads", "results", "models", memory_mb=MB_PER_VCPU * threads, scratch=Path(scratch), heatmaps="all"
        )
        yield Function(config, Store(s3)), s3


def steps(folder: Path, threads: int, runs: int) -> dict[str, Any]:
    """Milliseconds of each run and step, and the peak memory (MiB). folder: of benchmarks.engine_files."""
    model, data = load(folder / "bundle"), (folder / FILM).read_bytes()
    engine, limits = Engine(model.files["model.tflite"], threads), Limits.from_bundle(model.bundle)
    film = read_film(data, engine.side)
    output, assessed = engine.run(film.pixels), assess(data, engine, limits)

    def verdict() -> None:
        judge(output.probability, output.ood_distance, film.saturation, limits)
        results.to_bytes(assessed.result(Source("b", "k"), results.Answerer("1", model.sha256), limits))

    def handler() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            said = served.handle({"objects": [{"bucket": "uploads", "key": FILM}]}, None)
        if said["done"] != [FILM]:
            raise RuntimeError(f"the function answered {said}, expected one done")

    with contextlib.redirect_stdout(io.StringIO()), serving(model, {FILM: data}, threads) as (served, _):
        measured = {
            "decode": lambda: read_film(data, engine.side),
            "infer": lambda: engine.run(film.pixels),
            "verdict": verdict,
            "heatmap": lambda: png(overlay(film.pixels, output.heatmap, (film.width, film.height))),
            "handler": handler,
        }
        for step in measured.values():
            step()
        return {"steps": {name: timed(step, runs) for name, step in measured.items()}, "peak_rss_mb": peak_mib()}


def command(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.function", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args(argv)
    print(json.dumps(steps(options.folder, options.threads, options.runs)))


if __name__ == "__main__":
    command(sys.argv[1:])
