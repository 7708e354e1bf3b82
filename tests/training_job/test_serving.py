"""int8 is served where the tune films allow it and nowhere else, with limits of its own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training_job import features, network, serving
from training_job.checkpoint import Checkpoints
from training_job.dataset import Dataset, Films
from training_job.heads import GAP
from training_job.hyperparameters import Hyperparameters
from training_job.learning import Learned, feature_trunk
from training_job.stop import Stop

HARMLESS = {"auroc_drop": 0.002, "label_flips": 0.005, "status_flips": 0.005}


def test_int8_may_cost_just_what_the_bounds_say() -> None:
    assert serving.Exporter._acceptable(HARMLESS)


@pytest.mark.parametrize("figure", HARMLESS)
def test_int8_is_refused_just_beyond_any_bound(figure: str) -> None:
    assert not serving.Exporter._acceptable({**HARMLESS, figure: HARMLESS[figure] + 1e-6})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Four films a bucket, both classes in each."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 14, 14))
    films = Films(
        [f"{row}.png" for row in range(12)],
        np.kron(coarse, np.ones((1, 16, 16))).astype(np.uint8),
        np.tile([0, 1], 6),
        [f"p{row}" for row in range(12)],
        [str(row) for row in range(12)],
        np.zeros(12),
    )
    rows = {name: np.arange(4 * i, 4 * i + 4) for i, name in enumerate(("tune", "calibrate", "train"))}
    return Dataset(Path(), films, films, rows, "d", {})


@pytest.fixture(scope="module")
def learned(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """A network of random weights on int8 features of the films."""
    folder = tmp_path_factory.mktemp("int8")
    net = network.build(GAP, None, 16, seed=1)
    found = features.compute(feature_trunk(net, ("embedding",), "int8"), dataset.train.pixels, folder, "films", Stop())
    net.standardize(found["embedding"][:])
    return Learned(net, "embedding", found["embedding"], "int8", {}, Checkpoints(folder, "f"))


def exporter(learned: Learned, dataset: Dataset, **rejected: Any) -> serving.Exporter:
    return serving.Exporter(learned, dataset, Hyperparameters(alpha=0.3), Stop(), rejected)


@pytest.mark.heavy
def test_what_is_served_in_int8_was_calibrated_on_its_own_outputs(
    learned: Learned, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity as it comes out of four films: the bounds are opened. `choose` itself holds the file against the tail."""
    for bound in ("MAX_AUROC_DROP", "MAX_LABEL_FLIPS", "MAX_STATUS_FLIPS"):
        monkeypatch.setattr(serving, bound, 1.0)
    served = exporter(learned, dataset).choose()
    assert served.precision == served.parity["precision"] == "int8" and served.parity["rejected"] == {}
    assert 0 < served.parity["keras_tflite_max_abs"] < 0.2, "int8 is not float32, and close to it"
    assert len(served.model) < 1.2 * learned.network.whole().count_params()
    engine = serving.Engine(served.model)
    calibrated = served.calibration.apply(served.raw["calibrate"], np.zeros(4))
    for row, film in enumerate(dataset.bucket("calibrate").pixels):
        output = engine.run(film)
        assert output.probability == pytest.approx(calibrated.probabilities[row], abs=1e-3)
        assert output.ood_distance == pytest.approx(calibrated.distances[row], rel=1e-2)


def test_a_head_of_int8_features_is_never_served_in_float16(
    learned: Learned, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MAX_LABEL_FLIPS", -1.0)
    with pytest.raises(serving.Int8Refused, match="label_flips"):
        exporter(learned, dataset).choose()


@pytest.mark.parametrize(
    ("engine", "start", "kept", "precision", "stands_for"),
    [
        ("int8", "embedding", np.float32, "int8", {"train", "tune", "calibrate"}),
        ("int8", "block4_pool", np.float16, "int8", {"train"}),
        ("int8", "block5_pool", np.float32, "int8", {"train", "tune", "calibrate"}),
        ("keras", "embedding", np.float32, "float16", {"train"}),
        ("keras", "embedding", np.float32, "int8", set()),
        ("keras", "film", np.uint8, "float16", set()),
    ],
)
def test_cached_features_stand_for_films_only_where_the_file_computes_the_same(
    learned: Learned, dataset: Dataset, engine: str, start: str, kept: type, precision: str, stands_for: set[str]
) -> None:
    """Mean and covariance of many train films bear float16's rounding; the numbers of few films do not."""
    of_engine = Learned(learned.network, start, np.zeros(1, kept), engine, {}, learned.checkpoints)
    ours = exporter(of_engine, dataset)
    assert {name for name in dataset.rows if ours._stands_for(precision, name)} == stands_for
