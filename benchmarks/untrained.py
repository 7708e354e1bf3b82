"""A bundle whose network is tiny and untrained, made by the training job's own exporter in seconds.

It has the signature and the files of a real model and passes the function's self-test, but answers in a few
milliseconds: the pipeline benchmark measures the pipeline, not VGG16. What it says about films means nothing.
Run as `python -m benchmarks.untrained FOLDER`: TensorFlow then stays out of the process that measures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import jpeg
from cxr.bundle import SIDE, input_of
from cxr.engine import Engine
from cxr.labels import CLASSES
from cxr.reader import read_film
from local_aws.synthetic import film

FILMS, SEED = 12, 0


def synthetic_films(count: int, side: int = SIDE) -> np.ndarray:
    """uint8 [count, side, side] of both classes in turn, read as the function reads an upload."""
    rng = np.random.default_rng(SEED)
    return np.stack([read_film(jpeg(film(CLASSES[n % 2], rng)), side).pixels for n in range(count)])


def tiny_network() -> Any:
    """film [1, side, side, 1] in 0..255 -> probability [1,1], heatmap [1,14,14], ood_distance [1,1]; random weights."""
    import keras
    from keras import layers, ops

    keras.utils.set_random_seed(SEED)
    inputs = keras.Input((SIDE, SIDE, 1), name="film")
    features = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    for channels in (8, 16, 32, 64):
        features = layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu")(features)
    embedding = layers.GlobalAveragePooling2D()(features)
    outputs = {
        "probability": layers.Dense(1, activation="sigmoid", name="probability")(embedding),
        "heatmap": ops.relu(ops.sum(features, axis=-1)),
        "ood_distance": ops.sqrt(ops.sum(ops.square(embedding), axis=-1, keepdims=True)),
    }
    return keras.Model(inputs, outputs)


def export(folder: Path, network: Any, precision: str, label: str) -> None:
    """Write model.tflite, golden.npz and bundle.json of a served graph into `folder`; its limits are taken from a few
    synthetic films, of which none is out of distribution.
    """
    from training_job import files, package
    from training_job.export import to_tflite

    model = to_tflite(network, precision)
    engine = Engine(model)
    pixels = synthetic_films(FILMS, engine.side)
    answers = [engine.run(one) for one in pixels]
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "model.tflite", model)
    files.write(folder / "golden.npz", package.golden(engine))
    bundle = package.manifest(
        folder,
        ("model.tflite", "golden.npz"),
        name="untrained",
        head="gap",
        weights={"source": "random", "label": label, "sha256": None},
        precision=precision,
        input=input_of(engine.side),
        temperature=1.0,
        threshold=float(np.median([answer.probability for answer in answers])),
        conformal={"alpha": 0.05, "quantile": dict.fromkeys(CLASSES, 0.5), "n": dict.fromkeys(CLASSES, FILMS // 2)},
        ood={"limit": 2 * max(answer.ood_distance for answer in answers), "percentile": 99.0, "n": FILMS},
        metrics={},
        dataset={},
        seed=SEED,
    )
    files.write(folder / "bundle.json", bundle.to_json())


if __name__ == "__main__":
    export(Path(sys.argv[1]), tiny_network(), "float32", "tiny untrained network: for the pipeline only")
