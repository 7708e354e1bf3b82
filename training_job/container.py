"""The folders and files through which SageMaker and the job talk: /opt/ml, or SAGEMAKER_BASE_DIR.

Whatever ends the job leaves a sentence in output/failure that names the cause and the remedy.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cxr.hyperparameters import BadHyperparameter

FAILURE_CHARACTERS = 1024


class BadChannel(ValueError):
    """An input channel is missing or does not hold what it should."""


@dataclass(frozen=True)
class Container:
    """The base folder and what lies below it."""

    base: Path

    @classmethod
    def here(cls) -> Container:
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def checkpoints(self) -> Path:
        return self.base / "checkpoints"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def cache(self) -> Path:
        """Features and films of this run; not kept by SageMaker."""
        return self.base / "cache"

    def channel(self, name: str) -> Path | None:
        """The folder of a channel, None if the job has no such channel."""
        folder = self.base / "input" / "data" / name
        return folder if folder.is_dir() else None

    def dataset(self) -> Path:
        folder = self.channel("dataset")
        if folder is None:
            raise BadChannel(
                f"{self.base / 'input' / 'data' / 'dataset'} is missing: give the job a channel named dataset "
                "that holds train/ and test/ with NORMAL/ and PNEUMONIA/"
            )
        return folder

    def weights(self) -> Path:
        """The one .h5 file of the `weights` channel (Keras' own `..._notop.h5` or a `.weights.h5`)."""
        folder = self.channel("weights")
        found = sorted(folder.rglob("*.h5")) if folder else []
        if len(found) != 1:
            there = f"holds {len(found)} .h5 files" if folder else "is missing"
            raise BadChannel(
                f"{self.base / 'input' / 'data' / 'weights'} {there}: give one VGG16 file without top in the channel "
                "weights, or set weights=random for a smoke test"
            )
        return found[0]

    def hyperparameters(self) -> dict[str, object]:
        """The raw mapping; empty when SageMaker gave none. Raises BadHyperparameter."""
        path = self.base / "input" / "config" / "hyperparameters.json"
        try:
            found = json.loads(path.read_text() or "{}") if path.is_file() else {}
        except ValueError as error:
            raise BadHyperparameter(f"{path} is not JSON ({error}); give an object of strings") from error
        if not isinstance(found, dict):
            raise BadHyperparameter(f"{path} holds {type(found).__name__} instead of an object; give name: value pairs")
        return found

    def probe(self) -> None:
        """Raises OSError naming a folder that the job writes to and cannot, before anything is paid for."""
        for folder in (self.model, self.output, self.checkpoints, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
            trial = folder / ".probe"
            trial.write_bytes(b"")
            trial.unlink()

    def forget_failure(self) -> None:
        """Take away what an earlier run under the same folder left."""
        (self.output / "failure").unlink(missing_ok=True)

    def job_name(self) -> str:
        """The training job's name; `local` outside SageMaker."""
        return os.environ.get("TRAINING_JOB_NAME") or "local"

    def fail(self, reason: str) -> None:
        """Leave the reason, cut to the 1,024 characters that SageMaker shows as FailureReason."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            shown = reason if len(reason) <= FAILURE_CHARACTERS else reason[: FAILURE_CHARACTERS - 3] + "..."
            (self.output / "failure").write_text(shown)
        except OSError as error:
            print(f"output/failure could not be written: {error}", flush=True)


ROOM = "raise VolumeSizeInGB, or lower augment_copies"
RIGHTS = "let the job's user write to model/, output/, checkpoints/ and cache/ of its base folder and read the channels"


def explain(error: BaseException, room: str = ROOM, rights: str = RIGHTS) -> str:
    """One sentence for people: type and text; for a full disk or a missing permission also the path and the remedy."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the volume of the training job"
        return f"disk full at {where}: {room}"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for {error.filename}: {rights}"
    return f"{type(error).__name__}: {error}"
