"""One functional graph: film -> VGG16 -> head; and from it the served graph with three outputs and no gradients.

Rule: VGG16 is built on the preprocessed film itself, never nested, so that every layer can be cut, cached, explained
and exported. The training model, the feature trunk and the served graph share their layers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cxr.bundle import SIDE
from training_job.heads import Head

BLOCKS = 5
# Factor between the two halves of a subtracted mean, or the converter would add them up before it rounds them.
MAGNIFIED = 1024.0
# Where a network can be cut; fine-tuning N blocks starts right before block 5 - N + 1.
START_OF_FINE_TUNING = {1: "block4_pool", 2: "block3_pool", 3: "film", 4: "film", 5: "film"}


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


@dataclass
class Network:
    """The trainable graph. `points` maps a cut's name to its tensor; `output` feeds the loss; `logit` is [b, 1]."""

    head: Head
    film: Any
    points: dict[str, Any]
    logit: Any
    output: Any
    dense_units: int
    weights_sha256: str

    def between(self, start: str, **outputs: Any) -> keras.Model:
        """The model from a cut to named outputs, sharing this network's layers."""
        begin = self.points[start]
        named = {name: layers.Identity()(tensor) if tensor is begin else tensor for name, tensor in outputs.items()}
        return keras.Model(begin, named)

    def training_model(self, start: str) -> keras.Model:
        return keras.Model(self.points[start], self.output)

    def whole(self) -> keras.Model:
        return keras.Model(self.film, self.output)

    def trunk(self, points: tuple[str, ...]) -> keras.Model:
        """film float32 [b,224,224,1] in 0..255 -> {point: features}."""
        return keras.Model(self.film, {name: self.points[name] for name in points})

    def standardize(self, embeddings: np.ndarray) -> None:
        """Fix the gap head's standardisation to the train films' embeddings [n, 512]; no effect on flatten.

        Channels fainter than a twentieth of the median spread are not blown up further.
        """
        if self.head.name != "gap":
            return
        spread = embeddings.std(axis=0)
        spread = np.maximum(spread, max(0.05 * float(np.median(spread)), 1e-6))
        layer = self.whole().get_layer("standardize")
        layer.set_weights([embeddings.mean(axis=0), 1.0 / spread])

    def in_mixed_precision(self) -> Network:
        """A twin with the same weights and the same frozen layers that computes in float16 where Keras' policy does.

        A way to train, not to serve: its weights are float32.
        """
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            twin = build(self.head, None, self.dense_units, seed=0, side=self.film.shape[1])
        finally:
            keras.mixed_precision.set_global_policy("float32")
        twin.weights_sha256 = self.weights_sha256
        ours, theirs = (keras.Model(one.film, [one.output, one.logit]) for one in (self, twin))
        theirs.set_weights(ours.get_weights())
        for source, target in zip(ours.layers, theirs.layers, strict=True):
            target.trainable = source.trainable
        return twin

    def freeze_all_but(self, blocks: int) -> None:
        """Freeze VGG16 but for its last `blocks` blocks; the head's layers stay as they are."""
        for layer in self.whole().layers:
            if layer.name.startswith("block"):
                layer.trainable = int(layer.name[5]) > BLOCKS - blocks


def build(head: Head, weights: Path | None, dense_units: int, seed: int, side: int = SIDE) -> Network:
    """The network with VGG16 weights from a file, or random ones (None).

    Raises ValueError when the weights file does not fit VGG16 without its top.
    """
    keras.utils.set_random_seed(seed)
    film = keras.Input((side, side, 1), name="film")
    grey = layers.Rescaling(head.scale, offset=0.0, name="rescale")(film)
    colour = layers.Concatenate(name="repeat")([grey, grey, grey])
    ready = layers.Rescaling(1.0, offset=list(head.offset), name="center")(colour)
    source = str(weights) if weights is not None else None
    base = keras.applications.VGG16(include_top=False, weights=source, input_tensor=ready)
    if weights is None:
        _he_weights(base, seed, typical_input=64.0 * head.scale)
    names = ("block3_pool", "block4_pool", "block5_conv3", "block5_pool")
    points = {"film": film, **{name: base.get_layer(name).output for name in names}}
    points["embedding"] = layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(points["block5_pool"])
    logit, output = head.decide(points["block5_pool"], points["embedding"], dense_units)
    network = Network(head, film, points, logit, output, dense_units, digest_of_weights(base))
    if head.name == "flatten":
        keras.Model(film, logit).get_layer("logit").set_weights([np.array([[-1.0], [1.0]], np.float32)])
    network.freeze_all_but(0)
    return network


def _he_weights(base: keras.Model, seed: int, typical_input: float) -> None:
    """Random kernels that keep the activations' size (He et al. 2015): random features that a head can learn from.

    Keras' default shrinks them by a thousand over 13 layers.
    """
    rng = np.random.default_rng(seed)
    for layer in base.layers:
        if not layer.weights:
            continue
        kernel, bias = layer.get_weights()
        deviation = np.sqrt(2.0 / np.prod(kernel.shape[:3]))
        if layer.name == "block1_conv1":
            deviation /= typical_input
        layer.set_weights([rng.normal(0.0, deviation, kernel.shape), np.zeros_like(bias)])


def digest_of_weights(model: keras.Model) -> str:
    """sha256 over the arrays of a model's weights, in layer order."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    return digest.hexdigest()


def served_graph(network: Network, temperature: float, mean: np.ndarray, whitening: np.ndarray) -> keras.Model:
    """film -> {probability [b,1], heatmap [b,h,w], ood_distance [b,1]}; `mean` [512], `whitening` [512, 512].

    The distance is the Euclidean norm of (embedding - mean) @ whitening, i.e. Mahalanobis' when whitening @ whitening.T
    is the inverse covariance. A float16 export rounds every constant to 11 bits, and the spread of the flatten head's
    embedding is a thousandth of its mean: so mean and whitening are kept as sums of two float16 numbers, 22 bits.
    """
    scaled = layers.Rescaling(1.0 / temperature, name="temperature")(network.logit)
    probability = layers.Activation("sigmoid", name="probability")(scaled)
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
    heatmap, fill = (_grad_cam if network.head.name == "gap" else _hires_cam)(network)
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
