"""The base's weights are there before any film is read, or the job ends with the remedy."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import pytest
from keras.src.applications import vgg16

from cxr.hyperparameters import Hyperparameters
from training_job import job, weights
from training_job.container import Container, explain
from training_job.context import Context


def test_a_failed_download_of_the_imagenet_weights_is_told_before_any_film_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset channel is missing as well: the weights must be named first."""

    def offline(*_: Any, **__: Any) -> str:
        raise Exception("URL fetch failure on https://storage.googleapis.com/x: None -- [Errno -2] Name not known")

    monkeypatch.setattr(keras.utils, "get_file", offline)
    with pytest.raises(weights.BadWeights) as refusal:
        job.run(Context(Container(tmp_path), Hyperparameters()))
    text = explain(refusal.value)
    assert "URL fetch failure" in text and "network isolation forbids downloads" in text and "weights=channel" in text


def test_the_file_is_the_one_that_keras_itself_would_download(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def get_file(name: str, url: str, **more: Any) -> str:
        asked.update(name=name, url=url, **more)
        return f"/cache/{name}"

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert weights.imagenet_file() == Path("/cache") / asked["name"]
    source = inspect.getsource(vgg16.VGG16)
    assert asked["url"] == vgg16.WEIGHTS_PATH_NO_TOP and asked["cache_subdir"] == "models"
    assert f'"{asked["name"]}"' in source and f'file_hash="{asked["file_hash"]}"' in source


def test_random_weights_need_no_file_and_imagenet_s_cache_names_no_label(tmp_path: Path) -> None:
    (tmp_path / "LABEL.txt").write_text("somebody else's")
    cached = tmp_path / "vgg16.h5"
    assert weights.weights_file(Context(Container(tmp_path), Hyperparameters(weights="random"))) is None
    assert weights.weights_facts("imagenet", cached, "w")["label"] == "VGG16 ImageNet (Keras)"
    assert weights.weights_facts("channel", cached, "w")["label"] == "somebody else's"
