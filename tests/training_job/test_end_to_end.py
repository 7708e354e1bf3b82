"""The recipe `end_to_end`: its films, its weights, its interruptions."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from training_job import kinds
from training_job.averaging import Averaging, arrays, averaged, schedule
from training_job.checkpoint import Checkpoints
from training_job.end_to_end import Batches, Course, Lesson, train
from training_job.fit import Diverged
from training_job.kind_head import standardized
from training_job.stop import Stop, Stopped

SIDE = 32
COURSE = Course(epochs=2, batch_size=4, learning_rate=1e-4, seed=3)


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10, 8, 8))
    return Lesson(np.kron(coarse, np.ones((1, 4, 4))).astype(np.uint8), rng.integers(0, 4, 10))


def built() -> keras.Model:
    """A network that trains in a second: the recipe asks only for a film, dropout and scores."""
    keras.utils.set_random_seed(1)
    film = keras.Input((SIDE, SIDE, 1))
    features = keras.layers.Conv2D(4, 3, activation="relu", name="block1_conv1")(standardized(film) / 58)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(keras.layers.Dropout(0.3, seed=1)(pooled))
    return keras.Model(film, keras.layers.Dense(3, name="scores")(hidden))


def taught(lesson: Lesson, folder: Path, stop: Stop | None = None, course: Course = COURSE):
    model = built()
    labels = (lesson.kinds[:4] > 0).astype(int)
    state = train(model, lesson, (lesson.films[:4], labels), course, Checkpoints(folder, "job"), stop or Stop())
    return model, state


class StopsInTheSecondEpoch(Stop):
    """Asks for an end when this many batches have begun."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def check(self) -> None:
        self.left -= 1
        self.asked = self.left < 0
        super().check()


def test_every_film_comes_once_an_epoch_and_never_as_it_is(lesson: Lesson) -> None:
    batches = Batches(lesson, COURSE, 0)
    films = np.concatenate([batches[at][0] for at in range(len(batches))])
    shown = np.concatenate([batches[at][1] for at in range(len(batches))])
    assert films.shape == (10, SIDE, SIDE, 1) and films.dtype == np.float32
    np.testing.assert_array_equal(np.sort(shown, axis=0), np.sort(kinds.targets(lesson.kinds), axis=0))
    originals = lesson.films.astype(np.float32)[..., None]
    assert min(np.abs(originals - film).mean(axis=(1, 2, 3)).min() for film in films) > 1


def test_seed_and_epoch_fix_order_and_variants(lesson: Lesson) -> None:
    first, again = Batches(lesson, COURSE, 1)[2], Batches(lesson, COURSE, 1)[2]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], Batches(lesson, COURSE, 0)[2][0])
    assert not np.array_equal(first[0], Batches(lesson, Course(2, 4, 1e-4, seed=4), 1)[2][0])


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(lesson: Lesson, tmp_path: Path) -> None:
    whole, state = taught(lesson, tmp_path / "whole")
    with pytest.raises(Stopped):
        taught(lesson, tmp_path / "cut", StopsInTheSecondEpoch(4))
    resumed, later = taught(lesson, tmp_path / "cut")
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [epoch["train"] for epoch in later.history] == [epoch["train"] for epoch in state.history]
    assert later.finished and len(later.history) == COURSE.epochs


def test_a_finished_run_is_taken_up_without_another_step(lesson: Lesson, tmp_path: Path) -> None:
    whole, _ = taught(lesson, tmp_path)
    again, state = taught(lesson, tmp_path, StopsInTheSecondEpoch(0))
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(state.history) == COURSE.epochs


def test_a_loss_that_is_no_number_ends_the_run_at_once(lesson: Lesson, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"after batch \d of the epoch at a learning rate of 1e\+20; lower"):
        taught(lesson, tmp_path, course=Course(epochs=5, batch_size=4, learning_rate=1e20, seed=0))
    assert not list(tmp_path.iterdir())


def test_what_is_left_is_the_average_and_training_goes_on_from_the_weights(lesson: Lesson) -> None:
    model = built()
    optimizer = Averaging(1e-3, steps=6)
    model.compile(optimizer=optimizer, loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    batch = Batches(lesson, COURSE, 0)[0]
    expected: list[np.ndarray] = []
    for step in range(3):
        model.train_on_batch(*batch)
        now = arrays(model.trainable_variables)
        expected = now if step == 0 else [0.99 * e + 0.01 * n for e, n in zip(expected, now, strict=True)]
    before = arrays(model.trainable_variables)
    with averaged(model):
        for one, other in zip(arrays(model.trainable_variables), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(arrays(model.trainable_variables), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_head_learns_at_ten_times_the_rate() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="scores")(keras.layers.Dense(4, name="body")(inputs)))
    model.compile(optimizer=Averaging(1e-4, steps=1), loss="mse")
    model.optimizer.build(model.trainable_variables)
    before = arrays(model.trainable_variables)
    model.optimizer.apply([keras.ops.ones_like(v) for v in model.trainable_variables])
    moved = {
        v.path: np.abs(a - b).max()
        for v, a, b in zip(model.trainable_variables, arrays(model.trainable_variables), before, strict=True)
    }
    assert moved["scores/bias"] == pytest.approx(10 * moved["body/bias"], rel=1e-3)
    assert moved["body/bias"] > 0


def test_the_rate_rises_and_then_falls_to_nothing() -> None:
    rate = schedule(1e-3, 400)
    values = [float(rate(step)) for step in (0, 30, 60, 230, 400)]
    assert values[0] == 0 and values[1] == pytest.approx(5e-4) and values[2] == pytest.approx(1e-3)
    assert values[3] == pytest.approx(5e-4) and values[4] == pytest.approx(0, abs=1e-9)
