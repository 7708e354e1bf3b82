"""Training on features computed once, against `fit()` through the frozen base: same films, same machine, one run.

Films are synthetic and weights random: neither changes the arithmetic's cost. The two ways are measured alternately,
and the naive one is extrapolated from one epoch; `load` records how busy the machine was meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, ROOT, peak_rss_mib, record

FILMS = 5216
"""Films of the Kermany train folder: what the costs are scaled to."""
EPOCHS = 10
SAMPLE = 64
ROUNDS = 3
MEMORY_CHILD = "--memory-child"


def best(measure: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the fastest of some runs: neighbours can only make a run slower."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        measure()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def speeds(sample: int) -> dict[str, Any]:
    import keras
    import numpy as np
    import tensorflow as tf

    from training_job import features, fit, network
    from training_job.checkpoint import Checkpoints
    from training_job.heads import GAP
    from training_job.learning import feature_trunk
    from training_job.stop import Stop

    rng = np.random.default_rng(0)
    films = rng.integers(0, 255, (sample, 224, 224), dtype=np.uint8)
    labels = np.arange(sample) % 2
    net = network.build(GAP, None, 256, seed=0)
    trunks = {engine: feature_trunk(net, ("embedding",), engine) for engine in ("keras", "int8")}
    model = net.trunk(("embedding",))
    forward = tf.function(lambda batch: model(batch, training=False))

    def pass_of(engine: str) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                features.compute(trunks[engine], films, Path(folder), engine, Stop())

        return run

    def plain_forward() -> None:
        for start in range(0, sample, features.BATCH):
            forward(tf.constant(films[start : start + features.BATCH, ..., None], tf.float32))

    whole = net.whole()
    naive_samples = features.Samples(
        [films[..., None]], np.arange(sample), GAP.targets(labels), np.ones(sample, np.float32)
    )
    phase = fit.Phase("head", EPOCHS, 1e-3, 32, EPOCHS, 0)
    fit.compiled(whole, GAP, phase, sample // 32)

    def naive_epoch() -> None:
        batches = fit.Batches(naive_samples, naive_samples.order(0, 0), 32)
        whole.fit(batches, epochs=1, verbose=0, shuffle=False)

    jobs = {"forward": plain_forward, "keras": pass_of("keras"), "int8": pass_of("int8"), "naive": naive_epoch}
    for job in jobs.values():
        job()
    seconds = {name: float("inf") for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            seconds[name] = min(seconds[name], best(job, 1))

    embeddings = rng.normal(size=(FILMS, 512)).astype(np.float32)
    targets = np.arange(FILMS) % 2
    head = keras.Model(net.points["embedding"], net.output)
    data = features.Samples([embeddings], np.arange(FILMS), GAP.targets(targets), np.ones(FILMS, np.float32))

    def head_epochs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            tune = (embeddings, np.arange(381), targets[:381])
            fit.train(head, GAP, phase, data, tune, Checkpoints(Path(folder), "x"), Stop(), lambda line: None)

    ten_epochs = best(head_epochs, 2)
    per_film = {name: value / sample for name, value in seconds.items()}
    naive = per_film["naive"] * FILMS * EPOCHS
    return {
        "films_per_second": {name: 1 / value for name, value in per_film.items()},
        "ten_head_epochs_seconds": ten_epochs,
        "naive_ten_epochs_seconds_extrapolated": naive,
        "cached_ten_epochs_seconds": {e: per_film[e] * FILMS + ten_epochs for e in ("keras", "int8")},
        "speedup": {e: naive / (per_film[e] * FILMS + ten_epochs) for e in ("keras", "int8")},
        "feature_pass_share_of_best_forward": per_film["forward"] / per_film["keras"],
        "sample": sample,
    }


def memory_child() -> int:
    """Peak resident memory of a job's steps with 5,216 films held: pixels, network, int8 trunk, features, head."""
    import numpy as np

    from training_job import features, fit, network
    from training_job.checkpoint import Checkpoints
    from training_job.heads import GAP
    from training_job.learning import feature_trunk
    from training_job.stop import Stop

    films = np.random.default_rng(0).integers(0, 255, (FILMS, 224, 224), dtype=np.uint8)
    net = network.build(GAP, None, 256, seed=0)
    trunk = feature_trunk(net, ("embedding",), "int8")
    with tempfile.TemporaryDirectory() as folder:
        few = features.compute(trunk, films[:8], Path(folder), "films", Stop())["embedding"]
        embeddings = np.tile(few, (FILMS // 8, 1))
        labels = np.arange(len(embeddings)) % 2
        data = features.Samples(
            [embeddings], np.arange(len(labels)), GAP.targets(labels), np.ones(len(labels), np.float32)
        )
        tune = (embeddings, np.arange(381), labels[:381])
        phase = fit.Phase("head", 2, 1e-3, 32, 2, 0)
        model = net.training_model("embedding")
        fit.train(model, GAP, phase, data, tune, Checkpoints(Path(folder), "x"), Stop(), lambda line: None)
    print(json.dumps({"peak_mib": peak_rss_mib()}))
    return 0


def peak_memory_mib() -> float:
    command = [sys.executable, "-m", "benchmarks.training", MEMORY_CHILD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])["peak_mib"]


def main(argv: list[str]) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"films per measurement (default {SAMPLE})")
    parser.add_argument("--publish", action="store_true", help="also write benchmarks/results/training.json")
    parser.add_argument(MEMORY_CHILD, action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.memory_child:
        return memory_child()
    load = [os.getloadavg()[0]]
    result = speeds(chosen.sample)
    load.append(os.getloadavg()[0])
    result |= {"peak_memory_mib_for_5216_films": peak_memory_mib(), "load": load, "rounds": ROUNDS}
    for name, value in result.items():
        print(f"{name:44} {json.dumps(value)}")
    path = record("training", result)
    if chosen.publish:
        RESULTS.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, RESULTS / "training.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
