"""How much the function writes for one film: `python -m benchmarks.film_sizes [--films FOLDER] [--bundle FOLDER]`.

The function itself writes, handler and all. Without a folder the films are synthetic, without a bundle the network is
tiny and untrained.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np

from benchmarks.function import serving
from benchmarks.load import jpeg
from benchmarks.record import arguments, compact, record
from benchmarks.releases import Model, find_bundle, load
from cxr.dataset import FILM_SUFFIXES
from cxr.labels import CLASSES
from infra.config import Config
from local_aws.synthetic import film

SYNTHETIC_SIZE = (1312, 1008)
"""Pixels of the synthetic films; about what the data set's median film has."""


def films(folder: Path | None, count: int) -> Iterator[bytes]:
    """`count` files from below `folder`, spread evenly, or synthetic films."""
    if folder is None:
        random = np.random.default_rng(0)
        yield from (jpeg(film(CLASSES[number % 2], random, size=SYNTHETIC_SIZE)) for number in range(count))
        return
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILM_SUFFIXES)
    for path in found[:: max(1, len(found) // count)][:count]:
        yield path.read_bytes()


def written(model: Model, uploads: Sequence[bytes], batch: int) -> dict[str, float]:
    """Kilobytes (1000 bytes) for one film: medians of results and heat maps, mean of the log."""
    named = {f"ward-2/person{number:05d}_bacteria_1.jpeg": data for number, data in enumerate(uploads)}
    keys, log = list(named), io.StringIO()
    with contextlib.redirect_stdout(log), serving(model, named) as (function, s3):
        started = len(log.getvalue())
        for first in range(0, len(keys), batch):
            said = function.handle({"Records": [message(key) for key in keys[first : first + batch]]}, None)
            if said["batchItemFailures"]:
                raise RuntimeError(f"the function left films unanswered: {log.getvalue()[-500:]}")
    sizes = {
        kind: statistics.median(size for key, size in s3.written.items() if key.startswith(prefix))
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
    parser = arguments("film_sizes", __doc__)
    parser.add_argument("--films", type=Path, help="folder of films (default: synthetic ones)")
    parser.add_argument("--bundle", type=Path, help="bundle to serve (default: a tiny untrained network)")
    parser.add_argument("--count", type=int, default=40, help="films at most (40)")
    options = parser.parse_args(argv)
    model, uploads = load(find_bundle(options.bundle)), list(films(options.films, options.count))
    payload = {
        "films": len(uploads),
        "source": "synthetic films" if options.films is None else "real films",
        "weights": model.bundle.weights.get("label"),
        "upload_kb": round(statistics.median(map(len, uploads)) / 1000, 1),
        "kb_per_film": written(model, uploads, Config().batch_size),
    }
    print(f"{compact(payload)}\nwritten to {record('film_sizes', payload, options.publish)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
