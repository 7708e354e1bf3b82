"""The machine that stands for AWS' own: which command stands for an image, and where commands run.

An image's repository decides by its last dash part:
`123456789012.dkr.ecr.us-east-1.amazonaws.com/cxr-inference:1.2` runs the command of `inference`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_aws.processes import Children

IMAGES = {
    "training": [sys.executable, "-m", "training_job", "train"],
    "inference": [sys.executable, "-m", "awslambdaric", "inference_lambda.handler.handler"],
}
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL")


class UnknownImage(LookupError):
    """No local command stands for the image."""


@dataclass(frozen=True)
class Host:
    """images: command per short image name; environment: variables that lead to the local AWS; cwd: where commands
    start; work_dir: for their files, gone at the end; log_dir: for their output.
    """

    children: Children
    images: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    cwd: Path
    work_dir: Path
    log_dir: Path

    def command_for(self, uri: str) -> list[str]:
        """The command that stands for the image `uri`. Raises UnknownImage."""
        name = uri.split("@")[0].rsplit("/", 1)[-1].split(":")[0].rsplit("-", 1)[-1]
        if name not in self.images:
            known = ", ".join(sorted(self.images))
            raise UnknownImage(
                f"no local command stands for the image {uri!r} (its short name is {name!r}; known: {known}); "
                f"pass LocalAWS(images={{{name!r}: [...]}})"
            )
        return list(self.images[name])

    @staticmethod
    def inherited() -> dict[str, str]:
        """What a command needs of this process's environment to run Python, and nothing else."""
        return {name: value for name, value in os.environ.items() if name in INHERITED}
