"""The heads: what each does to a grey film before VGG16, what it minimises, how it augments.

A head's preprocessing, loss and augmentation belong together; none is mixed with another head's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# ImageNet means in BGR order (Keras' "caffe" preprocessing). The film's three channels are equal, so BGR costs no flip.
BGR_MEANS = (103.939, 116.779, 123.68)
# Where fine-tuning of the last N blocks of VGG16 begins: right before block 5 - N + 1.
START_OF_FINE_TUNING = {1: "block4_pool", 2: "block3_pool", 3: "film", 4: "film", 5: "film"}


@dataclass(frozen=True)
class Augmentation:
    """Ranges of one random copy; fractions of the side, degrees, factors. Drawn uniformly, symmetric about identity."""

    rotate_degrees: float = 0.0
    shift: float = 0.0
    shear_degrees: float = 0.0
    zoom: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Head:
    """A head and what belongs to it.

    scale, offset: the preprocessing of a 0..255 film, offset per channel. feature: the VGG16 point that the head reads.
    loss: Keras' name. map_type: what its cached feature maps are kept in (see features.Trunk).
    """

    name: str
    scale: float
    offset: tuple[float, float, float]
    feature: str
    loss: str
    augmentation: Augmentation
    map_type: str

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Labels 0/1 [n] as the loss wants them: [n, 1] float32, or one-hot [n, 2]."""
        if self.loss == "binary_crossentropy":
            return labels.astype(np.float32)[:, None]
        return np.eye(2, dtype=np.float32)[labels]

    def probability(self, outputs: np.ndarray) -> np.ndarray:
        """P(PNEUMONIA) [n] from the training model's outputs."""
        return np.asarray(outputs, np.float64)[:, -1]


# A chest film has a side and an upright: shifts, turns and changes of exposure, as between two hospitals, but no mirror
# image. Tune films varied a little more than this took a frozen network from AUROC 0.995 to 0.936: it has to learn it.
GAP = Head(
    name="gap",
    scale=1.0,
    offset=tuple(-mean for mean in BGR_MEANS),  # type: ignore[arg-type]
    feature="embedding",
    loss="binary_crossentropy",
    augmentation=Augmentation(rotate_degrees=10, shift=0.07, zoom=0.15, contrast=0.35, brightness=0.12, gamma=0.4),
    map_type="float16",
)
# The source system's recipe: rescale to [0, 1], shear 0.2 (degrees, as Keras' generator counted it), zoom 0.2, mirror.
FLATTEN = Head(
    name="flatten",
    scale=1 / 255.0,
    offset=(0.0, 0.0, 0.0),
    feature="block5_pool",
    loss="categorical_crossentropy",
    augmentation=Augmentation(shear_degrees=0.2, zoom=0.2, flip=True),
    # In [0, 1] films move VGG16's features by a thousandth of their size: float16 would keep one bit of that.
    map_type="float32",
)
# All of VGG16 is trained: each film is standardised (kind_head), and varied anew in every epoch (crops).
END_TO_END = Head(
    name="end_to_end",
    scale=1.0,
    offset=(0.0, 0.0, 0.0),
    feature="film",
    loss="categorical_crossentropy",
    augmentation=Augmentation(),
    map_type="float32",
)
HEADS = {head.name: head for head in (GAP, FLATTEN, END_TO_END)}
