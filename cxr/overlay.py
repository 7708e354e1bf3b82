"""The heat map laid over the film: the one picture that function, command, report and worklist show to people.

It is made of pixels alone; no metadata of the upload survives in it.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from cxr.grid import COLOURS, MOST

LONG_SIDE = 320
"""Pixels of the longer side: enough to see a 14x14 map, small enough to encode in milliseconds."""
OPACITY = 0.55
"""Of the hottest place; cold places show the film alone."""
FAST = 1
"""zlib level, for a square film: 5 ms and 96 KB; Pillow's default of 6 takes 31 ms for 84 KB."""
_COLOURS = np.frombuffer(COLOURS, np.uint8).reshape(256, 3)


def levels(heatmap: np.ndarray) -> np.ndarray:
    """uint8 [n, n], n at most 14: a map's heat relative to its maximum, as a result keeps it (cxr.grid).

    heatmap: float [h, w] >= 0. A map that is not finite has no heat.
    """
    side = min(MOST, max(heatmap.shape))
    if heatmap.shape != (side, side):
        heatmap = np.asarray(Image.fromarray(heatmap.astype(np.float32)).resize((side, side), Image.Resampling.BOX))
    peak = float(heatmap.max()) if np.isfinite(heatmap).all() else 0.0
    relative = heatmap / peak if peak > 0 else np.zeros_like(heatmap)
    return (relative.clip(0, 1) * 255).round().astype(np.uint8)


def overlay(pixels: np.ndarray, heatmap: np.ndarray, size: tuple[int, int] = (1, 1)) -> Image.Image:
    """RGB image of a film with its heat map, in the aspect of `size` (width, height of the original in px).

    pixels: uint8 [side, side]; heatmap: float [h, w] >= 0, shown relative to its maximum.
    """
    size = _shown(size)
    grey = _film(pixels, size)
    heat = Image.fromarray(levels(heatmap)).resize(size, Image.Resampling.BICUBIC)
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
