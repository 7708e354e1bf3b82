"""What happens when the tune films say no to int8."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr.hyperparameters import Hyperparameters
from training_job import job, learning, precision, serving
from training_job.checkpoint import Checkpoints
from training_job.container import Container
from training_job.context import Context
from training_job.devices import Devices
from training_job.provenance import fingerprint

PARITY = {"label_flips": 0.006}


class Tune:
    """As much of a dataset as the choice of an engine looks at."""

    def __init__(self, films: int) -> None:
        self.rows = {"tune": np.arange(films)}
        self.digest = "d"


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the choice with int8 always refused; returns the engines trained on and what was rejected at the end."""
    engines: list[str] = []

    def learn(context: Context, dataset: Any, weights: None, devices: Devices, engine: str) -> SimpleNamespace:
        engines.append(engine)
        return SimpleNamespace(engine=engine, network=None, checkpoints=Checkpoints(tmp_path / engine, "f"))

    def choose(exporter: serving.Exporter) -> dict[str, Any]:
        if "int8" not in exporter._rejected:
            raise precision.Int8Refused(PARITY)
        return exporter._rejected

    monkeypatch.setitem(job.LEARNERS, "gap", learn)
    monkeypatch.setattr(serving.Exporter, "choose", choose)

    def run(films: int, **settings: Any) -> tuple[list[str], Any]:
        chosen = Hyperparameters(**settings)
        context, devices = Context(Container(tmp_path), chosen), Devices(0, chosen.feature_engine, False)
        _, rejected = job._learn_and_export(context, Tune(films), None, devices)  # type: ignore[arg-type]
        return engines, rejected

    return run


def test_a_head_refused_in_int8_is_trained_again_on_the_float_features_it_is_served_with(outcome: Any) -> None:
    assert outcome(films=381) == (["int8", "keras"], {"int8": PARITY})


def test_a_refusal_is_remembered_beside_the_checkpoints_of_the_same_job_only(outcome: Any, tmp_path: Path) -> None:
    outcome(films=381)
    assert Checkpoints(tmp_path / "int8", "f").refusal() == PARITY
    assert Checkpoints(tmp_path / "int8", "other").refusal() is None
    assert Checkpoints(tmp_path / "keras", "f").refusal() is None


def test_a_restarted_job_computes_no_int8_features_only_to_be_refused_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The stand-in for the dataset holds no films: to look at one would fail."""
    dataset: Any = Tune(381)
    monkeypatch.setattr(learning, "build", lambda *_: SimpleNamespace(weights_sha256="w"))
    mark = fingerprint(Hyperparameters(), dataset, "w", "int8", False)
    Checkpoints(tmp_path / "checkpoints" / "int8", mark).refuse(PARITY)
    with pytest.raises(precision.Int8Refused) as refusal:
        learning.learn(
            Context(Container(tmp_path), Hyperparameters()), dataset, None, Devices(0, "auto", False), "int8"
        )
    assert refusal.value.parity == PARITY


def test_int8_features_are_not_computed_where_int8_cannot_be_served(outcome: Any) -> None:
    engines, rejected = outcome(films=199, feature_engine="int8")
    assert engines == ["keras"] and "fewer than 200 tune films" in rejected["int8"]


def test_a_network_that_learns_from_films_is_not_trained_twice(
    outcome: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """With three blocks and more no int8 feature is learned from: int8 is tried at the export alone."""
    engines, _ = outcome(films=381, fine_tune_blocks=3, feature_engine="int8")
    assert "int8" not in engines
    assert "feature_engine=int8 is not followed: with fine_tune_blocks=3" in capsys.readouterr().out


def test_float16_may_be_asked_for(outcome: Any) -> None:
    engines, rejected = outcome(films=381, precision="float16")
    assert engines == ["keras"] and "was asked for" in rejected["int8"]
