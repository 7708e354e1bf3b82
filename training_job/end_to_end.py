"""The recipe `end_to_end`: every block of VGG16 is trained on films that are varied anew in every epoch.

The number of epochs is fixed beforehand and none of them is chosen by how held-out films fared. The same seed gives the
same batches in the same order and the same dropout, whether the job was interrupted or not. Written on Keras' own
layers, `ops` and `PyDataset`, it trains with any of Keras' backends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from training_job import arithmetic, kinds, learning, provenance, scores
from training_job.averaging import Averaging, arrays, assign, averaged
from training_job.checkpoint import Checkpoints, State
from training_job.console import bar, say
from training_job.context import Context
from training_job.crops import Crops, cropped
from training_job.dataset import Dataset
from training_job.devices import Devices
from training_job.fit import Diverged
from training_job.stop import Stop

PHASE = "end_to_end"
SMOOTHING = 0.1
PREDICT_BATCH = 64


@dataclass(frozen=True)
class Course:
    """How long and how fast: epochs, films a batch, the rate of the convolutions, and what all chance follows."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    crops: Crops = field(default_factory=Crops)


@dataclass(frozen=True)
class Lesson:
    """Films uint8 [n, s, s] and their kinds int [n] (see training_job.kinds)."""

    films: np.ndarray
    kinds: np.ndarray


def learn(context: Context, dataset: Dataset, weights: Path | None, devices: Devices, engine: str) -> learning.Learned:
    """Trained as `mixed_precision` says, in bfloat16 or float32, and given back in float32; `engine` is of no use here.

    Raises BadWeights, Diverged, Stopped.
    """
    settings, rows, train_films = context.settings, dataset.rows, dataset.train
    net = learning.build(context, weights)
    policy = arithmetic.policy(settings.mixed_precision, devices.gpus)
    say(f"{PHASE}: {len(rows['train'])} films of {settings.side} px, {settings.epochs} epochs in {policy}")
    mark = provenance.fingerprint(settings, dataset, net.weights_sha256, policy, mixed=policy != arithmetic.PLAIN)
    checkpoints = Checkpoints(context.container.checkpoints / PHASE, mark)
    model = (net if policy == arithmetic.PLAIN else net.in_mixed_precision(policy)).whole()
    of_film = kinds.of_films(train_films.files, train_films.labels, dataset.subtypes)
    lesson = Lesson(train_films.pixels[rows["train"]], of_film[rows["train"]])
    tune = train_films.pixels[rows["tune"]], train_films.labels[rows["tune"]]
    course = Course(settings.epochs, settings.batch_size, settings.learning_rate, settings.seed)
    with context.clock.stage(PHASE):
        state = train(model, lesson, tune, course, checkpoints, context.stop)
    context.clock.cost(PHASE, sum(epoch["seconds"] for epoch in state.history))
    net.whole().set_weights(model.get_weights())
    return learning.Learned(net, "film", train_films.pixels[..., None], "keras", state.histories(), checkpoints)


class Batches(keras.utils.PyDataset):
    """The batches of one epoch: every film once, in an order and in variants that seed and epoch fix."""

    def __init__(self, lesson: Lesson, course: Course, epoch: int) -> None:
        super().__init__()
        self._lesson, self._course, self._epoch = lesson, course, epoch
        self._order = np.random.default_rng((course.seed, epoch)).permutation(len(lesson.kinds))
        self._targets, self._weights = kinds.targets(lesson.kinds), kinds.weights(lesson.kinds)

    def __len__(self) -> int:
        return steps_of(self._lesson, self._course)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size, seed = self._course.batch_size, self._course.seed
        rows = self._order[index * size : (index + 1) * size]
        films = [cropped(self._lesson.films[row], self._course.crops, (seed, self._epoch, int(row))) for row in rows]
        return np.stack(films)[..., None].astype(np.float32), self._targets[rows], self._weights[rows]


def steps_of(lesson: Lesson, course: Course) -> int:
    """Batches of an epoch."""
    return -(-len(lesson.kinds) // course.batch_size)


class _BetweenBatches(keras.callbacks.Callback):
    """Moves the progress on, obeys a stop, and ends a run as soon as its loss is no longer a number."""

    def __init__(self, stop: Stop, advance: Callable[[int], None], rate: float) -> None:
        super().__init__()
        self._stop, self._advance, self._rate = stop, advance, rate

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._stop.check()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = float((logs or {}).get("loss", np.nan))
        if not np.isfinite(loss):
            raise Diverged(
                f"the loss is {loss} after batch {batch + 1} of the epoch at a learning rate of {self._rate:g}; lower "
                "learning_rate, or check the weights file"
            )
        self._advance(1)


def predict(model: keras.Model, films: np.ndarray) -> np.ndarray:
    """Scores float32 [n, 3] of uint8 films [n, s, s]."""
    batches = (films[at : at + PREDICT_BATCH, ..., None] for at in range(0, len(films), PREDICT_BATCH))
    return np.concatenate([np.asarray(model.predict_on_batch(batch.astype(np.float32))) for batch in batches])


def train(
    model: keras.Model,
    lesson: Lesson,
    tune: tuple[np.ndarray, np.ndarray],
    course: Course,
    kept: Checkpoints,
    stop: Stop,
) -> State:
    """Train to the last epoch; the model is left with the averaged weights.

    tune: films uint8 [m, s, s] and labels [m], which are watched and choose nothing. Raises Diverged; Stopped between
    batches, with the state after the last whole epoch on disk.
    """
    steps = steps_of(lesson, course)
    model.compile(
        optimizer=Averaging(course.learning_rate, steps * course.epochs),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING),
    )
    model.optimizer.build(model.trainable_variables)
    state = _resumed(model, course, kept)
    while state.epoch < course.epochs:
        began = time.perf_counter()
        loss = _epoch(model, lesson, course, state.epoch, stop)
        with averaged(model):
            watched = kinds.logit(predict(model, tune[0]))
        state.epoch += 1
        state.history.append(
            {
                "epoch": state.epoch,
                "train": loss,
                "tune": float(np.logaddexp(0.0, np.where(tune[1] == 1, -watched, watched)).mean()),
                "auroc": scores.auroc(tune[1], watched),
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
        say(
            "epoch={epoch} train:loss={train:.4f} tune:loss={tune:.4f} tune:auroc={auroc:.4f}".format(
                **state.history[-1]
            )
        )
        state.weights, state.optimizer = arrays(model.variables), arrays(model.optimizer.variables)
        state.finished = state.epoch == course.epochs
        kept.save(state)
    assign(model.trainable_variables, model.optimizer.averages())
    return state


def _epoch(model: keras.Model, lesson: Lesson, course: Course, epoch: int, stop: Stop) -> float:
    """The mean loss of one epoch, counted from 0."""
    batches = Batches(lesson, course, epoch)
    with bar(f"epoch {epoch + 1} of {course.epochs}", len(batches)) as advance:
        between = _BetweenBatches(stop, advance, course.learning_rate)
        run = model.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[between])
    return float(run.history["loss"][0])


def _resumed(model: keras.Model, course: Course, kept: Checkpoints) -> State:
    """The state to go on from, laid into model and optimizer: their variables, and those of dropout's chance."""
    state = kept.load()
    if state is None or state.phase != PHASE:
        return State(PHASE)
    assign(model.variables, state.weights)
    assign(model.optimizer.variables, state.optimizer)
    say(f"resumed after epoch {state.epoch} of {course.epochs}")
    return state
