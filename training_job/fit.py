"""Training the part of the network behind a cut, on cached features.

Epochs are chosen on the tune films alone. The same batches in the same order come out of the same seed, whether the job
was interrupted or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from training_job import scores
from training_job.checkpoint import Checkpoints, State
from training_job.console import bar, say
from training_job.features import Features, Samples
from training_job.heads import Head
from training_job.stop import Stop

PREDICT_BATCH = 64
# The hyperparameter that sets a phase's rate.
RATES = {"head": "learning_rate", "fine_tune": "fine_tune_learning_rate"}


class Diverged(ValueError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Phase:
    """`head` (frozen base) or `fine_tune`: how long and how fast."""

    name: str
    epochs: int
    learning_rate: float
    batch_size: int
    patience: int
    seed: int


@dataclass(frozen=True)
class Lesson:
    """What a phase learns from, and what its epochs are judged by: some rows of an array of features, labels [n]."""

    samples: Samples
    tune: Features
    tune_rows: np.ndarray
    tune_labels: np.ndarray


class Batches(keras.utils.PyDataset):
    """One epoch's batches in a given order."""

    def __init__(self, samples: Samples, order: np.ndarray, size: int) -> None:
        super().__init__()
        self._samples, self._order, self._size = samples, order, size

    def __len__(self) -> int:
        return -(-len(self._order) // self._size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._samples.take(self._order[index * self._size : (index + 1) * self._size])


class _BetweenBatches(keras.callbacks.Callback):
    """Shows the progress and obeys a stop; an epoch whose last batch is done is finished and saved all the same."""

    def __init__(self, stop: Stop, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._stop, self._advance = stop, advance

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._stop.check()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._advance(1)


def class_weights(labels: np.ndarray) -> np.ndarray:
    """A weight per film [n] so that both classes weigh the same in the loss; mean 1."""
    return compute_sample_weight("balanced", labels).astype(np.float32)


def schedule(phase: Phase, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up over one epoch (a fresh head's first gradients are large), then cosine to zero.

    The cosine's tail averages the noise of the last steps, so the last epochs need no choosing; early stopping guards
    against over-fitting only. A single epoch keeps the rate constant.
    """
    if phase.epochs == 1:
        return keras.optimizers.schedules.CosineDecay(phase.learning_rate, steps_per_epoch, alpha=1.0)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=phase.learning_rate / 10,
        decay_steps=steps_per_epoch * (phase.epochs - 1),
        warmup_target=phase.learning_rate,
        warmup_steps=steps_per_epoch,
    )


def compiled(model: keras.Model, head: Head, phase: Phase, steps_per_epoch: int) -> keras.Model:
    """The model with Adam and the head's loss; the loss is scaled where gradients pass through float16.

    Keras would do so by the model's own policy, which is float32 here whatever its layers compute in.
    """
    optimizer = keras.optimizers.Adam(schedule(phase, steps_per_epoch))
    if any(layer.trainable_weights and layer.compute_dtype == "float16" for layer in model.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss=head.loss)
    model.optimizer.build(model.trainable_variables)
    return model


def predict(model: keras.Model, head: Head, inputs: Features, rows: np.ndarray) -> np.ndarray:
    """P(PNEUMONIA) [n] of some rows of a feature array."""
    parts = [
        head.probability(model.predict_on_batch(np.asarray(inputs[rows[i : i + PREDICT_BATCH]], np.float32)))
        for i in range(0, len(rows), PREDICT_BATCH)
    ]
    return np.concatenate(parts)


def train(model: keras.Model, head: Head, phase: Phase, lesson: Lesson, checkpoints: Checkpoints, stop: Stop) -> State:
    """Train until the epochs or the patience end; the model is left with the best epoch's weights.

    Raises Stopped between batches; the state after the last whole epoch is then on disk. Raises Diverged.
    """
    steps = -(-len(lesson.samples) // phase.batch_size)
    compiled(model, head, phase, steps)
    state = _resume(model, phase, checkpoints)
    while not state.finished and state.epoch < phase.epochs:
        stop.check()
        started = time.perf_counter()
        batches = Batches(lesson.samples, lesson.samples.order(phase.seed, state.epoch), phase.batch_size)
        with bar(f"{phase.name}, epoch {state.epoch + 1} of {phase.epochs}", steps) as advance:
            between = _BetweenBatches(stop, advance)
            run = model.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[between])
        losses = {"train": float(run.history["loss"][0]), **_judged(model, head, lesson)}
        if not np.isfinite([losses["train"], losses["tune"]]).all():
            raise Diverged(
                f"{phase.name}: the loss is {losses['train']} on train and {losses['tune']} on tune films after epoch "
                f"{state.epoch + 1} at a learning rate of {phase.learning_rate:g}; lower {RATES[phase.name]}, or check "
                "the weights file"
            )
        state.epoch += 1
        seconds = round(time.perf_counter() - started, 3)
        state.history.append({"epoch": state.epoch, **losses, "seconds": seconds})
        shown = {"train:loss": losses["train"], "tune:loss": losses["tune"], "tune:auroc": losses["auroc"]}
        say(f"epoch={state.epoch} " + " ".join(f"{name}={value:.4f}" for name, value in shown.items()))
        _keep(state, model, losses["tune"])
        state.finished = state.epoch - state.best_epoch >= phase.patience
        checkpoints.save(state)
    state.finished = True
    model.set_weights(state.best)
    return state


def _judged(model: keras.Model, head: Head, lesson: Lesson) -> dict[str, float]:
    """The tune films' loss, both classes weighing the same, and AUROC; nan where the model answers with no number."""
    labels = lesson.tune_labels
    probabilities = predict(model, head, lesson.tune, lesson.tune_rows)
    if not np.isfinite(probabilities).all():
        return {"tune": np.nan, "auroc": np.nan}
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    loss = log_loss(labels, clipped, sample_weight=class_weights(labels), labels=[0, 1])
    return {"tune": float(loss), "auroc": scores.auroc(labels, probabilities)}


def _keep(state: State, model: keras.Model, tune_loss: float) -> None:
    """The model's state after a whole epoch, and its weights if it is the best one."""
    state.weights = model.get_weights()
    state.optimizer = [np.asarray(variable) for variable in model.optimizer.variables]
    if tune_loss < state.best_loss:
        state.best_loss, state.best_epoch, state.best = tune_loss, state.epoch, state.weights


def _resume(model: keras.Model, phase: Phase, checkpoints: Checkpoints) -> State:
    state = checkpoints.load()
    if state is None:
        return State(phase.name)
    if state.phase != phase.name:
        return State(phase.name, earlier=state.histories())
    model.set_weights(state.weights)
    for variable, value in zip(model.optimizer.variables, state.optimizer, strict=True):
        variable.assign(value)
    say(f"resumed {phase.name} after epoch {state.epoch} of {phase.epochs}")
    return state
