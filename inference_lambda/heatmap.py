"""The heat map laid over the film, as a PNG for people.

The rule defended here: the PNG is made of pixels alone; no metadata of the upload survives in it.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from cxr.film import Film

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


def overlay(film: Film, heatmap: np.ndarray) -> Image.Image:
    """RGB image in the film's own aspect. heatmap: float [h, w] >= 0, shown relative to its maximum."""
    size = _shown_size(film.width, film.height)
    grey = Image.fromarray(film.pixels).resize(size, Image.Resampling.BILINEAR)
    peak = float(heatmap.max()) if np.isfinite(heatmap).all() else 0.0
    relative = heatmap / peak if peak > 0 else np.zeros_like(heatmap)
    heat = Image.fromarray((relative.clip(0, 1) * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    colour = Image.fromarray(_COLOURS[np.asarray(heat)])
    mask = heat.point([round(level * OPACITY) for level in range(256)])
    return Image.composite(colour, grey.convert("RGB"), mask)


def overlay_png(film: Film, heatmap: np.ndarray) -> bytes:
    """overlay() as PNG bytes. The image is made of arrays, so Pillow has no metadata to copy."""
    stream = BytesIO()
    overlay(film, heatmap).save(stream, "PNG", compress_level=FAST)
    return stream.getvalue()


def _shown_size(width: int, height: int) -> tuple[int, int]:
    scale = LONG_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
