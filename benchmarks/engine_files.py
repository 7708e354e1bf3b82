"""The files that the engines are measured on: one network in every engine's format, the films, and the function's
bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import EXTRA, FILM, FILMS, FLOAT32, INT8, KERAS, ONNX, ONNX_INT8, available
from cxr.bundle import Bundle, read_bundle, sha256_of

N_FILMS = 24
"""Films on which the engines' probabilities are compared; the first is the one that is timed."""
N_CALIBRATION = 16
FILM_SIZE = (2000, 1500)


def write(folder: Path, bundle: Path | None) -> dict[str, Any]:
    """Returns what the reader must know about the network."""
    import keras

    from training_job import export, network
    from training_job.heads import HEADS

    films = _films(folder)
    if bundle is not None:
        model = keras.models.load_model(bundle / "model.keras", compile=False)
        label = read_bundle(bundle).weights.get("label", "")
    else:
        model, label = network.build(HEADS["gap"], None, 256, seed=0).whole(), "random weights"
    model.save(folder / KERAS)
    (folder / FLOAT32).write_bytes(export.to_tflite(model, "float32"))
    (folder / INT8).write_bytes(export.to_tflite(model, "int8"))
    served = _served_bundle(folder / "bundle", bundle)
    onnx = available("onnxruntime_int8")
    if onnx:
        _write_onnx(folder, model, films)
    return {
        "weights": label,
        "served": served,
        "optional_engines": str(EXTRA.relative_to(EXTRA.parents[1])) if onnx else None,
    }


def _films(folder: Path) -> np.ndarray:
    """uint8 [n, 224, 224]; writes the one film that is timed as a JPEG of camera size."""
    from PIL import Image

    from cxr.film import read_film
    from local_aws.synthetic import film

    rng = np.random.default_rng(0)
    pictures = [film(("NORMAL", "PNEUMONIA")[n % 2], rng) for n in range(N_FILMS)]
    pictures[0].convert("L").resize(FILM_SIZE, Image.Resampling.BICUBIC).save(folder / FILM, quality=92)
    pixels = [read_film((folder / FILM).read_bytes()).pixels]
    pixels += [
        np.asarray(picture.convert("L").resize((224, 224), Image.Resampling.BILINEAR)) for picture in pictures[1:]
    ]
    films = np.stack(pixels).astype(np.uint8)
    np.save(folder / FILMS, films)
    return films


def _served_bundle(target: Path, bundle: Path | None) -> str:
    """The given bundle if it serves int8, otherwise a bundle of random weights in int8: the speed is the same."""
    target.mkdir()
    if bundle is not None and read_bundle(bundle).precision == "int8":
        for name in ("bundle.json", "model.tflite", "golden.npz"):
            (target / name).write_bytes((bundle / name).read_bytes())
        return "the given bundle"
    from cxr.engine import Engine
    from training_job import export, network, package
    from training_job.heads import HEADS

    graph = network.served_graph(
        network.build(HEADS["gap"], None, 256, seed=0), 1.0, np.zeros(512, np.float32), np.eye(512, dtype=np.float32)
    )
    files = {"model.tflite": export.to_tflite(graph, "int8")}
    rng = np.random.default_rng(0)
    golden = rng.integers(0, 255, (4, 224, 224), dtype=np.uint8)
    files["golden.npz"] = package.golden(Engine(files["model.tflite"]), golden)
    for name, data in files.items():
        (target / name).write_bytes(data)
    manifest = Bundle(
        name="benchmark",
        created_at="2026-01-01T00:00:00Z",
        files={name: {"sha256": sha256_of(data), "bytes": len(data)} for name, data in files.items()},
        head="gap",
        weights={"source": "random"},
        precision="int8",
        temperature=1.0,
        threshold=0.5,
        conformal={"alpha": 0.05, "quantile": {"NORMAL": None, "PNEUMONIA": None}},
        ood={"limit": 1e9},
        metrics={},
        dataset={},
        code_version="benchmark",
        versions={},
        seed=0,
    )
    (target / "bundle.json").write_bytes(manifest.to_json())
    return "random weights in int8"


def _write_onnx(folder: Path, model: Any, films: np.ndarray) -> None:
    """Float ONNX by Keras' own export, then static int8 (activations u8, weights s8 per channel)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model.export(str(folder / ONNX), format="onnx", verbose=False)
    import onnx

    name = onnx.load(str(folder / ONNX), load_external_data=False).graph.input[0].name

    class Films(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter([{name: film.astype(np.float32)[None, ..., None]} for film in films[:N_CALIBRATION]])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

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
