"""The recipe `end_to_end`: every block of VGG16 is trained on films that are varied anew in every epoch.

The film is standardised in the graph, the classes are normal, bacterial and viral, and what is kept is the moving
average of the last hundred steps' weights: one network. The number of epochs is fixed before a run and none of them is
chosen by how its held-out films fared. Written on Keras' own layers, `ops` and `PyDataset`, it trains with any of
Keras' backends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from training_job.crops import Crops, cropped

KINDS = ("normal", "bacteria", "virus")
UNKNOWN_KIND = len(KINDS)
"""A pneumonia whose kind nobody told counts half as either."""
DEVIATION = 58.0
"""Grey levels; of ImageNet's photographs, which the first layer expects."""
FAINTEST = 8.0
"""Grey levels; a flatter film is not blown up further."""
SMOOTHING = 0.1
DROPOUT = 0.3
WARM_UP = 60
"""Steps; a fresh head's first gradients are large."""
CLIP = 5.0
DECAY = 1e-3
MOMENTUM = 0.99
HEAD_RATE = 10.0
"""Times the convolutions' rate: the head begins with random weights."""
PREDICT_BATCH = 64


class Diverged(ValueError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Course:
    """How long and how fast: epochs, films a batch, AdamW's rate of the convolutions, and what all chance follows."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    crops: Crops = Crops()


@dataclass(frozen=True)
class Taught:
    """What the network learns from. films: uint8 [n, s, s]; kinds: int [n], index into KINDS or UNKNOWN_KIND."""

    films: np.ndarray
    kinds: np.ndarray


def network(side: int, weights: Path | None, dense_units: int, seed: int) -> keras.Model:
    """film float32 [b, side, side, 1] in 0..255 -> scores float32 [b, 3] of KINDS, under Keras' present policy."""
    keras.utils.set_random_seed(seed)
    film = keras.Input((side, side, 1), name="film", dtype="float32")
    ready = layers.Concatenate(name="repeat")([_standardized(film)] * 3)
    base = keras.applications.VGG16(
        include_top=False, weights=None if weights is None else str(weights), input_tensor=ready
    )
    embedding = layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(base.output)
    kept = layers.Dropout(DROPOUT, seed=seed, name="dropout", dtype="float32")(embedding)
    hidden = layers.Dense(dense_units, activation="relu", name="hidden", dtype="float32")(kept)
    return keras.Model(film, layers.Dense(len(KINDS), name="scores", dtype="float32")(hidden))


def _standardized(film: Any) -> Any:
    """Each film with mean 0 and a deviation of DEVIATION grey levels."""
    centred = film - ops.mean(film, axis=(1, 2), keepdims=True)
    spread = ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2), keepdims=True))
    return centred * (DEVIATION / ops.maximum(spread, FAINTEST))


def logit(scores: np.ndarray) -> np.ndarray:
    """The log odds [n] of pneumonia of scores [n, 3]: bacterial or viral against normal."""
    scores = np.asarray(scores, np.float64)
    return np.logaddexp(scores[:, 1], scores[:, 2]) - scores[:, 0]


def targets(kinds: np.ndarray) -> np.ndarray:
    """float32 [n, 3], each row a distribution over KINDS."""
    table = np.eye(len(KINDS) + 1, len(KINDS), dtype=np.float32)
    table[UNKNOWN_KIND] = (0.0, 0.5, 0.5)
    return table[kinds]


def weights_of(kinds: np.ndarray) -> np.ndarray:
    """A weight per film [n], mean 1, that takes half of the classes' imbalance (on a logarithmic scale) away."""
    shares = targets(kinds).sum(axis=0)
    each = np.sqrt(1.0 / np.maximum(shares, 1.0))
    weights = targets(kinds) @ each
    return (weights / weights.mean()).astype(np.float32)


class Batches(keras.utils.PyDataset):
    """The batches of one epoch: every film once, in an order and in variants that (seed, epoch) fix."""

    def __init__(self, taught: Taught, course: Course, epoch: int) -> None:
        super().__init__()
        self._taught, self._course, self._epoch = taught, course, epoch
        self._order = np.random.default_rng((course.seed, epoch)).permutation(len(taught.kinds))
        self._targets, self._weights = targets(taught.kinds), weights_of(taught.kinds)

    def __len__(self) -> int:
        return -(-len(self._order) // self._course.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = self._course.batch_size
        rows = self._order[index * size : (index + 1) * size]
        seed, epoch = self._course.seed, self._epoch
        films = [cropped(self._taught.films[row], self._course.crops, (seed, epoch, int(row))) for row in rows]
        return np.stack(films)[..., None].astype(np.float32), self._targets[rows], self._weights[rows]


class Averaging(keras.optimizers.AdamW):
    """AdamW with a higher rate for the head, and a moving average of the weights beside them."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule) -> None:
        super().__init__(schedule, weight_decay=DECAY, global_clipnorm=CLIP, use_ema=True, ema_momentum=MOMENTUM)

    def build(self, variables: list[Any]) -> None:
        self._of_head = {n for n, variable in enumerate(variables) if variable.path.startswith(("hidden/", "scores/"))}
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        of_head = self._get_variable_index(variable) in self._of_head
        super().update_step(gradient, variable, learning_rate * HEAD_RATE if of_head else learning_rate)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """fit() ends after each epoch here; training goes on from the weights themselves."""

    def averages(self) -> list[np.ndarray]:
        """In the order of the model's trainable variables."""
        return [np.asarray(ops.convert_to_numpy(v)) for v in self._model_variables_moving_average]


def schedule(course: Course, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine to zero at the last step."""
    steps = course.epochs * steps_per_epoch
    warm_up = min(WARM_UP, steps // 4)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - warm_up),
        warmup_target=course.learning_rate,
        warmup_steps=warm_up,
    )


class Watch(keras.callbacks.Callback):
    """Between two batches: moves the progress on, obeys a stop, and ends a run whose loss is no longer a number."""

    def __init__(self, check: Callable[[], None], advance: Callable[[int, float], None], rate: float) -> None:
        super().__init__()
        self._check, self._advance, self._rate = check, advance, rate

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._check()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = float((logs or {}).get("loss", np.nan))
        if not np.isfinite(loss):
            raise Diverged(
                f"the loss is {loss} after batch {batch + 1} at a learning rate of {self._rate:g}; lower learning_rate"
            )
        self._advance(batch + 1, loss)


@contextmanager
def averaged(model: keras.Model) -> Iterator[keras.Model]:
    """The model with the averaged weights, for as long as the block lasts."""
    own = [np.array(ops.convert_to_numpy(variable)) for variable in model.trainable_variables]
    assign(model.trainable_variables, model.optimizer.averages())
    try:
        yield model
    finally:
        assign(model.trainable_variables, own)


def assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def predict(model: keras.Model, films: np.ndarray) -> np.ndarray:
    """Scores float32 [n, 3] of uint8 films [n, s, s]."""
    parts = [
        np.asarray(model.predict_on_batch(films[at : at + PREDICT_BATCH, ..., None].astype(np.float32)))
        for at in range(0, len(films), PREDICT_BATCH)
    ]
    return np.concatenate(parts)


def compiled(model: keras.Model, course: Course, steps: int) -> keras.Model:
    model.compile(
        optimizer=Averaging(schedule(course, steps)),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING),
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def train_epoch(model: keras.Model, taught: Taught, course: Course, epoch: int, watch: Watch) -> float:
    """One epoch (counted from 0) of a compiled model; the mean loss. Raises Diverged, and what the watch raises."""
    run = model.fit(Batches(taught, course, epoch), epochs=1, verbose=0, shuffle=False, callbacks=[watch])
    return float(run.history["loss"][0])
