"""The two phases: the head on frozen features, then, if asked for, the last blocks at a low rate.

What is frozen is computed once; what is trained sees the features that the served file will compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from training_job import augment, export, features, fit, network, provenance
from training_job.checkpoint import Checkpoints, State
from training_job.console import say
from training_job.context import Context
from training_job.dataset import Dataset
from training_job.devices import Devices
from training_job.heads import START_OF_FINE_TUNING
from training_job.precision import Int8Refused
from training_job.weights import BadWeights


@dataclass(frozen=True)
class Learned:
    """The trained float32 network; `cached`: the train folder's features at the cut `start`, by `engine`.

    histories: {phase: its epochs}. checkpoints: where this training is kept, and its refusal if it comes to one.
    """

    network: network.Network
    start: str
    cached: features.Features
    engine: str
    histories: dict[str, list[dict[str, float]]]
    checkpoints: Checkpoints


def learn(context: Context, dataset: Dataset, weights: Path | None, devices: Devices, engine: str) -> Learned:
    """Both phases on features by `engine`, resumed where a checkpoint says so.

    Raises BadWeights, Diverged, Stopped; Int8Refused when an earlier run of the same job has come to it.
    """
    settings, clock = context.settings, context.clock
    net = build(context, weights)
    mark = provenance.fingerprint(settings, dataset, net.weights_sha256, engine, devices.mixed)
    checkpoints = Checkpoints(context.container.checkpoints / engine, mark)
    if parity := checkpoints.refusal():
        raise Int8Refused(parity)
    with clock.stage("features"):
        inputs, seconds = _inputs(context, dataset, net, engine)
    clock.cost("features", seconds)
    if "embedding" in inputs:
        net.standardize(inputs["embedding"][0][dataset.rows["train"]])
    phases = _Phases(context, dataset, net, checkpoints)
    start = net.head.feature
    with clock.stage("head"):
        state = checkpoints.load()
        if state is None or state.phase == "head":
            state = phases.train("head", inputs[start], start, mixed=False)
    if settings.fine_tune_blocks:
        start = START_OF_FINE_TUNING[settings.fine_tune_blocks]
        net.freeze_all_but(settings.fine_tune_blocks)
        with clock.stage("fine_tune"):
            state = phases.train("fine_tune", inputs[start], start, devices.mixed)
        net.freeze_all_but(0)
    for phase, epochs in state.histories().items():
        clock.cost(phase, sum(epoch["seconds"] for epoch in epochs))
    return Learned(net, start, inputs[start][0], engine, state.histories(), checkpoints)


def build(context: Context, weights: Path | None) -> network.Network:
    """Raises BadWeights."""
    try:
        one = context.settings
        return network.build(context.head, weights, one.dense_units, one.seed, one.side)
    except (ValueError, OSError, KeyError) as error:
        raise BadWeights(
            f"VGG16 weights {weights} cannot be loaded ({str(error)[:200]}); give a file written by Keras 3 from "
            "VGG16(include_top=False).save_weights(), or set weights=random"
        ) from error


def _inputs(
    context: Context, dataset: Dataset, net: network.Network, engine: str
) -> tuple[dict[str, list[features.Features]], float]:
    """{cut: [features of the train folder, features of each augmented copy of the train bucket]}, and their seconds."""
    cuts = {net.head.feature}
    if context.settings.fine_tune_blocks:
        cuts.add(START_OF_FINE_TUNING[context.settings.fine_tune_blocks])
    points = tuple(sorted(cuts - {"film"}, reverse=True))
    trunk = feature_trunk(net, points, engine)
    cache, seconds = context.container.cache, 0.0
    found: dict[str, list[features.Features]] = {cut: [] for cut in cuts}
    for number, films in enumerate(chain([dataset.train.pixels], _augmented_copies(context, dataset))):
        label = "train/" if number == 0 else f"augmented copy {number}"
        computed = features.compute(trunk, films, cache, label, context.stop)
        seconds += features.seconds_spent(computed)
        for cut in points:
            found[cut].append(computed[cut])
        if "film" in cuts:
            found["film"].append(films[..., None] if number == 0 else features.keep(films[..., None], cache, number))
    return found, seconds


def _augmented_copies(context: Context, dataset: Dataset) -> Iterator[np.ndarray]:
    """uint8 [n, s, s] per copy, of the train bucket alone; only one of them is in memory at a time."""
    films = dataset.train.pixels[dataset.rows["train"]]
    for number in range(1, context.settings.augment_copies + 1):
        copy = np.empty_like(films)
        for row, film in enumerate(augment.augmented(films, context.head.augmentation, context.settings.seed, number)):
            context.stop.check()
            copy[row] = film
        yield copy


def feature_trunk(net: network.Network, points: tuple[str, ...], engine: str) -> features.Trunk:
    """The frozen part up to `points`, by Keras or as int8 .tflite."""
    model = net.trunk(points)
    versions = provenance.versions()
    made_by = " ".join(f"{name} {versions[name]}" for name in ("keras", "tensorflow", "ai-edge-litert"))
    identity = f"{net.head.scale} {net.head.offset} {net.weights_sha256} float32 {made_by}"
    if engine == "keras":
        return features.keras_trunk(model, identity, net.head.map_type)
    shapes = {name: tuple(net.points[name].shape[1:]) for name in points}
    return features.litert_trunk(export.to_tflite(model, "int8"), shapes, identity, net.head.map_type)


@dataclass(frozen=True)
class _Phases:
    """What both phases share."""

    context: Context
    dataset: Dataset
    net: network.Network
    checkpoints: Checkpoints

    def train(self, name: str, arrays: list[features.Features], start: str, mixed: bool) -> State:
        """Train the network behind the cut `start`; `mixed`: in float16 arithmetic, by a twin.

        The twin gives its weights back and is not used again: features, parity and what is served come from the float32
        network.
        """
        net, rows, phase = self.net, self.dataset.rows, self._phase(name)
        labels = {bucket: self.dataset.train.labels[rows[bucket]] for bucket in ("train", "tune")}
        samples = features.Samples(
            arrays, rows["train"], net.head.targets(labels["train"]), fit.class_weights(labels["train"])
        )
        say(f"{name}: {len(samples)} samples of {len(rows['train'])} films, at most {phase.epochs} epochs from {start}")
        model = net.training_model(start)
        trained = net.in_mixed_precision().training_model(start) if mixed else model
        lesson = fit.Lesson(samples, arrays[0], rows["tune"], labels["tune"])
        state = fit.train(trained, net.head, phase, lesson, self.checkpoints, self.context.stop)
        if mixed:
            model.set_weights(trained.get_weights())
        return state

    def _phase(self, name: str) -> fit.Phase:
        one, tuning = self.context.settings, name == "fine_tune"
        return fit.Phase(
            name,
            epochs=one.fine_tune_epochs if tuning else one.epochs,
            learning_rate=one.fine_tune_learning_rate if tuning else one.learning_rate,
            batch_size=one.batch_size,
            patience=one.patience,
            seed=one.seed,
        )
