"""How much the function writes for one film: `python -m benchmarks.film_sizes [--films FOLDER] [--bundle FOLDER]`.

The function itself writes, handler and all, into an S3 that only counts what it is given. Without a folder the
films are synthetic, without a bundle the network is tiny and untrained.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np

from benchmarks.engines import Objects
from benchmarks.record import record
from benchmarks.releases import Model, find_bundle, load
from cxr.labels import CLASSES
from infra.config import Config as Deployment
from local_aws.synthetic import film

SUFFIXES = (".jpeg", ".jpg", ".png", ".dcm")
SYNTHETIC_SIZE = (1312, 1008)
"""Pixels of the synthetic films; about what the data set's median film has."""


class Kept(Objects):
    """S3 in a dictionary that keeps the size of what is written, in bytes by key."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.written: dict[str, int] = {}

    def put_object(self, **call: Any) -> dict[str, Any]:
        self.written[call["Key"]] = len(call["Body"])
        return {}


def films(folder: Path | None, count: int) -> Iterator[bytes]:
    """`count` files from below `folder`, spread evenly, or synthetic films."""
    if folder is None:
        random = np.random.default_rng(0)
        for number in range(count):
            stream = io.BytesIO()
            film(CLASSES[number % 2], random, size=SYNTHETIC_SIZE).save(stream, "JPEG", quality=90)
            yield stream.getvalue()
        return
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in found[:: max(1, len(found) // count)][:count]:
        yield path.read_bytes()


def written(model: Model, uploads: list[bytes], batch: int) -> dict[str, float]:
    """Kilobytes (1000 bytes) for one film: medians of results and heat maps, mean of the log."""
    from cxr.bundle import MANIFEST, sha256_of
    from inference_lambda.config import Config
    from inference_lambda.handler import Function
    from inference_lambda.store import Store

    manifest = model.bundle.to_json()
    release = {"bucket": "models", "key": f"models/job/{MANIFEST}", "sha256": sha256_of(manifest)}
    pointer = {"schema_version": 1, "serial": 1, "version": "1", "bundle": release, "previous": None}
    objects = {f"models/job/{name}": data for name, data in model.files.items()}
    objects |= {f"models/job/{MANIFEST}": manifest, "models/current.json": json.dumps(pointer).encode()}
    keys = [f"ward-2/person{number:05d}_bacteria_1.jpeg" for number in range(len(uploads))]
    kept, log = Kept(objects | dict(zip(keys, uploads, strict=True))), io.StringIO()
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(log):
        function = Function(Config("uploads", "results", "models", scratch=Path(scratch)), Store(kept))
        started = len(log.getvalue())
        for first in range(0, len(keys), batch):
            said = function.handle({"Records": [message(key) for key in keys[first : first + batch]]}, None)
            if said["batchItemFailures"]:
                raise RuntimeError(f"the function left films unanswered: {log.getvalue()[-500:]}")
    sizes = {
        kind: statistics.median(size for key, size in kept.written.items() if key.startswith(prefix))
        for kind, prefix in (("result", "results/"), ("heat map", "heatmaps/"))
    }
    sizes["log"] = (len(log.getvalue()) - started) / len(keys)
    return {kind: round(size / 1000, 2) for kind, size in sizes.items()}


def message(key: str) -> dict[str, Any]:
    """An SQS record with S3's event for one upload."""
    event = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "s3": {"bucket": {"name": "uploads"}, "object": {"key": quote_plus(key)}},
    }
    return {"messageId": key, "body": json.dumps({"Records": [event]})}


def main(argv: list[str]) -> int:
    """Writes build/bench/film_sizes.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.film_sizes", description=__doc__)
    parser.add_argument("--films", type=Path, help="folder of films (default: synthetic ones)")
    parser.add_argument("--bundle", type=Path, help="bundle to serve (default: a tiny untrained network)")
    parser.add_argument("--count", type=int, default=40, help="films at most (40)")
    options = parser.parse_args(argv)
    model, uploads = load(find_bundle(options.bundle)), list(films(options.films, options.count))
    sizes = written(model, uploads, Deployment().batch_size)
    payload = {
        "films": len(uploads),
        "source": "synthetic films" if options.films is None else "real films",
        "weights": model.bundle.weights.get("label"),
        "upload_kb": round(statistics.median(map(len, uploads)) / 1000, 1),
        "kb_per_film": sizes,
    }
    print(json.dumps(payload, indent=2))
    print(f"written to {record('film_sizes', payload)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
