"""Training on features computed once, against `fit()` through the frozen base: same films, same machine, one run.

Films are synthetic and weights random: neither changes the arithmetic's cost. The two ways are measured alternately,
and the naive one is extrapolated from one epoch; `load` records how busy the machine was meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import ROOT, Table, arguments, machine, record, table

FILMS = 5216
"""Films of the Kermany train folder: what the costs are scaled to."""
TRAIN_FILMS = 4426
"""Of them, those of the train bucket: what augmented copies are made of."""
EPOCHS = 10
SAMPLE = 64
ROUNDS = 3
FORWARD_BATCHES = (16, 32, 64)
"""Keras' best forward pass is sought among these, by predict() and as a graph."""
MEMORY_CHILD = "--memory-child"
AT_LEAST = {"speedup_keras": 8.0, "speedup_int8": 20.0, "feature_pass_of_best_forward": 0.9}
AT_MOST = {"peak_memory_mib": 3e9 / 2**20}
NEEDS_VNNI = {"speedup_int8"}
"""Bounds meant for chips with int8 dot products; without them int8 is hardly faster than float32."""


def seconds_of(measure: Callable[[], object]) -> float:
    started = time.perf_counter()
    measure()
    return time.perf_counter() - started


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
    compiled = {jit: tf.function(lambda batch: model(batch, training=False), jit_compile=jit) for jit in (False, True)}

    def pass_of(engine: str) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                features.compute(trunks[engine], films, Path(folder), engine, Stop())

        return run

    def forward_in(size: int, jit: bool) -> Callable[[], None]:
        def run() -> None:
            for start in range(0, sample, size):
                compiled[jit](tf.constant(films[start : start + size, ..., None], tf.float32))

        return run

    def predict(size: int) -> Callable[[], object]:
        return lambda: model.predict(films[..., None].astype(np.float32), batch_size=size, verbose=0)

    forwards = {
        **{f"predict {size}": predict(size) for size in FORWARD_BATCHES},
        **{f"graph {size}": forward_in(size, False) for size in FORWARD_BATCHES},
        "xla 32": forward_in(32, True),
    }
    whole = net.whole()
    naive_samples = features.Samples(
        [films[..., None]], np.arange(sample), GAP.targets(labels), np.ones(sample, np.float32)
    )
    phase = fit.Phase("head", EPOCHS, 1e-3, 32, EPOCHS, 0)
    fit.compiled(whole, GAP, phase, sample // 32)

    def naive_epoch() -> None:
        batches = fit.Batches(naive_samples, naive_samples.order(0, 0), 32)
        whole.fit(batches, epochs=1, verbose=0, shuffle=False)

    jobs = {**forwards, "keras": pass_of("keras"), "int8": pass_of("int8"), "naive": naive_epoch}
    for job in jobs.values():
        job()
    turns = [{name: seconds_of(job) for name, job in jobs.items()} for _ in range(ROUNDS)]

    embeddings = rng.normal(size=(FILMS, 512)).astype(np.float32)
    targets = np.arange(FILMS) % 2
    head = keras.Model(net.points["embedding"], net.output)
    data = features.Samples([embeddings], np.arange(FILMS), GAP.targets(targets), np.ones(FILMS, np.float32))

    def head_epochs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            lesson = fit.Lesson(data, embeddings, np.arange(381), targets[:381])
            with contextlib.redirect_stdout(io.StringIO()):
                fit.train(head, GAP, phase, lesson, Checkpoints(Path(folder), "x"), Stop())

    ten_epochs = median(seconds_of(head_epochs) for _ in range(ROUNDS))
    per_film = {name: median(turn[name] for turn in turns) / sample for name in jobs}
    naive = per_film["naive"] * FILMS * EPOCHS
    best = min(forwards, key=lambda name: per_film[name])
    return {
        "films_per_second": {name: 1 / value for name, value in per_film.items()},
        "ten_head_epochs_seconds": ten_epochs,
        "naive_ten_epochs_seconds_extrapolated": naive,
        "cached_ten_epochs_seconds": {e: per_film[e] * FILMS + ten_epochs for e in ("keras", "int8")},
        "speedup": {e: naive / (per_film[e] * FILMS + ten_epochs) for e in ("keras", "int8")},
        "best_forward": best,
        "feature_pass_share_of_best_forward": per_film[best] / per_film["keras"],
        "sample": sample,
    }


def memory_child() -> int:
    """Peak resident memory of a job's steps: 5,216 films and one augmented copy held, network, int8 trunk, head."""
    import numpy as np

    from training_job import augment, features, fit, memory, network
    from training_job.checkpoint import Checkpoints
    from training_job.heads import GAP
    from training_job.learning import feature_trunk
    from training_job.stop import Stop

    films = np.random.default_rng(0).integers(0, 255, (FILMS, 224, 224), dtype=np.uint8)
    copy = np.stack(list(augment.augmented(films[:TRAIN_FILMS], GAP.augmentation, 0, 1)))
    net = network.build(GAP, None, 256, seed=0)
    trunk = feature_trunk(net, ("embedding",), "int8")
    with tempfile.TemporaryDirectory() as folder:
        few = features.compute(trunk, films[:8], Path(folder), "films", Stop())["embedding"][:]
        embeddings = np.tile(few, (FILMS // 8, 1))
        labels = np.arange(len(embeddings)) % 2
        rows = np.arange(len(copy))
        inputs = [embeddings, embeddings[rows]]
        data = features.Samples(inputs, rows, GAP.targets(labels[rows]), np.ones(len(rows), np.float32))
        lesson = fit.Lesson(data, embeddings, np.arange(TRAIN_FILMS, TRAIN_FILMS + 381), labels[:381])
        phase = fit.Phase("head", 2, 1e-3, 32, 2, 0)
        model = net.training_model("embedding")
        fit.train(model, GAP, phase, lesson, Checkpoints(Path(folder), "x"), Stop())
    print(json.dumps({"peak_mib": memory.peak_mib()}))
    return 0


def peak_memory_mib() -> float:
    command = [sys.executable, "-m", "benchmarks.training", MEMORY_CHILD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])["peak_mib"]


def judged(result: dict[str, Any], simd: list[str]) -> dict[str, dict[str, Any]]:
    """{figure: {"value", "bound", "met"}}; met is None where a bound is meant for instructions that this chip lacks."""
    values = {
        **{f"speedup_{engine}": value for engine, value in result["speedup"].items()},
        "feature_pass_of_best_forward": result["feature_pass_share_of_best_forward"],
        "peak_memory_mib": result["peak_memory_mib_for_5216_films"],
    }
    lacks_vnni = not any("vnni" in flag for flag in simd)
    found = {}
    for name, value in values.items():
        met = value >= AT_LEAST[name] if name in AT_LEAST else value <= AT_MOST[name]
        bound = AT_LEAST.get(name, AT_MOST.get(name))
        found[name] = {"value": value, "bound": bound, "met": None if name in NEEDS_VNNI and lacks_vnni else met}
    return found


def documented(result: dict[str, Any]) -> Table:
    """The table of the documents."""
    words = {True: "yes", False: "no", None: "chip without VNNI"}
    rows = [
        [
            name,
            round(check["value"], 2),
            f"at {'least' if name in AT_LEAST else 'most'} {check['bound']:.4g}",
            words[check["met"]],
        ]
        for name, check in result["required"].items()
    ]
    note = (
        f"Ten epochs over {FILMS} films, feature pass included, against fit() through the frozen base, extrapolated "
        f"from one epoch of {result['sample']} films, medians of {ROUNDS} turns; load {max(result['load']):.1f}."
    )
    return table("figure | measured | wanted | met", rows, note)


def main(argv: list[str]) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = arguments("training", __doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"films per measurement (default {SAMPLE})")
    parser.add_argument(MEMORY_CHILD, action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.memory_child:
        return memory_child()
    load = [os.getloadavg()[0]]
    result = speeds(chosen.sample)
    load.append(os.getloadavg()[0])
    result |= {"peak_memory_mib_for_5216_films": peak_memory_mib(), "load": load, "rounds": ROUNDS}
    result["required"] = judged(result, machine()["simd"])
    for name, value in result.items():
        print(f"{name:44} {json.dumps(value)}")
    record("training", {**result, "tables": {"training": documented(result)}}, chosen.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
