"""The layers of ours that a model.keras names; importing this module lets Keras load it."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("cxr")
class Weigh(layers.Layer):
    """Elementwise product with a fixed array, summed over one axis: a Dense layer that the int8 converter leaves float.

    Dynamic-range int8 would round the whitening matrix of the Mahalanobis distance along its faintest directions,
    which are the ones that count most.
    """

    def __init__(self, shape: tuple[int, ...], axis: int, **options: Any) -> None:
        super().__init__(**{**options, "trainable": False})
        self.shape, self.axis = tuple(shape), axis
        self.kernel = self.add_weight(shape=self.shape, initializer="ones", trainable=False, name="kernel")

    def call(self, inputs: Any) -> Any:
        return ops.sum(inputs * self.kernel, axis=self.axis)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": self.shape, "axis": self.axis}


@keras.saving.register_keras_serializable("cxr")
class Standardize(layers.Layer):
    """(inputs - mean) * factor with fixed arrays.

    The next Dense layer could absorb it, but would be rounded worse by int8 and learn slower: pooled VGG16 channels
    differ a thousandfold in spread.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "trainable": False})

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False, name="mean")
        self.factor = self.add_weight(shape=shape[-1:], initializer="ones", trainable=False, name="factor")

    def call(self, inputs: Any) -> Any:
        return (inputs - self.mean) * self.factor


# What `keras.models.load_model(..., custom_objects=CUSTOM)` needs for a model.keras of ours.
CUSTOM = {"Weigh": Weigh, "Standardize": Standardize}
