"""The files that the engines are measured on: one network in every engine's format, the films, and the function's
bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import FILM, FILMS, FLOAT32, INT8, KERAS, ONNX, ONNX_INT8, available
from cxr.bundle import Bundle, read_bundle, sha256_of
from cxr.labels import CLASSES

N_CALIBRATION = 32
"""Films that static int8 takes its ranges from; none of them is compared."""
FILM_SIZE = (2000, 1500)


def write(folder: Path, bundle: Path | None, dataset: Path | None, count: int) -> dict[str, Any]:
    """Returns what the reader must know about the network and the films."""
    import keras

    import training_job.network  # noqa: F401 - registers the layers that model.keras names
    from training_job import export

    films, calibration, labels = _synthetic(count) if dataset is None else _real(dataset, count)
    _write_films(folder, films)
    served = _random_network() if bundle is None else keras.models.load_model(bundle / "model.keras", compile=False)
    compared = keras.Model(served.inputs, served.get_layer("probability").output)
    compared.save(folder / KERAS)
    (folder / FLOAT32).write_bytes(export.to_tflite(compared, "float32"))
    (folder / INT8).write_bytes(export.to_tflite(compared, "int8"))
    _write_bundle(folder / "bundle", served)
    onnx = available("onnxruntime_int8")
    if onnx:
        _write_onnx(folder, compared, calibration)
    return {
        "weights": "random weights" if bundle is None else read_bundle(bundle).weights.get("label", ""),
        "films": "synthetic" if dataset is None else "test split of the given data set",
        "labels": labels,
        "optional_engines": onnx,
    }


def _synthetic(count: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """uint8 [n, 224, 224] films, others for calibration, and the labels of the first."""
    from local_aws.synthetic import film

    rng = np.random.default_rng(0)
    labels = [number % 2 for number in range(count + N_CALIBRATION)]
    films = np.stack([_shrunk(film(CLASSES[label], rng)) for label in labels])
    return films[:count], films[count:], labels[:count]


def _real(dataset: Path, count: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Test films of both classes in turn, calibration films from train; Kaggle's layout."""
    from cxr.reader import read_film

    def spread(split: str, label: str, wanted: int) -> list[np.ndarray]:
        files = sorted(file for file in (dataset / split / label).iterdir() if file.suffix in (".jpeg", ".jpg", ".png"))
        picked = files[:: max(1, len(files) // wanted)][:wanted]
        return [read_film(file.read_bytes()).pixels for file in picked]

    normal, sick = (spread("test", label, count // 2) for label in CLASSES)
    pairs = list(zip(normal, sick, strict=False))
    films = np.stack([film for pair in pairs for film in pair])
    half = N_CALIBRATION // 2
    calibration = spread("train", "NORMAL", half) + spread("train", "PNEUMONIA", half)
    return films, np.stack(calibration), [0, 1] * len(pairs)


def _shrunk(picture: Any) -> np.ndarray:
    from cxr.bundle import SIDE
    from cxr.film import square

    return square(picture.convert("L"), SIDE)


def _write_films(folder: Path, films: np.ndarray) -> None:
    """The comparison films, and the first of them as a JPEG of camera size: the one that is timed."""
    from PIL import Image

    np.save(folder / FILMS, films)
    large = Image.fromarray(films[0]).resize(FILM_SIZE, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 3, FILM_SIZE[::-1])
    grainy = (np.asarray(large, np.float32) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(folder / FILM, quality=92)


def _random_network() -> Any:
    from training_job import network
    from training_job.heads import HEADS

    net = network.build(HEADS["gap"], None, 256, seed=0)
    return network.served_graph(net, 1.0, np.zeros(512, np.float32), np.eye(512, dtype=np.float32))


def _write_bundle(target: Path, served: Any) -> None:
    """The whole served graph in int8, under limits that let every film pass: what the function is measured with."""
    from cxr.engine import Engine
    from training_job import export, package

    target.mkdir()
    files = {"model.tflite": export.to_tflite(served, "int8")}
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
        conformal={"alpha": 0.05, "quantile": dict.fromkeys(CLASSES)},
        ood={"limit": 1e9},
        metrics={},
        dataset={},
        code_version="benchmark",
        versions={},
        seed=0,
    )
    (target / "bundle.json").write_bytes(manifest.to_json())
    return "random weights in int8"


def _write_onnx(folder: Path, model: Any, calibration: np.ndarray) -> None:
    """Float ONNX by Keras' own export, then static int8 (activations u8, weights s8 per channel)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model.export(str(folder / ONNX), format="onnx", verbose=False)
    import onnx

    name = onnx.load(str(folder / ONNX), load_external_data=False).graph.input[0].name

    class Films(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter([{name: film.astype(np.float32)[None, ..., None]} for film in calibration])

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
