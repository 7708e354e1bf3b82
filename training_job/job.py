"""One training job from channels to bundle, in the only honest order.

Rule: hyperparameters before data, data before the network, tune and calibrate before the test split, which is opened
once, at the end, by the file that will serve.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr.hyperparameters import Hyperparameters
from training_job import augment, champion, files, package, validation
from training_job.console import Clock, say
from training_job.container import Container
from training_job.dataset import Dataset, read_dataset, summary
from training_job.devices import Devices
from training_job.heads import HEADS
from training_job.stop import Stop

if TYPE_CHECKING:
    from training_job.learning import Learned
    from training_job.serving import Served

WEIGHT_LABELS = {
    "imagenet": "VGG16 ImageNet (Keras)",
    "random": "random (smoke test)",
    "channel": "weights channel",
}


class Job:
    """Runs once. `run` writes the bundle into the container's model folder and returns metrics."""

    def __init__(self, container: Container, settings: Hyperparameters, stop: Stop) -> None:
        self.container, self.settings, self.stop = container, settings, stop
        self.clock = Clock()
        self.head = HEADS[settings.head]

    def run(self) -> dict[str, Any]:
        """Raises BadChannel, BadDataset, BadPatientList, BadWeights, BundleError (of the champion), NoGpu, Diverged,
        BrokenExport, Stopped; OSError of a full disk or a folder that cannot be written.
        """
        self.container.probe()
        devices = Devices.find(self.settings)
        weights = self._weights_file()
        if folder := self.container.channel("champion"):
            champion.open_champion(folder)
        with self.clock.stage("read"):
            dataset = read_dataset(self.container.dataset(), self.stop)
            say(summary(dataset))
            report = validation.validate(dataset)
            say(validation.describe(report))
            files.write(self.container.output / "data" / "dataset_report.json", package.json_text(report))
        learned, served = self._learn_and_export(dataset, weights, devices)
        from training_job.results import Results

        facts = self._weights_facts(weights, learned.network.weights_sha256)
        return Results(self, dataset, learned.network, served, learned.histories, facts).write()

    def _learn_and_export(self, dataset: Dataset, weights: Path | None, devices: Devices) -> tuple[Learned, Served]:
        """A head trained on int8 features is served in int8 or not at all: refused, it is trained again in float."""
        from training_job import serving

        reason = serving.why_not_int8(dataset, self.settings)
        rejected: dict[str, Any] = {"int8": reason} if reason else {}
        reason = reason or serving.why_no_int8_features(self.settings)
        engine = devices.feature_engine(reason)
        if self.settings.feature_engine == "int8" and reason:
            say(f"feature_engine=int8 is not followed: {reason}")
        try:
            return self._attempt(dataset, weights, devices, engine, rejected)
        except serving.Int8Refused as refused:
            say(f"{refused}; training on float32 features")
            return self._attempt(dataset, weights, devices, "keras", {"int8": refused.parity})

    def _attempt(
        self, dataset: Dataset, weights: Path | None, devices: Devices, engine: str, rejected: dict[str, Any]
    ) -> tuple[Learned, Served]:
        """Train on features by `engine` and export. Raises Int8Refused, which a restarted job remembers."""
        from training_job import learning, serving

        learned = learning.learn(self, dataset, weights, devices, engine)
        with self.clock.stage("export"):
            try:
                return learned, serving.Exporter(learned, dataset, self.settings, self.stop, rejected).choose()
            except serving.Int8Refused as refused:
                learned.checkpoints.refuse(refused.parity)
                raise

    def fingerprint(self, dataset: Dataset, weights_sha256: str, engine: str, mixed: bool) -> str:
        """What a checkpoint must share with the job that takes it up.

        Settings, films, buckets, weights, code, versions, and the arithmetic, which `auto` leaves to the hardware.
        """
        rows = {name: picked.tolist() for name, picked in dataset.rows.items()}
        arithmetic = [engine, mixed, package.versions()]
        facts = [self.settings.as_dict(), dataset.digest, rows, weights_sha256, arithmetic, package.code_version()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def augmented_copies(self, dataset: Dataset) -> Iterator[np.ndarray]:
        """uint8 [n, s, s] per copy, of the train bucket alone; only one of them is in memory at a time."""
        films = dataset.train.pixels[dataset.rows["train"]]
        for number in range(1, self.settings.augment_copies + 1):
            copy = np.empty_like(films)
            for row, film in enumerate(augment.augmented(films, self.head.augmentation, self.settings.seed, number)):
                self.stop.check()
                copy[row] = film
            yield copy

    def _weights_file(self) -> Path | None:
        """The VGG16 file, here before any film is read; None for random weights. Raises BadChannel, BadWeights."""
        if self.settings.weights == "imagenet":
            from training_job import learning

            return learning.imagenet_file()
        return self.container.weights() if self.settings.weights == "channel" else None

    def _weights_facts(self, weights: Path | None, sha256: str) -> dict[str, Any]:
        """Whose convolutions the job began with."""
        label = WEIGHT_LABELS[self.settings.weights]
        if weights and self.settings.weights == "channel":
            note = weights.parent / "LABEL.txt"
            label = note.read_text().strip() if note.is_file() else f"{label}: {weights.name}"
        return {"source": self.settings.weights, "label": label, "sha256": sha256}
