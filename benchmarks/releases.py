"""The models of the pipeline benchmark: a real bundle, a second one that differs, and the pointer that names them.

Both are real `.tflite` files that pass the function's own checks. The second is the first with another trailer
(LiteRT ignores what follows the flatbuffer), so it has another sha256 and the same answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.record import BUILD, ROOT
from cxr.bundle import MANIFEST, Bundle, read_bundle, sha256_of

SERVED = ("model.tflite", "golden.npz")
POINTER = "models/current.json"


@dataclass(frozen=True)
class Model:
    """A bundle's manifest and the files that the function fetches."""

    bundle: Bundle
    files: dict[str, bytes]

    @property
    def sha256(self) -> str:
        return self.bundle.model_sha256


def find_bundle(wanted: Path | None) -> Path:
    """The folder `wanted`, else a tiny untrained one that is made once and kept under build/bench."""
    if wanted is not None:
        return wanted
    folder = BUILD / "untrained"
    if not (folder / MANIFEST).is_file():
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


class Releases:
    """The models bucket of a local AWS: publishes bundles, damages one, and moves the pointer."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket
        self._current: dict[str, Any] | None = None

    def publish(self, model: Model) -> None:
        """Put a bundle's files beside its manifest."""
        for name, data in model.files.items():
            self._s3.put_object(Bucket=self._bucket, Key=self._key(model, name), Body=data)
        self._s3.put_object(Bucket=self._bucket, Key=self._key(model, MANIFEST), Body=model.bundle.to_json())

    def damage(self, model: Model) -> None:
        """Change one byte in the middle of the published model file."""
        data = bytearray(model.files["model.tflite"])
        data[len(data) // 2] ^= 0xFF
        self._s3.put_object(Bucket=self._bucket, Key=self._key(model, "model.tflite"), Body=bytes(data))

    def promote(self, model: Model) -> int:
        """Make `model` the current one under the next serial; the new serial."""
        before = self._current
        serial = 1 if before is None else before["serial"] + 1
        named = ("serial", "version", "bundle", "model_package_arn")
        document = {
            "schema_version": 1,
            "serial": serial,
            "version": str(serial),
            "bundle": {
                "bucket": self._bucket,
                "key": self._key(model, MANIFEST),
                "version_id": None,
                "sha256": sha256_of(model.bundle.to_json()),
            },
            "model_package_arn": f"arn:aws:sagemaker:us-east-1:123456789012:model-package/cxr-pneumonia/{serial}",
            "actor": "benchmarks.pipeline",
            "reason": "benchmark",
            "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "previous": {name: before[name] for name in named} if before else None,
        }
        self._s3.put_object(Bucket=self._bucket, Key=POINTER, Body=json.dumps(document).encode())
        self._current = document
        return serial

    @staticmethod
    def _key(model: Model, name: str) -> str:
        return f"models/{model.bundle.name}/{name}"
