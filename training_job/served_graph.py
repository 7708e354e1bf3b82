"""The graph that serves: one grey film in; probability, heat map and distance out, without gradients.

It shares its layers with the network that was trained.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from training_job import kind_head
from training_job.layers import Weigh
from training_job.logistic import Line
from training_job.network import Network

# Factor between the two halves of a subtracted mean, or the converter would add them up before it rounds them.
MAGNIFIED = 1024.0


def served_graph(network: Network, line: Line, mean: np.ndarray, whitening: np.ndarray) -> keras.Model:
    """film -> {probability [b,1], heatmap [b,h,w], ood_distance [b,1]}; `mean` [512], `whitening` [512, 512].

    The distance is the Euclidean norm of (embedding - mean) @ whitening, i.e. Mahalanobis' when whitening @ whitening.T
    is the inverse covariance. A float16 export rounds every constant to 11 bits, and the spread of the flatten head's
    embedding is a thousandth of its mean: so mean and whitening are kept as sums of two float16 numbers, 22 bits.
    """
    moved = layers.Rescaling(line.slope, offset=line.offset, name="calibration")(network.logit)
    probability = layers.Activation("sigmoid", name="probability")(moved)
    embedding = network.points["embedding"]
    size = embedding.shape[-1]
    reach = 2.0 ** np.ceil(np.log2(np.abs(whitening).max()))
    (mean_high, mean_low), (high, low) = halves(mean), halves(whitening / reach)
    centred = layers.Rescaling(1.0, offset=(-mean_high).tolist(), name="ood_center")(embedding)
    centred = layers.Rescaling(MAGNIFIED, offset=(-MAGNIFIED * mean_low).tolist(), name="ood_center_rest")(centred)
    whiten, rest = (Weigh((size, size), axis=1, name=name) for name in ("whiten", "whiten_rest"))
    column = ops.expand_dims(centred, -1)
    whitened = layers.Add(name="whitened")([whiten(column), rest(column)])
    length = ops.sqrt(ops.sum(ops.square(whitened), axis=-1, keepdims=True))
    distance = layers.Rescaling(float(reach / MAGNIFIED), name="reach")(length)
    heatmap, fill = HEAT_MAPS[network.head.name](network)
    model = keras.Model(
        network.film, {"probability": probability, "heatmap": heatmap, "ood_distance": distance}, name="served"
    )
    whiten.set_weights([high.astype(np.float32)])
    rest.set_weights([low.astype(np.float32)])
    fill(model)
    return model


def halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of float16 numbers whose sum differs from `values` by 2**-22 of each, or by 6e-8 at most."""
    high = values.astype(np.float16).astype(np.float64)
    return high, (values - high).astype(np.float16).astype(np.float64)


def _grad_cam(network: Network) -> tuple[Any, Any]:
    """Grad-CAM of the logit at block5_conv3 (14x14), in closed form.

    d logit / d embedding = (hidden > 0) @ diag(w2) @ W1.T @ diag(factor); max pooling sends each of the 49 gradients to
    one pixel, so the mean gradient over the 196 pixels of block5_conv3 is that over 196.
    """
    features = network.points["block5_conv3"]
    hidden = keras.Model(network.film, network.logit).get_layer("hidden").output
    gradient = layers.Dense(512, use_bias=False, trainable=False, name="channel_gradient")(ops.sign(hidden))
    pixels = features.shape[1] * features.shape[2]
    weighted = features * ops.reshape(gradient, (-1, 1, 1, 512))
    heatmap = ops.relu(ops.sum(weighted, axis=-1)) / pixels

    def fill(model: keras.Model) -> None:
        w1, w2 = model.get_layer("hidden").get_weights()[0], model.get_layer("logit").get_weights()[0]
        factor = model.get_layer("standardize").get_weights()[1]
        model.get_layer("channel_gradient").set_weights([w2 * w1.T * factor])

    return heatmap, fill


def _hires_cam(network: Network) -> tuple[Any, Any]:
    """HiResCAM of the logit at block5_pool (7x7): the logit's weight map times the features, summed over channels."""
    features = network.points["block5_pool"]
    weigh = Weigh(tuple(features.shape[1:]), axis=-1, name="logit_map")
    heatmap = ops.relu(weigh(features))

    def fill(model: keras.Model) -> None:
        kernel = model.get_layer("scores").get_weights()[0]
        weigh.set_weights([(kernel[:, 1] - kernel[:, 0]).reshape(weigh.shape)])

    return heatmap, fill


def _of_kinds(network: Network) -> tuple[Any, Any]:
    """Grad-CAM of the logit at block5_conv3; see kind_head.grad_cam."""
    hidden = keras.Model(network.film, network.logit).get_layer("hidden").output
    return kind_head.grad_cam(network.points["block5_conv3"], hidden, network.output)


HEAT_MAPS = {"gap": _grad_cam, "flatten": _hires_cam, "end_to_end": _of_kinds}
"""{head: what draws its heat map: network -> (tensor, what fills the tensor's constants in once the model is there)}"""
