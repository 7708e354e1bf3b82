"""A real .tflite of a few kilobytes with the deployed signature, and a bundle around it, for tests that need no VGG16.

probability = sigmoid(slope * (mean grey - 0.5)), ood_distance = 40 * |mean grey - 0.5|, heatmap = mean grey of squares
of 16 px. So a test chooses the answer by the film's brightness.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from cxr.bundle import SIDE, Bundle, sha256_of

DISTANCE_SCALE = 40.0
OOD_LIMIT = 10.0
GOLDEN_LEVELS = (80, 128, 170)


def cached_model(folder: pathlib.Path, slope: float = 12.0, side: int = SIDE) -> bytes:
    """The .tflite; converted once, in a process of its own (TensorFlow takes 700 MB), and then read from `folder`."""
    recipe = pathlib.Path(__file__).read_bytes() + importlib.metadata.version("tensorflow").encode()
    file = folder / f"tiny-{hashlib.sha256(recipe).hexdigest()[:16]}-{slope}-{side}.tflite"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, __file__, str(file), str(slope), str(side)]
        done = subprocess.run(words, cwd=pathlib.Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."},
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
    return file.read_bytes()


def convert(slope: float, side: int) -> bytes:
    import tensorflow as tf

    class Tiny(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, side, side, 1], tf.float32, name="film")])
        def serve(self, film):
            grey = film / 255.0
            heatmap = tf.nn.avg_pool2d(grey, 16, 16, "VALID")
            shift = tf.reduce_mean(heatmap, axis=[1, 2]) - 0.5
            return {
                "probability": tf.sigmoid(slope * shift),
                "heatmap": tf.reshape(heatmap, [1, side // 16, side // 16]),
                "ood_distance": DISTANCE_SCALE * tf.abs(shift),
            }

    module = Tiny()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def golden(slope: float = 12.0, side: int = SIDE) -> bytes:
    films = np.stack([np.full((side, side), level, np.uint8) for level in GOLDEN_LEVELS])
    shift = films.mean(axis=(1, 2)) / 255.0 - 0.5
    stream = io.BytesIO()
    np.savez(
        stream,
        films=films,
        probability=(1 / (1 + np.exp(-slope * shift))).astype(np.float32),
        ood_distance=(DISTANCE_SCALE * np.abs(shift)).astype(np.float32),
        heatmap=np.repeat(films[:, :1, :1] / np.float32(255), side // 16, 1).repeat(side // 16, 2),
        tolerance=np.float32(0.001),
    )
    return stream.getvalue()


def manifest(files: dict[str, bytes], name: str = "job-1", **changes: object) -> Bundle:
    fields: dict = {
        "name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "files": {file: {"sha256": sha256_of(data), "bytes": len(data)} for file, data in files.items()},
        "head": "gap",
        "weights": {"source": "random", "label": "tiny test model", "sha256": None},
        "precision": "float32",
        "temperature": 1.0,
        "threshold": 0.5,
        "conformal": {
            "alpha": 0.05,
            "quantile": {"NORMAL": 0.6, "PNEUMONIA": 0.6},
            "n": {"NORMAL": 99, "PNEUMONIA": 99},
        },
        "ood": {"limit": OOD_LIMIT, "percentile": 99.0, "n": 99},
        "metrics": {},
        "dataset": {"digest": "0" * 64, "counts": {}},
        "code_version": "test",
        "versions": {},
        "seed": 0,
    }
    return Bundle(**{**fields, **changes})


def bundle_files(cache: pathlib.Path, slope: float = 12.0, name: str = "job-1", **changes: object) -> dict[str, bytes]:
    """name -> bytes of a whole unpacked bundle."""
    files = {"model.tflite": cached_model(cache, slope), "golden.npz": golden(slope)}
    return {**files, "bundle.json": manifest(files, name, **changes).to_json()}


def grey_film(level: int, width: int = 300, height: int = 260, kind: str = "JPEG") -> bytes:
    """A film with some contrast whose mean grey is `level` (40..215), so that the tiny model answers sigmoid(level)."""
    from PIL import Image

    ramp = np.linspace(-30, 30, width, dtype=np.float32)[None, :].repeat(height, 0)
    stream = io.BytesIO()
    Image.fromarray((ramp + level).clip(0, 255).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def expected_probability(level: float, slope: float = 12.0) -> float:
    return 1 / (1 + math.exp(-slope * (level / 255 - 0.5)))


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).write_bytes(convert(float(sys.argv[2]), int(sys.argv[3])))
