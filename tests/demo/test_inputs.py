"""What the demo feeds the pipeline with: the same bytes every time, and bad choices refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from local_aws.demo import inputs
from local_aws.demo.command import parse
from local_aws.demo.inputs import evenly, new_files, resolve_weights
from local_aws.synthetic import film, write_dataset


def test_synthetic_films_are_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_dataset(tmp_path / name, train=8, test=4, seed=3)
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.jpeg")} for n in ("one", "two")
    )
    assert len(one) == 12
    assert one == two


def test_synthetic_pneumonia_is_brighter_in_the_lungs_than_normal() -> None:
    rng = np.random.default_rng(0)
    lungs = {
        label: np.mean([np.asarray(film(label, rng))[100:220, 60:150].mean() for _ in range(12)])
        for label in ("NORMAL", "PNEUMONIA")
    }
    assert lungs["PNEUMONIA"] > lungs["NORMAL"] + 5


def test_an_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'COVID' is no class"):
        film("COVID", np.random.default_rng(0))


def test_auto_weights_say_loudly_that_they_are_random_when_imagenet_is_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "KERAS_CACHE", Path("/nonexistent"))
    monkeypatch.setattr(inputs, "IMAGENET_URL", "http://127.0.0.1:9/none.h5")
    weights = resolve_weights("auto")
    assert weights.hyperparameter == "random"
    assert weights.warning and "RANDOM" in weights.warning


def test_auto_weights_are_imagenet_where_keras_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cached = tmp_path / "vgg16.h5"
    cached.touch()
    monkeypatch.setattr(inputs, "KERAS_CACHE", cached)
    assert resolve_weights("auto") == inputs.Weights("imagenet")


def test_a_missing_weights_file_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither auto, imagenet, random nor an existing"):
        resolve_weights(str(tmp_path / "no.weights.h5"))


def test_the_uploads_hold_films_photographs_and_a_broken_file() -> None:
    films = {label: [(f"{label}-{n}.jpeg", b"x" * 100) for n in range(4)] for label in ("NORMAL", "PNEUMONIA")}
    files = new_files(films)
    assert [file.truth for file in files].count("NORMAL") == 4
    assert [file.truth for file in files][-3:] == ["photograph", "photograph, grey", "truncated file"]
    assert len({file.key for file in files}) == len(files)
    assert "ö" in files[0].key and " " in files[0].key and "+" in files[0].key


def test_evenly_spreads_and_never_repeats() -> None:
    assert evenly(list(range(10)), 3) == [0, 3, 6]
    assert evenly([1, 2], 5) == [1, 2]


def test_a_limit_too_small_to_hold_films_out_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--limit", "10"])
    assert "below 40" in capsys.readouterr().err
