"""The convolutions that a job begins with; they are here before any film is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from training_job.context import Context

# What keras.applications.VGG16(include_top=False, weights="imagenet") downloads.
IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{IMAGENET_FILE}"
IMAGENET_MD5 = "6d6bbae143d832006294945121d1f1fc"
IMAGENET_ARRAYS = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"
"""network.digest_of_weights of them, in whatever file they came."""
IMAGENET = "ImageNet"


class BadWeights(ValueError):
    """The VGG16 weights cannot be had or loaded."""


def weights_file(context: Context) -> Path | None:
    """The VGG16 file; None for random weights. Raises BadChannel, BadWeights."""
    source = context.settings.weights
    if source == "imagenet":
        return imagenet_file()
    return context.container.weights() if source == "channel" else None


def imagenet_file() -> Path:
    """Keras' ImageNet weights, from its cache or its address. Raises BadWeights."""
    try:
        return Path(keras.utils.get_file(IMAGENET_FILE, IMAGENET_URL, cache_subdir="models", file_hash=IMAGENET_MD5))
    except Exception as error:  # a failed download is a bare Exception
        raise BadWeights(
            f"the ImageNet weights of VGG16 cannot be downloaded ({str(error)[:300]}); network isolation forbids "
            "downloads: give the file in the channel weights and set weights=channel, or allow the job to reach the "
            "address"
        ) from error


def weights_facts(source: str, file: Path | None, sha256: str) -> dict[str, Any]:
    """Whose convolutions the job began with, for the bundle; `source` as the hyperparameter `weights` has it.

    sha256: over their arrays, which alone prove that they are ImageNet's. Other ones are called what LABEL.txt beside
    the file says, and never so.
    """
    return {"source": source, "label": _label(source, file, sha256), "sha256": sha256}


def _label(source: str, file: Path | None, sha256: str) -> str:
    if sha256 == IMAGENET_ARRAYS:
        return IMAGENET
    if file is None:
        return "random (smoke test)"
    note = file.parent / "LABEL.txt"
    said = note.read_text().strip() if source == "channel" and note.is_file() else ""
    if not said:
        return f"weights {source}: {file.name}"
    return f"{said} (not the arrays of ImageNet)" if IMAGENET.lower() in said.lower() else said
