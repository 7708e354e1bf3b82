"""AdamW that keeps a moving average of the weights beside them; the average is what serves.

The last hundred steps' weights lie around a better point than any of them (Polyak and Juditsky 1992); VGG16 has no
batch normalisation, so the average needs no other repair.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

WARM_UP = 60
"""Steps; a fresh head's first gradients are large."""
CLIP = 5.0
"""Of the norm of all gradients together."""
DECAY = 1e-3
MOMENTUM = 0.99
HEAD_RATE = 10.0
"""Times the convolutions' rate: the head begins with random weights."""
HEAD = ("hidden/", "scores/")


def schedule(rate: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine to zero at the last of `steps`."""
    warm_up = min(WARM_UP, steps // 4)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0, decay_steps=max(1, steps - warm_up), warmup_target=rate, warmup_steps=warm_up
    )


class Averaging(keras.optimizers.AdamW):
    """With a higher rate for the layers of the head."""

    def __init__(self, rate: float, steps: int) -> None:
        super().__init__(
            schedule(rate, steps), weight_decay=DECAY, global_clipnorm=CLIP, use_ema=True, ema_momentum=MOMENTUM
        )

    def build(self, variables: list[Any]) -> None:
        self._of_head = {at for at, variable in enumerate(variables) if variable.path.startswith(HEAD)}
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        factor = HEAD_RATE if self._get_variable_index(variable) in self._of_head else 1.0
        super().update_step(gradient, variable, learning_rate * factor)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """`fit` ends after each epoch, and training goes on from the weights themselves."""

    def averages(self) -> list[np.ndarray]:
        """In the order of the model's trainable variables."""
        return arrays(self._model_variables_moving_average)


def arrays(variables: list[Any]) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def averaged(model: keras.Model) -> Iterator[keras.Model]:
    """A model compiled with Averaging, with the averages for its weights as long as the block lasts."""
    own = arrays(model.trainable_variables)
    assign(model.trainable_variables, model.optimizer.averages())
    try:
        yield model
    finally:
        assign(model.trainable_variables, own)
