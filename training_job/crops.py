"""Random resized crops: a fresh variant of every film in every epoch, the same for the same seed, epoch and film.

A network that sees a film whole, as it is, learns the exposure and the framing of one hospital; so no un-augmented
copy is among the variants. Crops of 8 to 100 % of the area are Inception's (Szegedy et al. 2015, section 6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Crops:
    """Ranges of one variant, drawn uniformly (ratio and gamma on a logarithmic scale, symmetric about 1).

    area: least share of the film that is kept. ratio: most that width stands to height. turn: degrees. gamma: log of
    the exponent. contrast: about mid-grey. brightness: of the range. mirror: its probability.
    """

    area: float = 0.08
    ratio: float = 4 / 3
    turn: float = 10.0
    gamma: float = 0.3
    contrast: float = 0.3
    brightness: float = 0.15
    mirror: float = 0.5


def cropped(film: np.ndarray, crops: Crops, seed: tuple[int, ...]) -> np.ndarray:
    """One variant of a uint8 [s, s] film as uint8 [s, s]: a turned crop stretched to the square, then exposure.

    seed: non-negative integers that name the variant, as (seed, epoch, row).
    """
    rng = np.random.default_rng(seed)
    image = Image.fromarray(film)
    moved = image.transform(
        image.size, Image.Transform.AFFINE, _window(crops, rng, image.width), Image.Resampling.BILINEAR
    )
    return _exposure(crops, rng)[np.asarray(moved)]


def _window(crops: Crops, rng: np.random.Generator, side: int) -> tuple[float, ...]:
    """Pillow's output -> input coefficients (a, b, c, d, e, f) of a crop that lies within the film but for its turn."""
    area = rng.uniform(crops.area, 1.0)
    ratio = math.exp(_within(rng, math.log(crops.ratio)))
    width, height = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
    centre = side / 2 * (1 + np.array([_within(rng, 1 - width), _within(rng, 1 - height)]))
    angle = math.radians(_within(rng, crops.turn))
    mirrored = -width if rng.random() < crops.mirror else width
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.diag([mirrored, height])
    offset = centre - linear @ np.full(2, side / 2)
    return (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1])


def _exposure(crops: Crops, rng: np.random.Generator) -> np.ndarray:
    """The grey curve of one variant: uint8 [256]."""
    levels = np.linspace(0.0, 1.0, 256) ** math.exp(_within(rng, crops.gamma))
    levels = (levels - 0.5) * (1 + _within(rng, crops.contrast)) + 0.5 + _within(rng, crops.brightness)
    return np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)


def _within(rng: np.random.Generator, reach: float) -> float:
    return float(rng.uniform(-reach, reach))
