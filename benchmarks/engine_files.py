"""The files that the engines are measured on: one network in every engine's format, the films, and the function's
bundle: `python -m benchmarks.engine_files FOLDER` writes them and prints what they are as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.engines import FILM, FILMS, FLOAT32, INT8, KERAS, ONNX, ONNX_INT8, REFERENCE, available
from benchmarks.untrained import export, synthetic_films
from cxr.bundle import SIDE, read_bundle
from cxr.dataset import FILM_SUFFIXES
from cxr.labels import CLASSES
from cxr.reader import read_film

N_CALIBRATION = 32
"""Films that static int8 takes its ranges from; none of them is compared."""
FILM_SIZE = (2000, 1500)


def write(folder: Path, bundle: Path | None, dataset: Path | None, count: int, side: int) -> dict[str, Any]:
    """What the reader of the figures must know about the network and the films. side: px, without a bundle."""
    import keras

    import training_job.layers  # noqa: F401 - registers the layers that model.keras names
    from training_job.export import to_tflite

    served = random_network(side) if bundle is None else keras.models.load_model(bundle / "model.keras", compile=False)
    side = served.input_shape[1]
    compared, reference = (
        keras.Model(whole.inputs, whole.get_layer("probability").output) for whole in (served, random_network(SIDE))
    )
    reference.save(folder / REFERENCE)
    if dataset is None:
        films, calibration = np.split(synthetic_films(count + N_CALIBRATION, side), [count])
    else:
        films, calibration = real_films(dataset / "test", count, side), real_films(dataset / "train", 32, side)
    write_films(folder, films)
    compared.save(folder / KERAS)
    (folder / FLOAT32).write_bytes(to_tflite(compared, "float32"))
    (folder / INT8).write_bytes(to_tflite(compared, "int8"))
    export(folder / "bundle", served, "int8", "for the benchmark only")
    if optional := available("onnxruntime_int8"):
        write_onnx(folder, compared, calibration)
    return {
        "weights": "random weights" if bundle is None else read_bundle(bundle).weights.get("label", ""),
        "films": "synthetic" if dataset is None else "test split of the given data set",
        "side": side,
        "labels": [number % 2 for number in range(len(films))],
        "optional_engines": optional,
    }


def real_films(split: Path, count: int, side: int) -> np.ndarray:
    """uint8 [count, side, side] of both classes in turn, spread over a split's folder."""
    found = []
    for label in CLASSES:
        files = sorted(file for file in (split / label).iterdir() if file.suffix.lower() in FILM_SUFFIXES)
        picked = files[:: max(1, len(files) // (count // 2))][: count // 2]
        found.append([read_film(file.read_bytes(), side).pixels for file in picked])
    return np.stack([film for pair in zip(*found, strict=False) for film in pair])


def write_films(folder: Path, films: np.ndarray) -> None:
    """The comparison films, and the first of them as a JPEG of camera size: the one that is timed."""
    np.save(folder / FILMS, films)
    large = Image.fromarray(films[0]).resize(FILM_SIZE, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 3, FILM_SIZE[::-1])
    grainy = (np.asarray(large, np.float32) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(folder / FILM, quality=92)


def random_network(side: int) -> Any:
    """VGG16 with the gap head, served."""
    from training_job import network
    from training_job.heads import HEADS
    from training_job.logistic import Line
    from training_job.served_graph import served_graph

    net = network.build(HEADS["gap"], None, 256, seed=0, side=side)
    return served_graph(net, Line(1.0, 0.0), np.zeros(512, np.float32), np.eye(512, dtype=np.float32))


def write_onnx(folder: Path, model: Any, calibration: np.ndarray) -> None:
    """Float ONNX by Keras' own export, then static int8 (activations u8, weights s8 per channel)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model.export(str(folder / ONNX), format="onnx", verbose=False)
    name = onnx.load(str(folder / ONNX), load_external_data=False).graph.input[0].name

    class Films(CalibrationDataReader):
        def __init__(self) -> None:
            self._films = iter(calibration.astype(np.float32))

        def get_next(self) -> Any:
            return next(({name: film[None, ..., None]} for film in self._films), None)

    quant_pre_process(str(folder / ONNX), str(folder / "ready.onnx"), skip_symbolic_shape=True)
    quantize_static(
        str(folder / "ready.onnx"),
        str(folder / ONNX_INT8),
        Films(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def command(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_files", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args(argv)
    print(json.dumps(write(options.folder, options.bundle, options.dataset, options.films, options.side)))


if __name__ == "__main__":
    command(sys.argv[1:])
