"""The models that the benchmarks serve: a real bundle, a second one that differs, and the pointer that names them.

Both are real `.tflite` files that pass the function's own checks. The second is the first with another trailer
(LiteRT ignores what follows the flatbuffer), so it has another sha256 and the same answers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.record import BUILD, ROOT
from cxr.bundle import MANIFEST, Bundle, read_bundle, sha256_of
from cxr.pointer import KEY, Move, Pointer, Release, promoted

SERVED = ("model.tflite", "golden.npz")
MAKERS = ("cxr/*.py", "training_job/*.py", "benchmarks/untrained.py")
"""The code that the untrained bundle is made by."""


@dataclass(frozen=True)
class Model:
    """A bundle's manifest and the files that the function fetches."""

    bundle: Bundle
    files: dict[str, bytes]

    @property
    def sha256(self) -> str:
        return self.bundle.model_sha256


def find_bundle(wanted: Path | None) -> Path:
    """The folder `wanted`, else a tiny untrained one that is kept under build/bench until its makers change."""
    if wanted is not None:
        return wanted
    folder = BUILD / "untrained"
    made, makers = folder / MANIFEST, (path for part in MAKERS for path in ROOT.glob(part))
    if not made.is_file() or made.stat().st_mtime < max(path.stat().st_mtime for path in makers):
        print("exporting a tiny untrained model (kept for the next time) ...", flush=True)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        subprocess.run(
            [sys.executable, "-m", "benchmarks.untrained", str(folder)], cwd=ROOT, env=environment, check=True
        )
    return folder


def load(folder: Path) -> Model:
    """The verified bundle in `folder`. Raises cxr.bundle.BundleError."""
    return Model(read_bundle(folder, SERVED), {name: (folder / name).read_bytes() for name in SERVED})


def another(model: Model, name: str) -> Model:
    """A model with another identity and the same answers."""
    data = model.files["model.tflite"] + f"\nthe same model, released as {name}\n".encode()
    entry = {"sha256": sha256_of(data), "bytes": len(data)}
    bundle = replace(model.bundle, name=name, files={**model.bundle.files, "model.tflite": entry})
    return Model(bundle, {**model.files, "model.tflite": data})


def key(model: Model, name: str) -> str:
    """Where a file of a model lies in the models bucket."""
    return f"models/{model.bundle.name}/{name}"


def published(model: Model) -> dict[str, bytes]:
    """Every object of a published model, by key."""
    return {key(model, name): data for name, data in {**model.files, MANIFEST: model.bundle.to_json()}.items()}


def release(model: Model, bucket: str) -> Release:
    """What the pointer says of a published model that is not promoted yet."""
    digest = sha256_of(model.bundle.to_json())
    return Release(model.bundle.name, bucket, key(model, MANIFEST), None, digest, package_arn=None)


class Releases:
    """The models bucket of a local AWS: publishes bundles, damages one, and moves the pointer."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket
        self._current: Pointer | None = None

    def publish(self, model: Model) -> None:
        """Put a bundle's files beside its manifest."""
        for name, data in published(model).items():
            self._put(name, data)

    def damage(self, model: Model) -> None:
        """Change one byte in the middle of the published model file."""
        data = bytearray(model.files["model.tflite"])
        data[len(data) // 2] ^= 0xFF
        self._put(key(model, "model.tflite"), bytes(data))

    def promote(self, model: Model) -> int:
        """Make `model` the current one; the new serial."""
        move = Move("benchmarks.pipeline", "benchmark")
        self._current = promoted(release(model, self._bucket), self._current, 0, move)
        self._put(KEY, self._current.to_bytes())
        return self._current.current.serial

    def _put(self, name: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=name, Body=data)
