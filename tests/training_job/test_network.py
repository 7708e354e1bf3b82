"""The served graph explains itself exactly and loses nothing on its way to a file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from training_job import export, kinds, network
from training_job.heads import HEADS
from training_job.layers import CUSTOM
from training_job.litert import Signature
from training_job.logistic import Line
from training_job.served_graph import served_graph

SIDE = 64
"""A twelfth of the work of 224 px; every layer is there."""
UNITS = 24
LINE = Line(0.6, -0.2)


def films(count: int = 4, seed: int = 0) -> np.ndarray:
    """Smooth random films float32 [n, 64, 64, 1] in 0..255."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 8, 8, 1)) * 255
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.float32)


@pytest.fixture(autouse=True)
def forgotten_networks() -> None:
    """Every network here serves the whole module: nothing is let go between its tests."""


@pytest.fixture(scope="module", params=["gap", "flatten", "end_to_end"])
def net(request: pytest.FixtureRequest) -> network.Network:
    """A random network whose head answers on both sides of zero, as a trained one does."""
    built = network.build(HEADS[request.param], None, UNITS, seed=5, side=SIDE)
    embeddings = built.trunk(("embedding",)).predict(films(8, seed=9), verbose=0)["embedding"]
    built.standardize(embeddings)
    return built


@pytest.fixture(scope="module")
def served(net: network.Network) -> keras.Model:
    rng = np.random.default_rng(1)
    return served_graph(net, LINE, rng.normal(size=512), rng.normal(size=(512, 512)) / 20)


@pytest.fixture(scope="module")
def exported(served: keras.Model) -> Callable[[str], bytes]:
    """The served graph as a file of a precision, converted once."""
    return cache(lambda precision: export.to_tflite(served, precision))


def gradient_at(net: network.Network, point: str, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(features, d logit / d features) by automatic differentiation."""
    below = keras.Model(net.film, net.points[point])
    above = keras.Model(net.points[point], net.logit)
    features = tf.constant(below(batch))
    with tf.GradientTape() as tape:
        tape.watch(features)
        logit = above(features)
    return features.numpy(), tape.gradient(logit, features).numpy()


def test_the_heat_map_is_grad_cam_or_hires_cam_to_the_last_digits(net: network.Network, served: keras.Model) -> None:
    batch = films()
    heatmap = served.predict(batch, verbose=0)["heatmap"]
    if net.head.name != "flatten":
        features, gradient = gradient_at(net, "block5_conv3", batch)
        expected = np.maximum((features * gradient.mean(axis=(1, 2), keepdims=True)).sum(-1), 0)
    else:
        features, gradient = gradient_at(net, "block5_pool", batch)
        expected = np.maximum((features * gradient).sum(-1), 0)
    assert expected.max() > 0, "an all-zero map would prove nothing"
    assert np.abs(heatmap - expected).max() <= 2e-5 * expected.max()


def test_probability_and_distance_are_what_the_formulas_say(net: network.Network, served: keras.Model) -> None:
    batch = films()
    rng = np.random.default_rng(1)
    mean, whitening = rng.normal(size=512), rng.normal(size=(512, 512)) / 20
    raw = keras.Model(net.film, {"logit": net.logit, "embedding": net.points["embedding"]}).predict(batch, verbose=0)
    outputs = served.predict(batch, verbose=0)
    assert outputs["probability"] == pytest.approx(LINE.probability(raw["logit"]), abs=1e-6)
    distance = np.linalg.norm((raw["embedding"] - mean) @ whitening, axis=1, keepdims=True)
    assert outputs["ood_distance"] == pytest.approx(distance, rel=1e-4)


def test_the_logit_is_the_log_odds_of_what_the_loss_sees(net: network.Network) -> None:
    batch = films()
    model = keras.Model(net.film, {"logit": net.logit, "output": net.output})
    outputs = model.predict(batch, verbose=0)
    if net.head.name == "end_to_end":
        assert outputs["logit"][:, 0] == pytest.approx(kinds.logit(outputs["output"]), abs=1e-5)
        return
    assert net.head.probability(outputs["output"]) == pytest.approx(1 / (1 + np.exp(-outputs["logit"][:, 0])), abs=1e-6)


@pytest.mark.parametrize("precision", export.PRECISIONS)
def test_every_precision_answers_as_keras_does(
    served: keras.Model, exported: Callable[[str], bytes], precision: str
) -> None:
    batch = films()
    expected = served.predict(batch, verbose=0)
    signature = Signature(exported(precision), threads=1)
    tolerance = {"float32": 1e-4, "float16": 5e-3, "int8": 0.15}[precision]
    for row, film in enumerate(batch):
        got = signature(film)
        assert set(got) == {"probability", "heatmap", "ood_distance"}
        assert abs(got["probability"].item() - expected["probability"][row].item()) <= tolerance
        assert got["ood_distance"].item() == pytest.approx(expected["ood_distance"][row].item(), rel=tolerance)
        if precision != "int8":  # in a random network rounding switches hidden units on and off
            gap = np.abs(got["heatmap"][0] - expected["heatmap"][row]).max()
            assert gap <= tolerance * expected["heatmap"][row].max()


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_spread_far_below_the_mean_keeps_its_distances(net: network.Network, precision: str) -> None:
    batch = films()
    probe = keras.Model(net.film, {"embedding": net.points["embedding"]})
    mean = probe.predict(batch, verbose=0)["embedding"].mean(axis=0).astype(np.float64)
    spread = 2e-4 * (np.abs(mean) + 1e-3)
    rng = np.random.default_rng(2)
    whitening = np.linalg.qr(rng.normal(size=(512, 512)))[0] / spread[:, None]
    graph = served_graph(net, Line(1.0, 0.0), mean + 0.5, whitening)
    # What rounds the films' own embedding is not ours to mend: only the constants are, so the embedding is given.
    entrance = keras.Input((512,), batch_size=1)
    value = entrance
    for name in ("ood_center", "ood_center_rest"):
        value = graph.get_layer(name)(value)
    column = keras.ops.expand_dims(value, -1)
    whitened = graph.get_layer("whiten")(column) + graph.get_layer("whiten_rest")(column)
    length = keras.ops.sqrt(keras.ops.sum(keras.ops.square(whitened), axis=-1, keepdims=True))
    tail = keras.Model(entrance, graph.get_layer("reach")(length))
    converter = tf.lite.TFLiteConverter.from_keras_model(tail)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    signature = Signature(converter.convert(), threads=1)
    near = (mean + 0.5 + rng.normal(size=512) * spread).astype(np.float32)
    (got,) = signature(near).values()
    expected = np.linalg.norm((near.astype(np.float64) - mean - 0.5) @ whitening)
    assert got.item() == pytest.approx(expected, rel=5e-3)


def test_int8_leaves_the_whitening_matrix_alone(served: keras.Model, exported: Callable[[str], bytes]) -> None:
    """Rounded to int8 along its faint directions the distance would be noise."""
    whitening = served.get_layer("whiten").get_weights()[0].astype(np.float32)
    assert whitening.tobytes() in exported("int8")


def test_a_file_without_its_weights_is_refused(monkeypatch: pytest.MonkeyPatch, served: keras.Model) -> None:
    class Silent:
        def convert(self) -> bytes:
            return b"\0" * 30_000

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_keras_model", lambda model: Silent())
    with pytest.raises(export.BrokenExport, match="30,000 bytes"):
        export.to_tflite(served, "float32")


def test_keras_and_tflite_files_keep_their_answers_when_read_back(served: keras.Model, tmp_path: Path) -> None:
    served.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", custom_objects=CUSTOM, compile=False)
    batch = films(2)
    for name, value in again.predict(batch, verbose=0).items():
        assert np.array_equal(value, served.predict(batch, verbose=0)[name]), name


def test_labels_and_limits_travel_inside_the_file() -> None:
    content = export.with_card(b"TFL3" + bytes(1000), {"classes": ["NORMAL", "PNEUMONIA"], "threshold": 0.4})
    with zipfile.ZipFile(io.BytesIO(content)) as files:
        assert files.read("labels.txt").decode().split() == ["NORMAL", "PNEUMONIA"]
        assert json.loads(files.read("card.json"))["threshold"] == 0.4
    assert content.startswith(b"TFL3")


def test_each_head_preprocesses_in_its_own_way(net: network.Network) -> None:
    """A film of half 60, half 140 has the mean 100 and the deviation 40; end_to_end gives every film 0 and 58."""
    ready = keras.Model(net.film, keras.Model(net.film, net.logit).get_layer("center").output)
    film = np.full((1, SIDE, SIDE, 1), 60.0, np.float32)
    film[:, SIDE // 2 :] = 140.0
    expected = {
        "gap": [140 - 103.939, 140 - 116.779, 140 - 123.68],
        "flatten": [140 / 255] * 3,
        "end_to_end": [58.0] * 3,
    }
    assert np.asarray(ready(film))[0, -1, 0] == pytest.approx(np.array(expected[net.head.name]), abs=1e-4)


def test_fine_tuning_frees_the_last_blocks_only(net: network.Network) -> None:
    net.freeze_all_but(1)
    layers = net.whole().layers
    free = {layer.name for layer in layers if layer.name.startswith("block") and layer.trainable and layer.weights}
    net.freeze_all_but(0)
    assert free == {"block5_conv1", "block5_conv2", "block5_conv3"}
