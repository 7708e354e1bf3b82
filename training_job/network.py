"""One functional graph: film -> VGG16 -> head.

VGG16 is built on the preprocessed film itself, never nested, so that every layer can be cut, cached, explained and
exported. The training model, the feature trunk and the served graph share their layers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from cxr.bundle import SIDE
from training_job import kind_head
from training_job.heads import Head
from training_job.layers import Standardize

BLOCKS = 5


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
        """film float32 [b, side, side, 1] in 0..255 -> {point: features}."""
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

    def in_mixed_precision(self, policy: str = "mixed_float16") -> Network:
        """A twin with the same weights and the same frozen layers that computes as this policy of Keras says.

        A way to train, not to serve: its weights are float32.
        """
        keras.mixed_precision.set_global_policy(policy)
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
    varied = kind_head.standardized(film) if head.name == "end_to_end" else film
    grey = layers.Rescaling(head.scale, offset=0.0, name="rescale", dtype="float32")(varied)
    colour = layers.Concatenate(name="repeat")([grey, grey, grey])
    ready = layers.Rescaling(1.0, offset=list(head.offset), name="center")(colour)
    source = str(weights) if weights is not None else None
    base = keras.applications.VGG16(include_top=False, weights=source, input_tensor=ready)
    if weights is None:
        _he_weights(base, seed, typical_input=64.0 * head.scale)
    names = ("block3_pool", "block4_pool", "block5_conv3", "block5_pool")
    points = {"film": film, **{name: base.get_layer(name).output for name in names}}
    points["embedding"] = layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(points["block5_pool"])
    logit, output = _decide(head, points["block5_pool"], points["embedding"], dense_units)
    network = Network(head, film, points, logit, output, dense_units, digest_of_weights(base))
    if head.name == "flatten":
        keras.Model(film, logit).get_layer("logit").set_weights([np.array([[-1.0], [1.0]], np.float32)])
    network.freeze_all_but(BLOCKS if head.name == "end_to_end" else 0)
    return network


def _decide(head: Head, pooled: Any, embedding: Any, dense_units: int) -> tuple[Any, Any]:
    """(logit [b, 1], training output) from block5_pool [b, h, w, 512] and its mean [b, 512]."""
    if head.name == "end_to_end":
        return kind_head.decide(embedding, dense_units)
    if head.name == "gap":
        ready = Standardize(name="standardize", dtype="float32")(embedding)
        hidden = layers.Dense(dense_units, activation="relu", name="hidden")(ready)
        logit = layers.Dense(1, name="logit", dtype="float32")(hidden)
        return logit, layers.Activation("sigmoid", name="sigmoid", dtype="float32")(logit)
    flat = layers.Flatten(name="flat")(pooled)
    scores = layers.Dense(2, name="scores", dtype="float32")(flat)
    softmax = layers.Activation("softmax", name="softmax", dtype="float32")(scores)
    logit = layers.Dense(1, use_bias=False, trainable=False, name="logit", dtype="float32")(scores)
    return logit, softmax


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
