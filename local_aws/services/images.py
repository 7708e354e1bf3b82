"""Container images stand for commands: the repository's last dash part names what runs in its place.

`123456789012.dkr.ecr.us-east-1.amazonaws.com/cxr-inference:1.2` runs the command of `inference`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

INFERENCE = [sys.executable, "-m", "awslambdaric", "inference_lambda.handler.handler"]
TRAINING = [sys.executable, "-m", "training_job", "train"]
DEFAULT = {"training": TRAINING, "inference": INFERENCE}


class UnknownImage(LookupError):
    """No local command stands for the image."""


def short_name(uri: str) -> str:
    """`inference` for `.../cxr-inference@sha256:...`."""
    repository = uri.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    return repository.rsplit("-", 1)[-1]


def command_for(uri: str, images: Mapping[str, Sequence[str]]) -> list[str]:
    """The command that stands for the image `uri`. Raises UnknownImage."""
    name = short_name(uri)
    if name not in images:
        known = ", ".join(sorted(images))
        raise UnknownImage(
            f"no local command stands for the image {uri!r} (its short name is {name!r}; known: {known}); "
            f"pass LocalAWS(images={{{name!r}: [...]}})"
        )
    return list(images[name])
