"""What the recipe `end_to_end` puts before and behind VGG16, in graph operations that every backend has.

Before it, each film with the same mean and spread; behind it, dropout, a hidden layer and the scores of normal,
bacterial and viral films, of which the served graph gives one logit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from training_job.kinds import KINDS

DEVIATION = 58.0
"""Grey levels; of ImageNet's photographs, which the first layer expects."""
FAINTEST = 8.0
"""Grey levels; a flatter film is not blown up further."""
DROPOUT = 0.3


def standardized(film: Any) -> Any:
    """Each film of [b, s, s, 1] with mean 0 and a deviation of DEVIATION grey levels."""
    centred = film - ops.mean(film, axis=(1, 2), keepdims=True)
    spread = ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2), keepdims=True))
    return centred * (DEVIATION / ops.maximum(spread, FAINTEST))


def decide(embedding: Any, dense_units: int) -> tuple[Any, Any]:
    """(logit [b, 1] of pneumonia, scores [b, 3] of KINDS) from the embedding [b, 512], in float32."""
    kept = layers.Dropout(DROPOUT, name="dropout", dtype="float32")(embedding)
    hidden = layers.Dense(dense_units, activation="relu", name="hidden", dtype="float32")(kept)
    scores = layers.Dense(len(KINDS), name="scores", dtype="float32")(hidden)
    return ops.logsumexp(scores[:, 1:], axis=-1, keepdims=True) - scores[:, :1], scores


def grad_cam(features: Any, hidden: Any, scores: Any) -> tuple[Any, Callable[[keras.Model], None]]:
    """Grad-CAM of the logit at block5_conv3 [b, h, w, 512], in closed form, and what fills its constants in.

    d logit / d scores = (-1, softmax(bacteria, virus)); through the two Dense layers d logit / d embedding =
    ((hidden > 0) * (that @ W2.T)) @ W1.T; max pooling sends each of the pooled pixels' gradients to one pixel, so the
    mean gradient over the h * w pixels of block5_conv3 is that over h * w. No dropout: it is not there in inference.
    """
    kinds = ops.softmax(scores[:, 1:], axis=-1)
    pull = ops.concatenate([-ops.ones_like(scores[:, :1]), kinds], axis=-1)
    units, channels = hidden.shape[-1], features.shape[-1]
    of_hidden = layers.Dense(units, use_bias=False, trainable=False, name="hidden_gradient")(pull)
    of_channel = layers.Dense(channels, use_bias=False, trainable=False, name="channel_gradient")
    gradient = of_channel(of_hidden * ops.sign(hidden))
    weighted = features * ops.reshape(gradient, (-1, 1, 1, channels))
    heatmap = ops.relu(ops.sum(weighted, axis=-1)) / (features.shape[1] * features.shape[2])

    def fill(model: keras.Model) -> None:
        for name, gradient in (("scores", "hidden_gradient"), ("hidden", "channel_gradient")):
            kernel = np.asarray(model.get_layer(name).get_weights()[0])
            model.get_layer(gradient).set_weights([kernel.T])

    return heatmap, fill
