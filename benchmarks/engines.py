"""One engine in one process: `python -m benchmarks.engines NAME FOLDER` prints its figures as JSON.

Every engine gets the same film and the same network, one thread, and a process of its own, so that neither memory nor
threads of one engine are charged to another.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import timed
from training_job.memory import peak_mib

EXTRA = Path(__file__).resolve().parent.parent / "build" / "bench-engines"
"""Where benchmarks/requirements.txt is installed, if it is."""
if EXTRA.is_dir():
    sys.path.append(str(EXTRA))

FILM, FILMS = "film.jpeg", "films.npy"
KERAS, FLOAT32, INT8 = "network.keras", "network_float32.tflite", "network_int8.tflite"
REFERENCE = "vgg16_224.keras"
"""VGG16 at 224 px in Keras, whatever network is measured: what the sources of this project serve."""
ONNX, ONNX_INT8 = "network.onnx", "network_int8.onnx"
WARM_UP = 3
Answer = Callable[[np.ndarray], Any]
"""float32 [1, side, side, 1] in 0 to 255 -> array whose last element is the probability."""


def keras_predict(path: Path) -> Answer:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    import training_job.layers  # noqa: F401 - registers the layers that the file names

    model = keras.models.load_model(path, compile=False)
    side = model.input_shape[1]
    return lambda batch: model.predict(np.resize(batch, (1, side, side, 1)), verbose=0)


def litert(path: Path) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path), num_threads=1).get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    return lambda batch: next(iter(run(**{name: batch}).values()))


def onnxruntime(folder: Path) -> Answer:
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(folder / ONNX_INT8), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def openvino(folder: Path) -> Answer:
    from openvino import Core

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = Core().compile_model(str(folder / ONNX_INT8), "CPU", settings)
    return lambda batch: compiled(batch)[0]


ENGINES: dict[str, tuple[tuple[str, ...], Callable[[Path], Answer]]] = {
    "keras_predict": ((), lambda folder: keras_predict(folder / KERAS)),
    "keras_vgg16_224": ((), lambda folder: keras_predict(folder / REFERENCE)),
    "litert_float32": ((), lambda folder: litert(folder / FLOAT32)),
    "litert_int8": ((), lambda folder: litert(folder / INT8)),
    "onnxruntime_int8": (("onnxruntime", "onnx", "tf2onnx"), onnxruntime),
    "openvino_int8": (("openvino", "onnxruntime", "onnx", "tf2onnx"), openvino),
}
"""name -> modules that must be installed besides the project's, and the loader."""


def available(name: str) -> bool:
    return all(find_spec(module) for module in ENGINES[name][0])


def measure(name: str, folder: Path, runs: int) -> dict[str, Any]:
    """Times in ms: load, and per film wall and CPU; peak_rss_mb of the process; probabilities of all films."""
    started = time.perf_counter()
    answer = ENGINES[name][1](folder)
    load_ms = round((time.perf_counter() - started) * 1000, 1)
    batches = [film[None, ..., None] for film in np.load(folder / FILMS).astype(np.float32)]
    for _ in range(WARM_UP):
        answer(batches[0])
    return {
        "load_ms": load_ms,
        **timed(lambda: answer(batches[0]), runs),
        "peak_rss_mb": peak_mib(),
        "probabilities": [round(float(np.ravel(answer(batch))[-1]), 6) for batch in batches],
    }


def first_answer(folder: Path) -> None:
    """A TensorFlow process from its start to its first answer, as a Lambda on Keras would have it."""
    from cxr.reader import read_film

    answer, side = keras_predict(folder / KERAS), np.load(folder / FILMS).shape[1]
    print(answer(read_film((folder / FILM).read_bytes(), side).pixels.astype(np.float32)[None, ..., None]))


def command(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("name", choices=[*ENGINES, "first_answer"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args(argv)
    if options.name == "first_answer":
        first_answer(options.folder)
    else:
        print(json.dumps(measure(options.name, options.folder, options.runs)))


if __name__ == "__main__":
    command(sys.argv[1:])
