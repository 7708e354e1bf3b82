"""The base's weights are there before any film is read, or the job ends with the remedy."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import pytest
from keras.src.applications import vgg16

from cxr.hyperparameters import Hyperparameters
from training_job import job, network, weights
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


def test_random_weights_need_no_file(tmp_path: Path) -> None:
    assert weights.weights_file(Context(Container(tmp_path), Hyperparameters(weights="random"))) is None
    assert weights.weights_facts("random", None, "w")["label"] == "random (smoke test)"


def test_the_arrays_alone_make_weights_imagenet_s_whatever_the_file_says(tmp_path: Path) -> None:
    file, note = tmp_path / "vgg16.h5", tmp_path / "LABEL.txt"

    def label(source: str, sha256: str) -> str:
        return weights.weights_facts(source, file, sha256)["label"]

    assert label("imagenet", weights.IMAGENET_ARRAYS) == label("channel", weights.IMAGENET_ARRAYS) == "ImageNet"
    assert label("channel", "w") == "weights channel: vgg16.h5"
    note.write_text("somebody else's")
    assert label("channel", weights.IMAGENET_ARRAYS) == "ImageNet"
    assert label("channel", "w") == "somebody else's"
    assert label("imagenet", "w") == "weights imagenet: vgg16.h5"
    note.write_text("VGG16 ImageNet")
    assert label("channel", "w") == "VGG16 ImageNet (not the arrays of ImageNet)"


REAL = Path(__file__).resolve().parents[3] / "shared" / "weights"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real weights are not here")
@pytest.mark.parametrize(("file", "proved"), [("vgg16_imagenet_notop", True), ("vgg16_notop", False)])
def test_the_known_digest_is_that_of_the_real_arrays(file: str, proved: bool) -> None:
    base = keras.applications.VGG16(
        include_top=False, weights=str(REAL / f"{file}.weights.h5"), input_shape=(32, 32, 3)
    )
    assert (network.digest_of_weights(base) == weights.IMAGENET_ARRAYS) == proved
