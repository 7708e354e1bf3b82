"""Tune films as other hospitals might have made them: what recipes are compared on, and what calibration is fitted on.

Plain held-out films come from the very machines that the train films came from, and no longer tell good networks
apart. The kinds of variation here are none of the training's (training_job.crops), or a recipe would be rewarded for
having seen the examination: tone curves and windows of other devices, uneven exposure, sharpening and blur, noise,
JPEG blocks, black borders. The same seed gives the same films on every machine with the same Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter, ImageOps

KINDS_A_COPY = 3
_SEED = 20261127


def stressed(film: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """One variant of a uint8 [s, s] film as uint8 [s, s]: KINDS_A_COPY of KINDS, drawn without repetition, in turn.

    seed: non-negative integers that name the variant.
    """
    rng = np.random.default_rng((_SEED, *seed))
    for kind in rng.choice(len(KINDS), KINDS_A_COPY, replace=False):
        film = KINDS[kind](film, rng)
    return film


def copies(films: np.ndarray, digests: Sequence[str], count: int) -> np.ndarray:
    """`count` variants of uint8 films [n, s, s]: uint8 [count * n, s, s], all films of one copy after the other.

    digests: hexadecimal, of the films' files; whatever other films there are, a film's variants stay the same.
    """
    return np.stack(
        [
            stressed(film, (copy, int(digest[:12], 16)))
            for copy in range(count)
            for film, digest in zip(films, digests, strict=True)
        ]
    )


def _tone(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An S-shaped curve, as detectors and their software have: steep about some grey, flat at both ends."""
    middle, steepness = rng.uniform(0.35, 0.65), rng.uniform(3.0, 7.0)
    curve = 1 / (1 + np.exp(-steepness * (np.linspace(0, 1, 256) - middle)))
    return _levels((curve - curve[0]) / (curve[-1] - curve[0]))[film]


def _window(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A display window between two of the film's own quantiles; what lies outside is black or white."""
    low, high = np.quantile(film, [rng.uniform(0.0, 0.1), rng.uniform(0.9, 1.0)])
    return _levels((np.arange(256) - low) / max(high - low, 1.0))[film]


def _equalized(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Part of the way to an even histogram, as contrast-enhancing software goes."""
    image = Image.fromarray(film)
    return np.asarray(Image.blend(image, ImageOps.equalize(image), rng.uniform(0.2, 0.6)))


def _uneven(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure that rises from one edge to the other (the heel effect, or a tilted grid)."""
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.4)
    along = np.linspace(-1, 1, len(film))
    ramp = (np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None]) / np.sqrt(2)
    return _grey(film * (1 + depth * ramp))


def _sharpness(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurred or sharpened; the radius follows the side."""
    radius = rng.uniform(0.006, 0.014) * len(film)
    image = Image.fromarray(film)
    if rng.random() < 0.5:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))
    return np.asarray(image.filter(ImageFilter.UnsharpMask(radius, int(rng.uniform(50, 150)), 0)))


def _noise(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A low dose: noise of 2 to 8 grey levels."""
    return _grey(film + rng.normal(0.0, rng.uniform(2.0, 8.0), film.shape))


def _blocks(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compressed as JPEG once more, at quality 25 to 60."""
    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, "JPEG", quality=int(rng.integers(25, 61)))
    return np.asarray(Image.open(buffer))


def _borders(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The film smaller on a black ground, off centre: a collimator's edge, or a plate that is not filled."""
    side = len(film)
    width, height = (round(float(side * part)) for part in rng.uniform(0.82, 0.98, 2))
    left, top = int(rng.integers(0, side - width + 1)), int(rng.integers(0, side - height + 1))
    ground = Image.new("L", (side, side))
    ground.paste(Image.fromarray(film).resize((width, height), Image.Resampling.BILINEAR), (left, top))
    return np.asarray(ground)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _levels(curve: np.ndarray) -> np.ndarray:
    """uint8 [256] of a curve in 0..1."""
    return _grey(np.clip(curve, 0, 1) * 255)


Kind = Callable[[np.ndarray, np.random.Generator], np.ndarray]
KINDS: tuple[Kind, ...] = (_tone, _window, _equalized, _uneven, _sharpness, _noise, _blocks, _borders)
