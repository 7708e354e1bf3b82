"""The two phases: the head on frozen features, then, if asked for, the last blocks at a low rate.

Rule: what is frozen is computed once; what is trained sees the features that the served file will compute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from training_job import export, features, fit, network, package
from training_job.checkpoint import Checkpoints, State
from training_job.console import say
from training_job.dataset import Dataset
from training_job.devices import Devices
from training_job.serving import Int8Refused

if TYPE_CHECKING:
    from training_job.job import Job


# What keras.applications.VGG16(include_top=False, weights="imagenet") downloads.
IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{IMAGENET_FILE}"
IMAGENET_MD5 = "6d6bbae143d832006294945121d1f1fc"


class BadWeights(ValueError):
    """The VGG16 weights cannot be had or loaded."""


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


def imagenet_file() -> Path:
    """Keras' ImageNet weights, from its cache or its address. Raises BadWeights."""
    try:
        return Path(keras.utils.get_file(IMAGENET_FILE, IMAGENET_URL, cache_subdir="models", file_hash=IMAGENET_MD5))
    except Exception as error:  # a failed download is a bare Exception
        raise BadWeights(
            f"the ImageNet weights of VGG16 cannot be downloaded ({str(error)[:300]}); network isolation forbids "
            "downloads: give the file in the channel weights and set weights=channel, or allow the job to reach the "
            "address"
        ) from error


def learn(job: Job, dataset: Dataset, weights: Path | None, devices: Devices, engine: str) -> Learned:
    """Both phases on features by `engine`, resumed where a checkpoint says so.

    Raises BadWeights, Stopped; Int8Refused when an earlier run of the same job has come to it.
    """
    net = _build(job, weights)
    mark = job.fingerprint(dataset, net.weights_sha256, engine, devices.mixed)
    checkpoints = Checkpoints(job.container.checkpoints / engine, mark)
    if parity := checkpoints.refusal():
        raise Int8Refused(parity)
    with job.clock.stage("features"):
        inputs, seconds = _inputs(job, dataset, net, engine)
    job.clock.cost("features", seconds)
    if "embedding" in inputs:
        net.standardize(inputs["embedding"][0][dataset.rows["train"]])
    start = net.head.feature
    with job.clock.stage("head"):
        state = checkpoints.load()
        if state is None or state.phase == "head":
            state = _phase(job, net, dataset, inputs[start], start, "head", checkpoints, mixed=False)
    if job.settings.fine_tune_blocks:
        start = network.START_OF_FINE_TUNING[job.settings.fine_tune_blocks]
        net.freeze_all_but(job.settings.fine_tune_blocks)
        with job.clock.stage("fine_tune"):
            state = _phase(job, net, dataset, inputs[start], start, "fine_tune", checkpoints, devices.mixed)
        net.freeze_all_but(0)
    for phase, epochs in state.histories().items():
        job.clock.cost(phase, sum(epoch["seconds"] for epoch in epochs))
    return Learned(net, start, inputs[start][0], engine, state.histories(), checkpoints)


def _build(job: Job, weights: Path | None) -> network.Network:
    try:
        return network.build(job.head, weights, job.settings.dense_units, job.settings.seed)
    except (ValueError, OSError, KeyError) as error:
        raise BadWeights(
            f"VGG16 weights {weights} cannot be loaded ({str(error)[:200]}); give a file written by Keras 3 from "
            "VGG16(include_top=False).save_weights(), or set weights=random"
        ) from error


def _inputs(
    job: Job, dataset: Dataset, net: network.Network, engine: str
) -> tuple[dict[str, list[features.Features]], float]:
    """{cut: [features of the train folder, features of each augmented copy of the train bucket]}, and their seconds."""
    cuts = {net.head.feature}
    if job.settings.fine_tune_blocks:
        cuts.add(network.START_OF_FINE_TUNING[job.settings.fine_tune_blocks])
    points = tuple(sorted(cuts - {"film"}, reverse=True))
    trunk = feature_trunk(net, points, engine)
    cache, seconds = job.container.cache, 0.0
    found: dict[str, list[features.Features]] = {cut: [] for cut in cuts}
    for number, films in enumerate(chain([dataset.train.pixels], job.augmented_copies(dataset))):
        label = "train/" if number == 0 else f"augmented copy {number}"
        computed = features.compute(trunk, films, cache, label, job.stop)
        seconds += features.seconds_spent(computed)
        for cut in points:
            found[cut].append(computed[cut])
        if "film" in cuts:
            found["film"].append(films[..., None] if number == 0 else features.keep(films[..., None], cache, number))
    return found, seconds


def feature_trunk(net: network.Network, points: tuple[str, ...], engine: str) -> features.Trunk:
    """The frozen part up to `points`, by Keras or as int8 .tflite."""
    model = net.trunk(points)
    made_by = " ".join(f"{name} {package.versions()[name]}" for name in ("keras", "tensorflow", "ai-edge-litert"))
    identity = f"{net.head.scale} {net.head.offset} {net.weights_sha256} float32 {made_by}"
    if engine == "keras":
        return features.keras_trunk(model, identity, net.head.map_type)
    shapes = {name: tuple(net.points[name].shape[1:]) for name in points}
    return features.litert_trunk(export.to_tflite(model, "int8"), shapes, identity, net.head.map_type)


def _phase(
    job: Job,
    net: network.Network,
    dataset: Dataset,
    arrays: list[features.Features],
    start: str,
    name: str,
    checkpoints: Checkpoints,
    mixed: bool,
) -> State:
    """Train the network behind the cut `start`; `mixed`: in float16 arithmetic, by a twin that gives its weights back.

    The twin alone computes in float16: features, parity and what is served come from the float32 network.
    """
    settings, rows = job.settings, dataset.rows["train"]
    labels = dataset.train.labels[rows]
    samples = features.Samples(arrays, rows, net.head.targets(labels), fit.class_weights(labels))
    phase = fit.Phase(
        name, settings.epochs, settings.learning_rate, settings.batch_size, settings.patience, settings.seed
    )
    if name == "fine_tune":
        phase = replace(phase, epochs=settings.fine_tune_epochs, learning_rate=settings.fine_tune_learning_rate)
    tune = dataset.rows["tune"]
    say(f"{name}: {len(samples)} samples of {len(rows)} films, at most {phase.epochs} epochs from {start}")
    model = net.training_model(start)
    trained = net.in_mixed_precision().training_model(start) if mixed else model
    state = fit.train(
        trained, net.head, phase, samples, (arrays[0], tune, dataset.train.labels[tune]), checkpoints, job.stop
    )
    if mixed:
        model.set_weights(trained.get_weights())
    return state
