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
LABELS = {
    "imagenet": "VGG16 ImageNet (Keras)",
    "random": "random (smoke test)",
    "channel": "weights channel",
}


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
    """Whose convolutions the job began with, for the bundle; `source` as the hyperparameter `weights` has it."""
    label = LABELS[source]
    if file and source == "channel":
        note = file.parent / "LABEL.txt"
        label = note.read_text().strip() if note.is_file() else f"{label}: {file.name}"
    return {"source": source, "label": label, "sha256": sha256}
