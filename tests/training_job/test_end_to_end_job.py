"""A whole job of the recipe `end_to_end`, from films to a bundle of a small side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxr.bundle import read_bundle
from cxr.engine import Engine
from tests.training_job.conftest import ROOT, environment, make_base

SIDE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A process of its own, as on SageMaker, whose memory ends with it."""
    base = tmp_path_factory.mktemp("ml")
    recipe = {"head": "end_to_end", "weights": "random", "epochs": "1", "side": str(SIDE), "dense_units": "16"}
    make_base(base, tiny_dataset, **recipe, alpha="0.2")
    command = [sys.executable, "-m", "training_job", "train"]
    done = subprocess.run(command, env=environment(base), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
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
