"""Random copies of films for training, the same for the same seed on every machine.

Augmentation happens once, before the features are computed, on the very uint8 pixels that the reader gives; a
held-out film is never augmented.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from training_job.heads import Augmentation


def augmented(pixels: np.ndarray, recipe: Augmentation, seed: int, copy: int) -> Iterator[np.ndarray]:
    """One random variant of each film of uint8 [n, s, s], in order. `copy` numbers the pass: 1, 2, ..."""
    for row, film in enumerate(pixels):
        yield vary(film, recipe, np.random.default_rng((seed, copy, row)))


def vary(film: np.ndarray, recipe: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """One random variant of a uint8 [s, s] film: an affine map (bilinear, edges filled with black), then exposure."""
    image = Image.fromarray(film)
    matrix = _affine(recipe, rng, image.width)
    image = image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)
    if not (recipe.contrast or recipe.brightness or recipe.gamma):
        return np.asarray(image)
    levels = np.linspace(0.0, 1.0, 256)
    levels = levels ** math.exp(_draw(rng, recipe.gamma))
    levels = (levels - 0.5) * (1 + _draw(rng, recipe.contrast)) + 0.5 + _draw(rng, recipe.brightness)
    table = np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)
    return table[np.asarray(image)]


def _draw(rng: np.random.Generator, reach: float) -> float:
    return float(rng.uniform(-reach, reach)) if reach else 0.0


def _affine(recipe: Augmentation, rng: np.random.Generator, side: int) -> tuple[float, ...]:
    """Pillow's output->input coefficients (a, b, c, d, e, f) of a draw from the recipe, about the film's centre."""
    angle = math.radians(_draw(rng, recipe.rotate_degrees))
    shear = math.tan(math.radians(_draw(rng, recipe.shear_degrees)))
    zoom_x, zoom_y = 1 + _draw(rng, recipe.zoom), 1 + _draw(rng, recipe.zoom)
    mirror = -1.0 if recipe.flip and rng.random() < 0.5 else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag([mirror * zoom_x, zoom_y])
    centre = np.full(2, side / 2)
    shift = np.array([_draw(rng, recipe.shift), _draw(rng, recipe.shift)]) * side
    offset = centre - linear @ centre + shift
    return (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1])
