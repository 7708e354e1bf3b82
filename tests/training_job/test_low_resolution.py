"""Training all of VGG16 on small films changes the base for good, and the same way however often it is cut short."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from training_job import low_resolution, network
from training_job.checkpoint import Checkpoints
from training_job.heads import FLATTEN, GAP, Head
from training_job.hyperparameters import Hyperparameters
from training_job.learning import feature_trunk
from training_job.stop import Stop, Stopped

SIDE, COUNT = 64, 24
SETTINGS = Hyperparameters(
    low_resolution_epochs=2, low_resolution_side=32, low_resolution_learning_rate=1e-3, batch_size=8, dense_units=16
)


def films(count: int = COUNT) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 255, (count, 8, 8)), np.ones((1, 8, 8))).astype(np.uint8)


def dataset() -> Any:
    """Bright films are PNEUMONIA; as much of a dataset as the phase reads."""
    labels = np.arange(COUNT) % 2
    pixels = np.where(labels[:, None, None] == 1, films() // 2 + 120, films() // 2).astype(np.uint8)
    rows = {"train": np.arange(16), "tune": np.arange(16, COUNT)}
    return SimpleNamespace(train=SimpleNamespace(pixels=pixels, labels=labels), rows=rows)


def trained(folder: Path, head: Head = GAP, stop: Stop | None = None) -> tuple[network.Network, Any]:
    net = network.build(head, None, 16, seed=1, side=SIDE)
    return net, low_resolution.train_base(net, dataset(), SETTINGS, Checkpoints(folder, "x"), stop or Stop())


def sequence() -> low_resolution.FreshlyVaried:
    rows = np.arange(COUNT)
    return low_resolution.FreshlyVaried(films(), GAP.augmentation, 32, 5, GAP.targets(rows % 2), np.ones(COUNT))


def test_no_epoch_sees_the_variant_of_another_and_each_sees_every_film_once() -> None:
    samples = sequence()
    first, second = samples.order(5, 0), samples.order(5, 1)
    assert sorted(first % COUNT) == sorted(second % COUNT) == list(range(COUNT))
    film = 3
    one, other = (samples.take(order[order % COUNT == film])[0] for order in (first, second))
    assert one.shape == (1, 32, 32, 1) and one.dtype == np.float32
    assert np.abs(one - other).mean() > 1
    assert np.array_equal(one, sequence().take(np.array([film]))[0]), "a resumed job draws the same variant"


def test_a_small_film_is_the_mean_of_the_pixels_that_it_stands_for() -> None:
    small = low_resolution.shrunk(films(2), 8)
    assert np.abs(small[..., 0].astype(int) - films(2)[:, 4::8, 4::8]).max() <= 1


@pytest.mark.heavy
def test_the_base_is_another_one_afterwards_and_its_features_are_not_taken_from_the_cache_of_the_first(
    tmp_path: Path,
) -> None:
    """With the flatten head, which fits no small film: the temporary head is a pooled one."""
    before = network.build(FLATTEN, None, 16, seed=1, side=SIDE)
    assert before.convolutions_sha256() == before.weights_sha256
    net, state = trained(tmp_path, FLATTEN)
    assert net.weights_sha256 == before.weights_sha256, "the bundle names what the job began with"
    assert net.convolutions_sha256() != net.weights_sha256
    point = (net.head.feature,)
    assert feature_trunk(net, point, "keras").identity != feature_trunk(before, point, "keras").identity
    assert [epoch["epoch"] for epoch in state.history] == [1, 2]
    head = [layer for layer in net.whole().layers if not layer.name.startswith("block")]
    for ours, fresh in zip(head, [x for x in before.whole().layers if not x.name.startswith("block")], strict=True):
        for one, two in zip(ours.get_weights(), fresh.get_weights(), strict=True):
            assert np.array_equal(one, two), "the temporary head is gone"


class StopsAfter(Stop):
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._left = looks

    def check(self) -> None:
        self._left -= 1
        self.asked = self._left <= 0
        super().check()


@pytest.mark.heavy
def test_a_job_that_was_cut_short_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole")
    with pytest.raises(Stopped):
        trained(tmp_path / "cut", stop=StopsAfter(3))
    assert (tmp_path / "cut" / "state.npz").is_file(), "stopped in the second epoch of two batches each"
    resumed, state = trained(tmp_path / "cut")
    again, _ = trained(tmp_path / "cut")
    assert len(state.history) == 2
    assert resumed.convolutions_sha256() == again.convolutions_sha256()
    for one, two in zip(whole.whole().get_weights(), resumed.whole().get_weights(), strict=True):
        assert np.allclose(one, two, atol=1e-6)
