"""int8 is served where the tune films allow it and nowhere else, with limits of its own outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.hyperparameters import Hyperparameters
from training_job import features, network, serving
from training_job import precision as bounds
from training_job.checkpoint import Checkpoints
from training_job.container import Container
from training_job.context import Context
from training_job.dataset import Dataset, Films
from training_job.heads import GAP, HEADS
from training_job.learning import Learned, feature_trunk
from training_job.precision import acceptable
from training_job.stop import Stop

HARMLESS = {
    "int8": {"auroc_drop": 0.002, "label_flips": 0.005, "status_flips": 0.005},
    "float16": {"auroc_drop": 0.005, "label_flips": 0.02, "status_flips": 0.02},
}
EACH = [(precision, figure) for precision, figures in HARMLESS.items() for figure in figures]


@pytest.mark.parametrize("precision", HARMLESS)
def test_a_precision_may_cost_just_what_the_bounds_say(precision: str) -> None:
    assert acceptable({**HARMLESS[precision], "precision": precision, "n": 381})


@pytest.mark.parametrize(("precision", "figure"), EACH)
def test_a_precision_is_refused_just_beyond_any_bound(precision: str, figure: str) -> None:
    harmless = HARMLESS[precision]
    parity = {**harmless, figure: harmless[figure] + 1e-6, "precision": precision, "n": 381}
    assert not acceptable(parity)


def test_one_film_of_few_refuses_no_float16_and_nothing_refuses_float32() -> None:
    one_of_ten = {"auroc_drop": 0.0, "label_flips": 0.1, "status_flips": 0.1, "n": 10}
    assert acceptable({**one_of_ten, "precision": "float16"})
    assert not acceptable({**one_of_ten, "status_flips": 0.2, "precision": "float16"})
    assert acceptable({**one_of_ten, "auroc_drop": 1.0, "precision": "float32"})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Four films a bucket, both classes in each."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 4, 4))
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
    net = network.build(GAP, None, 16, seed=1, side=64)
    found = features.compute(feature_trunk(net, ("embedding",), "int8"), dataset.train.pixels, folder, "films", Stop())
    net.standardize(found["embedding"][:])
    return Learned(net, "embedding", found["embedding"], "int8", {}, Checkpoints(folder, "f"))


def exporter(learned: Learned, dataset: Dataset, **rejected: Any) -> serving.Exporter:
    return serving.Exporter(Context(Container(Path()), Hyperparameters(alpha=0.3)), dataset, learned, rejected)


@pytest.mark.heavy
def test_what_is_served_in_int8_was_calibrated_on_its_own_outputs(
    learned: Learned, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity as it comes out of four films: the bounds are opened. `choose` itself holds the file against the tail."""
    for bound in ("MAX_AUROC_DROP", "MAX_LABEL_FLIPS", "MAX_STATUS_FLIPS"):
        monkeypatch.setattr(bounds, bound, 1.0)
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


@pytest.mark.heavy
def test_what_float16_would_lose_is_served_in_float32(
    learned: Learned, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_keras = Learned(learned.network, "embedding", learned.cached, "keras", {}, learned.checkpoints)
    monkeypatch.setattr(bounds, "MAX_FLOAT16_AUROC_DROP", -1.0)
    served = exporter(of_keras, dataset, int8="not tried").choose()
    assert served.precision == served.parity["precision"] == "float32"
    assert served.parity["rejected"]["int8"] == "not tried"
    assert served.parity["rejected"]["float16"]["precision"] == "float16"
    assert len(served.model) > 3.9 * learned.network.whole().count_params()


def test_a_head_of_int8_features_is_never_served_in_float16(
    learned: Learned, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_LABEL_FLIPS", -1.0)
    with pytest.raises(bounds.Int8Refused, match="label_flips"):
        exporter(learned, dataset).choose()


@pytest.mark.parametrize(
    ("head", "engine", "start", "kept", "precision", "stands_for"),
    [
        ("gap", "int8", "embedding", np.float32, "int8", {"train", "tune", "calibrate"}),
        ("gap", "int8", "block4_pool", np.float16, "int8", {"train"}),
        ("flatten", "int8", "block5_pool", np.float32, "int8", {"train", "tune", "calibrate"}),
        ("gap", "keras", "embedding", np.float32, "float16", {"train"}),
        ("flatten", "keras", "block5_pool", np.float32, "float16", set()),
        ("flatten", "keras", "block5_pool", np.float32, "float32", {"train"}),
        ("gap", "keras", "embedding", np.float32, "int8", set()),
        ("gap", "keras", "film", np.uint8, "float16", set()),
    ],
)
def test_cached_features_stand_for_films_only_where_the_file_computes_the_same(
    learned: Learned,
    dataset: Dataset,
    head: str,
    engine: str,
    start: str,
    kept: type,
    precision: str,
    stands_for: set[str],
) -> None:
    """Mean and covariance of many train films bear float16's rounding with gap; the numbers of few films do not."""
    net = replace(learned.network, head=HEADS[head])
    of_engine = Learned(net, start, np.zeros(1, kept), engine, {}, learned.checkpoints)
    ours = exporter(of_engine, dataset)
    assert {name for name in dataset.rows if ours._stands_for(precision, name)} == stands_for
