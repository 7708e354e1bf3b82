"""A whole job of the recipe `end_to_end`, from films to a bundle of a small side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cxr.bundle import read_bundle
from cxr.engine import Engine
from cxr.hyperparameters import Hyperparameters
from training_job.container import Container
from training_job.context import Context
from training_job.job import run

SIDE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    base = tmp_path_factory.mktemp("ml")
    (base / "input" / "data").mkdir(parents=True)
    (base / "input" / "data" / "dataset").symlink_to(tiny_dataset)
    settings = Hyperparameters(
        head="end_to_end", weights="random", epochs=1, side=SIDE, learning_rate=1e-4, dense_units=16, alpha=0.2
    )
    run(Context(Container(base), settings))
    return base / "model"


def test_the_bundle_takes_films_of_its_side_and_answers_its_golden_ones(model: Path) -> None:
    bundle = read_bundle(model, ("model.tflite", "golden.npz", "metrics.json"))
    assert (bundle.head, bundle.side) == ("end_to_end", SIDE)
    engine = Engine(model / "model.tflite")
    with np.load(model / "golden.npz") as golden:
        assert golden["films"].shape[1:] == (SIDE, SIDE)
        for film, probability, heatmap in zip(golden["films"], golden["probability"], golden["heatmap"], strict=True):
            output = engine.run(film)
            assert output.probability == pytest.approx(probability, abs=1e-5)
            np.testing.assert_allclose(output.heatmap, heatmap, atol=1e-5)


def test_metrics_have_the_course_of_the_training(model: Path) -> None:
    (epoch,) = json.loads((model / "metrics.json").read_text())["history"]["end_to_end"]
    assert epoch["epoch"] == 1 and {"train", "tune", "auroc", "seconds"} <= set(epoch)


def test_the_model_of_keras_says_what_the_served_file_says(model: Path) -> None:
    import keras

    from training_job import layers

    graph = keras.models.load_model(model / "model.keras", compile=False, custom_objects=layers.CUSTOM)
    with np.load(model / "golden.npz") as golden:
        films = golden["films"][..., None].astype(np.float32)
        found = graph.predict(films, verbose=0)["probability"][:, 0]
        np.testing.assert_allclose(found, golden["probability"], atol=0.01)
