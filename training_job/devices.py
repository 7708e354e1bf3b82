"""Which hardware the job runs on and what follows from it.

A job that was promised a GPU and sees none fails before it reads a film; nobody pays for a GPU and trains on CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from cxr.hyperparameters import Hyperparameters
from training_job.console import say
from training_job.heads import HEADS


class NoGpu(RuntimeError):
    """A GPU was required and none is visible."""


@dataclass(frozen=True)
class Devices:
    """gpus: how many TensorFlow sees. engine: `auto`, `keras` or `int8`.

    mixed: fine-tuning in float16 arithmetic with float32 weights; the rest of a job always computes in float32.
    """

    gpus: int
    engine: str
    mixed: bool

    def feature_engine(self, why_not_int8: str | None) -> str:
        """`int8`, the numbers that will be served, if nothing speaks against it and no GPU computes floats faster."""
        if why_not_int8 or self.engine == "keras":
            return "keras"
        return "keras" if self.gpus and self.engine == "auto" else "int8"

    @classmethod
    def find(cls, settings: Hyperparameters) -> Devices:
        """Raises NoGpu when require_gpu is true and TensorFlow sees none.

        On a GPU float32 is made to mean float32 (TensorFloat-32 has float16's 11 bits) and kernels to be deterministic.
        """
        import tensorflow as tf

        gpus = len(tf.config.list_physical_devices("GPU"))
        if settings.require_gpu and not gpus:
            raise NoGpu(
                "require_gpu=true but TensorFlow sees no GPU: choose a GPU instance (ml.g5.xlarge) and the GPU "
                "image, or set require_gpu=false"
            )
        if gpus:
            tf.config.experimental.enable_tensor_float_32_execution(False)
            tf.config.experimental.enable_op_determinism()
        bears_it = HEADS[settings.head].map_type == "float16"
        mixed = settings.mixed_precision == "true" or (settings.mixed_precision == "auto" and gpus > 0 and bears_it)
        say(f"devices: {gpus} GPU, mixed precision {'on' if mixed else 'off'}")
        return cls(gpus, settings.feature_engine, mixed)
