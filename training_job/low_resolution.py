"""All of VGG16 trained on small, freshly varied films before its features are frozen (progressive resizing).

Rule: a convolution knows no size, but its cost does: at half the side a film costs a quarter, so a CPU can afford to
train every block where it could not at 224 px. What is deployed still sees 224 px: the head, and the last blocks if
asked for, are trained at that size afterwards, on the features of the changed base.

Source: Howard et al., DAWNBench 2018 (training at growing sizes); Touvron et al. 2019, arXiv:1906.06423 (adapt the last
layers at the size of the test).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras
import numpy as np
from PIL import Image

from training_job import augment, features, fit, network
from training_job.checkpoint import Checkpoints, State
from training_job.console import say
from training_job.dataset import Dataset
from training_job.heads import GAP, Augmentation, Head
from training_job.hyperparameters import Hyperparameters
from training_job.stop import Stop

PHASE = "low_resolution"
# Films of the train bucket on which the temporary head is trained first, so that the convolutions are not moved by the
# gradients of a random one (Kumar et al. 2022, arXiv:2202.10054).
PROBE_FILMS, PROBE_EPOCHS, PROBE_RATE = 768, 20, 1e-3


@dataclass(frozen=True)
class FreshlyVaried:
    """Training inputs that no epoch sees twice; `order` and `take` are those of features.Samples.

    Position p of the endless sequence is film p % n of copy p // n + 1: the same film, seed and epoch give the same
    variant, in a resumed job too.
    """

    films: np.ndarray
    recipe: Augmentation
    side: int
    seed: int
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.films)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return epoch * len(self) + np.random.default_rng((seed, epoch)).permutation(len(self))

    def take(self, picks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(inputs float32 [b, side, side, 1], targets, weights) of positions of the sequence."""
        epoch, rows = np.divmod(picks, len(self))
        varied = [
            augment.vary(self.films[row], self.recipe, augment.generator(self.seed, copy, row))
            for row, copy in zip(rows, epoch + 1, strict=True)
        ]
        return shrunk(np.stack(varied), self.side).astype(np.float32), self.targets[rows], self.weights[rows]


def shrunk(films: np.ndarray, side: int) -> np.ndarray:
    """uint8 [n, s, s] -> uint8 [n, side, side, 1], each pixel the mean of those it stands for (Pillow's BOX)."""
    small = [np.asarray(Image.fromarray(film).resize((side, side), Image.Resampling.BOX)) for film in films]
    return np.stack(small)[..., None]


def train_base(
    net: network.Network, dataset: Dataset, settings: Hyperparameters, checkpoints: Checkpoints, stop: Stop
) -> State:
    """Train VGG16 under a temporary pooled head and put its convolutions into `net`; the state holds the epochs.

    A head of its own, since only a pooled one fits every side; its preprocessing and augmentation are those of
    `net.head`. Raises Stopped.
    """
    head = replace(net.head, name=GAP.name, feature=GAP.feature, loss=GAP.loss)
    side = settings.low_resolution_side
    small = network.build(head, None, settings.dense_units, settings.seed, side)
    _copy_convolutions(net, small)
    small.freeze_all_but(network.BLOCKS)
    train, tune = dataset.rows["train"], dataset.rows["tune"]
    films, labels = dataset.train.pixels[train], dataset.train.labels
    phase = fit.Phase(
        PHASE,
        settings.low_resolution_epochs,
        settings.low_resolution_learning_rate,
        settings.batch_size,
        settings.patience,
        settings.seed,
    )
    _probe(small, head, shrunk(films, side), labels[train], phase)
    samples = FreshlyVaried(
        films, head.augmentation, side, settings.seed, head.targets(labels[train]), fit.class_weights(labels[train])
    )
    say(f"{PHASE}: {len(samples)} films at {side} px, at most {phase.epochs} epochs of all blocks")
    held_out = shrunk(dataset.train.pixels[tune], side)
    state = fit.train(
        small.training_model("film"),
        head,
        phase,
        samples,
        (held_out, np.arange(len(tune)), labels[tune]),
        checkpoints,
        stop,
    )
    _copy_convolutions(small, net)
    return state


def _copy_convolutions(source: network.Network, target: network.Network) -> None:
    arrays = {layer.name: layer.get_weights() for layer in source.whole().layers if layer.name.startswith("block")}
    for layer in target.whole().layers:
        if layer.name in arrays:
            layer.set_weights(arrays[layer.name])


def _probe(small: network.Network, head: Head, films: np.ndarray, labels: np.ndarray, phase: fit.Phase) -> None:
    """Standardise the embedding and train the head alone, on films evenly spread over the folder, which lists one class
    after the other."""
    rows = np.unique(np.linspace(0, len(films) - 1, PROBE_FILMS).astype(int))
    model = keras.Model(small.film, small.points["embedding"])
    inputs = films[rows].astype(np.float32)
    embeddings = np.concatenate(
        [
            model.predict_on_batch(inputs[start : start + features.BATCH])
            for start in range(0, len(rows), features.BATCH)
        ]
    )
    small.standardize(embeddings)
    probe = replace(phase, name="probe", epochs=PROBE_EPOCHS, learning_rate=PROBE_RATE)
    tail = fit.compiled(small.training_model("embedding"), head, probe, -(-len(rows) // probe.batch_size))
    tail.fit(
        embeddings,
        head.targets(labels[rows]),
        sample_weight=fit.class_weights(labels[rows]),
        batch_size=probe.batch_size,
        epochs=probe.epochs,
        verbose=0,
    )
