"""One engine in one process: `python -m benchmarks.engines NAME FOLDER` prints its figures as JSON.

Every engine gets the same film and the same network, one thread, and a process of its own, so
that neither memory nor threads of one engine are charged to another.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from training_job.memory import peak_mib

ROOT = Path(__file__).resolve().parent.parent
EXTRA = ROOT / "build" / "bench-engines"
"""Where benchmarks/requirements.txt is installed, if it is."""
if EXTRA.is_dir():
    sys.path.append(str(EXTRA))

FILM, FILMS = "film.jpeg", "films.npy"
KERAS, FLOAT32, INT8 = "network.keras", "network_float32.tflite", "network_int8.tflite"
ONNX, ONNX_INT8 = "network.onnx", "network_int8.onnx"
WARM_UP = 3
Answer = Callable[[np.ndarray], float]
"""Pixels uint8 [224, 224] -> probability."""


def keras_predict(folder: Path, threads: int) -> Answer:
    model = _keras(folder, threads)
    return lambda pixels: float(model.predict(pixels.astype(np.float32)[None, ..., None], verbose=0)[0, -1])


def litert(folder: Path, threads: int, file: str) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / file), num_threads=threads)
    run = interpreter.get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    return lambda pixels: float(
        next(iter(run(**{name: pixels.astype(np.float32)[None, ..., None]}).values())).ravel()[-1]
    )


def onnxruntime(folder: Path, threads: int) -> Answer:
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(folder / ONNX_INT8), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: float(session.run(None, {name: pixels.astype(np.float32)[None, ..., None]})[0].ravel()[-1])


def openvino(folder: Path, threads: int) -> Answer:
    from openvino import Core

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = Core().compile_model(str(folder / ONNX_INT8), "CPU", settings)
    return lambda pixels: float(compiled(pixels.astype(np.float32)[None, ..., None])[0].ravel()[-1])


ENGINES: dict[str, tuple[tuple[str, ...], Callable[[Path, int], Answer]]] = {
    "keras_predict": ((), keras_predict),
    "litert_float32": ((), lambda folder, threads: litert(folder, threads, FLOAT32)),
    "litert_int8": ((), lambda folder, threads: litert(folder, threads, INT8)),
    "onnxruntime_int8": (("onnxruntime", "onnx", "tf2onnx"), onnxruntime),
    "openvino_int8": (("openvino", "onnxruntime", "onnx", "tf2onnx"), openvino),
}
"""name -> modules that must be installed besides the project's, and the loader."""


def available(name: str) -> bool:
    from importlib.util import find_spec

    return all(find_spec(module) for module in ENGINES[name][0])


def measure(name: str, folder: Path, threads: int, runs: int) -> dict[str, Any]:
    """Times in ms: load, and per film wall and CPU; peak_rss_mb of the process; probabilities of all films."""
    started = time.perf_counter()
    answer = ENGINES[name][1](folder, threads)
    loaded = time.perf_counter()
    films = np.load(folder / FILMS)
    for _ in range(WARM_UP):
        answer(films[0])
    figures = timed(lambda: answer(films[0]), runs)
    peak = peak_mib()
    return {
        "load_ms": round((loaded - started) * 1000, 1),
        **figures,
        "peak_rss_mb": peak,
        "probabilities": [round(answer(film), 6) for film in films],
    }


def timed(step: Callable[[], Any], runs: int) -> dict[str, list[float]]:
    """Wall and CPU milliseconds of each run."""
    wall, cpu = [], []
    for _ in range(runs):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        step()
        wall.append(round((time.perf_counter() - wall_start) * 1000, 3))
        cpu.append(round((time.process_time() - cpu_start) * 1000, 3))
    return {"wall_ms": wall, "cpu_ms": cpu}


def function(folder: Path, threads: int, runs: int) -> dict[str, Any]:
    """The Lambda function on one film: its steps, and the whole handler with S3 in a dictionary."""
    import boto3

    from cxr import result as results
    from cxr.bundle import read_bundle
    from cxr.engine import Engine
    from cxr.overlay import overlay, png
    from cxr.reader import read_film
    from cxr.verdict import Limits, judge
    from inference_lambda.assessment import Source, assess

    boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    bundle = read_bundle(folder / "bundle", ("model.tflite",))
    engine, limits = Engine(folder / "bundle" / "model.tflite", threads), Limits.from_bundle(bundle)
    data = (folder / FILM).read_bytes()
    film = read_film(data)
    output = engine.run(film.pixels)
    assessed = assess(data, engine, limits)

    def verdict() -> None:
        judge(output.probability, output.ood_distance, film.saturation, limits)
        results.to_bytes(assessed.result(Source("b", "k"), results.Answerer("1", bundle.model_sha256), limits))

    steps = {
        "decode": lambda: read_film(data),
        "infer": lambda: engine.run(film.pixels),
        "verdict": verdict,
        "heatmap": lambda: png(overlay(film.pixels, output.heatmap, (film.width, film.height))),
        "handler": _handler(folder, threads, data),
    }
    for step in steps.values():
        step()
    return {"steps": {name: timed(step, runs) for name, step in steps.items()}, "peak_rss_mb": peak_mib()}


def _handler(folder: Path, threads: int, data: bytes) -> Callable[[], None]:
    """The whole function, log lines included, for an upload that has no result yet."""
    from cxr.bundle import sha256_of
    from inference_lambda.config import Config
    from inference_lambda.handler import Function
    from inference_lambda.store import Store

    objects = {f"models/job/{file.name}": file.read_bytes() for file in (folder / "bundle").iterdir()}
    release = {"bucket": "m", "key": "models/job/bundle.json", "sha256": sha256_of(objects["models/job/bundle.json"])}
    pointer = {"schema_version": 1, "serial": 1, "version": "1", "bundle": release, "previous": None}
    objects["models/current.json"] = json.dumps(pointer).encode()
    objects["upload.jpeg"] = data
    config = Config("u", "r", "m", memory_mb=1769 * threads, scratch=folder / "scratch")
    with contextlib.redirect_stdout(io.StringIO()):
        instance = Function(config, Store(Objects(objects)))

    def step() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            said = instance.handle({"objects": [{"bucket": "u", "key": "upload.jpeg"}]}, None)
        if said["done"] != ["upload.jpeg"]:
            raise RuntimeError(f"the handler answered {said}, expected one done")

    return step


class Objects:
    """S3 in a dictionary; what is written is thrown away."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def get_object(self, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        body = self.objects[Key]
        return {"Body": io.BytesIO(body), "ETag": '"e"', "VersionId": "v", "ContentLength": len(body)}

    def head_object(self, **_: Any) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "404"}}, "HeadObject")

    def put_object(self, **_: Any) -> dict[str, Any]:
        return {}


def first_verdict(folder: Path) -> None:
    """A TensorFlow process from its start to its first answer, as a Lambda on Keras would have it."""
    from cxr.reader import read_film

    answer = keras_predict(folder, 1)
    print(answer(read_film((folder / FILM).read_bytes()).pixels))


def _keras(folder: Path, threads: int) -> Any:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    import training_job.network  # noqa: F401 - registers the layers that the file names

    return keras.models.load_model(folder / KERAS, compile=False)


def median(values: list[float]) -> float:
    return round(statistics.median(values), 2)


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("task", choices=[*ENGINES, "function", "first_verdict", "prepare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--films", type=int, default=24)
    options = parser.parse_args(arguments)
    if options.task == "first_verdict":
        first_verdict(options.folder)
    elif options.task == "prepare":
        from benchmarks.engine_files import write

        print(json.dumps(write(options.folder, options.bundle, options.dataset, options.films)))
    elif options.task == "function":
        print(json.dumps(function(options.folder, options.threads, options.runs)))
    else:
        print(json.dumps(measure(options.task, options.folder, options.threads, options.runs)))


if __name__ == "__main__":
    run(sys.argv[1:])
