"""What computed a bundle, and what a checkpoint must share with the job that takes it up."""

from __future__ import annotations

import hashlib
import importlib
import json
from importlib import metadata
from pathlib import Path

from cxr.hyperparameters import Hyperparameters
from training_job.dataset import Dataset

MODULES = {"keras": "keras", "tensorflow": "tensorflow", "numpy": "numpy", "pillow": "PIL", "scikit-learn": "sklearn"}


def versions() -> dict[str, str]:
    """What computed the bundle, asked of the modules: a base image may bring TensorFlow as another distribution."""
    found = {name: str(importlib.import_module(module).__version__) for name, module in MODULES.items()}
    return {**found, "ai-edge-litert": metadata.version("ai-edge-litert")}


def code_version() -> str:
    """The first 16 hex digits of sha256 over the names and contents of the files of cxr and training_job.

    The same in the image (it holds all but the Dockerfile), in the local AWS and by hand; different after any change.
    """
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for package in ("cxr", "training_job"):
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("Dockerfile"):
                digest.update(f"{path.relative_to(root).as_posix()}\n{path.stat().st_size}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fingerprint(settings: Hyperparameters, dataset: Dataset, weights_sha256: str, engine: str, mixed: bool) -> str:
    """sha256 of all that decides what a job learns.

    Settings, films, buckets, weights, code, versions, and the arithmetic, which `auto` leaves to the hardware.
    """
    rows = {name: picked.tolist() for name, picked in dataset.rows.items()}
    arithmetic = [engine, mixed, versions()]
    facts = [settings.as_dict(), dataset.digest, rows, weights_sha256, arithmetic, code_version()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
