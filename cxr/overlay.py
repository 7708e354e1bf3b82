"""The heat map laid over the film: the one picture that function, command, report and worklist show to people.

It is made of pixels alone; no metadata of the upload survives in it.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

LONG_SIDE = 320
"""Pixels of the longer side: enough to see a 14x14 map, small enough to encode in milliseconds."""
OPACITY = 0.55
"""Of the hottest place; cold places show the film alone."""
FAST = 1
"""zlib level, for a square film: 5 ms and 96 KB; Pillow's default of 6 takes 31 ms for 84 KB."""
_ANCHORS = (0.0, 0.35, 0.65, 0.85, 1.0)
_RED = (0, 90, 225, 255, 255)
_GREEN = (0, 20, 60, 170, 250)
_BLUE = (60, 140, 60, 20, 160)


def _colours() -> np.ndarray:
    """uint8 [256, 3]: dark blue over violet, red and orange to pale yellow, brightness rising all the way."""
    heat = np.linspace(0, 1, 256)
    return np.stack([np.interp(heat, _ANCHORS, channel) for channel in (_RED, _GREEN, _BLUE)], axis=1).astype(np.uint8)


_COLOURS = _colours()


def overlay(pixels: np.ndarray, heatmap: np.ndarray, size: tuple[int, int] = (1, 1)) -> Image.Image:
    """RGB image of a film with its heat map, in the aspect of `size` (width, height of the original in px).

    pixels: uint8 [side, side]; heatmap: float [h, w] >= 0, shown relative to its maximum.
    """
    size = _shown(size)
    grey = _film(pixels, size)
    peak = float(heatmap.max()) if np.isfinite(heatmap).all() else 0.0
    relative = heatmap / peak if peak > 0 else np.zeros_like(heatmap)
    heat = Image.fromarray((relative.clip(0, 1) * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    colour = Image.fromarray(_COLOURS[np.asarray(heat)])
    mask = heat.point([round(level * OPACITY) for level in range(256)])
    return Image.composite(colour, grey, mask)


def pair(pixels: np.ndarray, heatmap: np.ndarray, size: tuple[int, int] = (1, 1)) -> Image.Image:
    """RGB image of the film alone and, to its right, overlay()."""
    laid = overlay(pixels, heatmap, size)
    both = Image.new("RGB", (2 * laid.width, laid.height))
    both.paste(_film(pixels, laid.size), (0, 0))
    both.paste(laid, (laid.width, 0))
    return both


def png(picture: Image.Image) -> bytes:
    """The picture as PNG. It is made of arrays, so Pillow has no metadata to copy."""
    stream = BytesIO()
    picture.save(stream, "PNG", compress_level=FAST)
    return stream.getvalue()


def _film(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).convert("RGB")


def _shown(size: tuple[int, int]) -> tuple[int, int]:
    scale = LONG_SIDE / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
