"""The head of `end_to_end`: one logit, and a heat map that is Grad-CAM to the last digits."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from training_job import kind_head, kinds
from training_job.export import to_tflite
from training_job.litert import Signature

SIDE, CHANNELS, UNITS = 16, 6, 12


@pytest.fixture(scope="module")
def parts() -> dict[str, keras.Model]:
    """A small network with this head: the film, its last convolution, and what is served of it."""
    keras.utils.set_random_seed(4)
    film = keras.Input((SIDE, SIDE, 1), name="film")
    features = layers.Conv2D(CHANNELS, 3, activation="relu", padding="same")(kind_head.standardized(film) / 58)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(layers.MaxPooling2D(2)(features))
    logit, scores = kind_head.decide(embedding, UNITS)
    plain = keras.Model(film, {"logit": logit, "scores": scores, "features": features})
    for layer in ("hidden", "scores"):
        kernel, bias = plain.get_layer(layer).get_weights()
        plain.get_layer(layer).set_weights([kernel * 3, bias])
    heatmap, fill = kind_head.grad_cam(features, plain.get_layer("hidden").output, scores)
    served = keras.Model(film, {"logit": logit, "heatmap": heatmap})
    fill(served)
    below, above = keras.Model(film, features), keras.Model(features, logit)
    return {"plain": plain, "served": served, "below": below, "above": above}


def films(count: int = 6) -> np.ndarray:
    rng = np.random.default_rng(2)
    return (rng.random((count, SIDE, SIDE, 1)) * 255).astype(np.float32)


def test_the_graph_s_logit_is_the_log_odds_of_either_pneumonia(parts: dict[str, keras.Model]) -> None:
    found = parts["plain"].predict(films(), verbose=0)
    np.testing.assert_allclose(found["logit"][:, 0], kinds.logit(found["scores"]), atol=1e-5)
    assert np.ptp(found["logit"]) > 0.01


def test_the_heat_map_is_grad_cam_to_the_last_digits(parts: dict[str, keras.Model]) -> None:
    features = tf.constant(parts["below"](films()))
    with tf.GradientTape() as tape:
        tape.watch(features)
        logit = parts["above"](features)
    gradient = tape.gradient(logit, features).numpy()
    expected = np.maximum((gradient.mean(axis=(1, 2), keepdims=True) * features.numpy()).sum(axis=-1), 0)
    found = parts["served"].predict(films(), verbose=0)["heatmap"]
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max() + 1e-9)
    assert expected.max() > 0


def test_a_tflite_says_the_same_without_gradients_and_without_dropout(parts: dict[str, keras.Model]) -> None:
    file = to_tflite(parts["served"], "float32")
    expected = parts["served"].predict(films(), verbose=0)
    for film, logit, heatmap in zip(films(), expected["logit"], expected["heatmap"], strict=True):
        found = Signature(file, threads=1)(film)
        np.testing.assert_allclose(found["logit"][0], logit, atol=1e-5)
        np.testing.assert_allclose(found["heatmap"][0], heatmap, atol=1e-5)


def test_exposure_means_nothing_and_a_flat_film_is_no_error(parts: dict[str, keras.Model]) -> None:
    there, here = (parts["plain"].predict(one, verbose=0)["logit"] for one in (films() * 0.4 + 30, films()))
    np.testing.assert_allclose(there, here, atol=1e-4)
    flat = parts["served"].predict(np.full((1, SIDE, SIDE, 1), 128, np.float32), verbose=0)
    assert all(np.isfinite(value).all() for value in flat.values())
