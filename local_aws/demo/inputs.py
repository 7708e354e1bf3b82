"""What a demo is fed with: a dataset folder, VGG16 weights and the files that somebody uploads afterwards."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cxr.labels import CLASSES
from local_aws.synthetic import photograph

IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{IMAGENET_FILE}"
KERAS_CACHE = Path.home() / ".keras" / "models" / IMAGENET_FILE
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Weights:
    """The base's weights for the training job: hyperparameter, file for the `weights` channel, warning."""

    hyperparameter: str
    file: Path | None = None
    warning: str | None = None


def imagenet_reachable(timeout: float = 5.0) -> bool:
    """True if Keras can get its ImageNet weights: cached, or their address answers within `timeout` seconds."""
    if KERAS_CACHE.exists():
        return True
    try:
        request = urllib.request.Request(IMAGENET_URL, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # nosec B310 # an https address of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def resolve_weights(choice: str) -> Weights:
    """`auto`, `imagenet`, `random` or the path of a Keras .weights.h5 file -> Weights.

    Raises ValueError for a path that is no such file.
    """
    if choice in ("imagenet", "random"):
        return Weights(choice)
    if choice == "auto":
        if imagenet_reachable():
            return Weights("imagenet")
        return Weights(
            "random",
            warning="the ImageNet weights cannot be downloaded from here; going on with RANDOM VGG16 weights. "
            "The figures below show that the pipeline works, not what the model can do. "
            "Pass WEIGHTS=<vgg16_notop.weights.h5> for a real base.",
        )
    path = Path(choice)
    if not path.is_file() or not path.name.endswith((".h5", ".weights.h5")):
        raise ValueError(
            f"WEIGHTS={choice} is neither auto, imagenet, random nor an existing .weights.h5 file of VGG16 without top"
        )
    return Weights("channel", file=path)


@dataclass(frozen=True)
class NewFile:
    """A file that somebody drops into the uploads bucket."""

    key: str
    body: bytes
    truth: str


def new_files(films: dict[str, list[tuple[str, bytes]]], seed: int = 0) -> list[NewFile]:
    """The uploads of the demo: the given test films, two photographs and one broken file.

    `films` maps a class to (file name, content) of films. One key carries a space, a plus and an umlaut,
    because hospitals name files so.
    """
    rng = np.random.default_rng(seed)
    files = [
        NewFile(f"ward-{1 + number % 3}/{name}", body, label)
        for label in CLASSES
        for number, (name, body) in enumerate(films[label])
    ]
    first = files[0]
    files[0] = NewFile(f"Röntgen ward+1/{first.key.rsplit('/', 1)[-1]}", first.body, first.truth)
    colour, grey = io.BytesIO(), io.BytesIO()
    photograph(rng).save(colour, "JPEG", quality=90)
    photograph(rng).convert("L").save(grey, "JPEG", quality=90)
    files.append(NewFile("ward-1/holiday.jpeg", colour.getvalue(), "photograph"))
    files.append(NewFile("ward-2/holiday-grey.jpeg", grey.getvalue(), "photograph, grey"))
    files.append(NewFile("ward-3/broken.jpeg", first.body[: len(first.body) // 2], "truncated file"))
    return files


def evenly(things: Sequence[Thing], count: int) -> list[Thing]:
    """At most `count` of `things`, spread evenly over them, in their order."""
    if len(things) <= count:
        return list(things)
    return [things[(index * len(things)) // count] for index in range(count)]
