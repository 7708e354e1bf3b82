"""What a readable film is, and the sizes and contrast that one must have. Reading is cxr.reader's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cxr.reasons import reason

MAX_BYTES = 64 * 2**20
"""Above the 50 MB of an uncompressed 16-bit film of MAX_PIXELS."""
MAX_PIXELS = 25_000_000
"""A 43x43 cm detector at 0.1 mm has 18 megapixels."""
MIN_SIDE = 128
"""Pixels a side of the original, whatever side the model takes: what is smaller is a thumbnail."""
MAX_ASPECT = 3.0
MIN_SPAN = 16
"""Grey levels between the darkest and the brightest pixel (8-bit levels; raw levels for deeper images)."""
TAIL = 10
"""A tenth of the rows, all of exactly one grey that is neither black nor white, is no part of any film."""
_LOOK_UP_ROWS = 256


class UnreadableImage(Exception):
    """The bytes are no film that can be judged. `code` is one of cxr.reasons.UNREADABLE, `sentence` its text for
    people.
    """

    def __init__(self, code: str, **numbers: float) -> None:
        why = reason(code, **numbers)
        super().__init__(why.sentence)
        self.code = why.code
        self.sentence = why.sentence


@dataclass(frozen=True)
class Film:
    """One readable film.

    pixels: uint8 [side, side], 0 = black, bone is bright. format: JPEG, PNG or DICOM. width, height: px of the upright
    original. saturation: mean share (0..1) of colour that brightness does not explain; 0 for grey images, near 0 for
    evenly tinted ones.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    saturation: float


def check_size(width: int, height: int) -> None:
    """Raises UnreadableImage unless width x height (px) is plausible for a film and safe to decode."""
    if width * height > MAX_PIXELS:
        raise UnreadableImage("too_many_pixels", width=width, height=height, limit=MAX_PIXELS)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImage("bad_aspect", width=width, height=height, limit=int(MAX_ASPECT))
    if min(width, height) < MIN_SIDE:
        raise UnreadableImage("too_small", width=width, height=height, limit=MIN_SIDE)


def check_span(darkest: float, brightest: float, code: str = "constant_image") -> None:
    """Raises UnreadableImage of this `code` for an image without contrast."""
    if brightest - darkest < MIN_SPAN:
        raise UnreadableImage(code, span=int(brightest - darkest), limit=MIN_SPAN)


def check_tail(decoded: np.ndarray, above: float, below: float) -> None:
    """libjpeg fills what a cut-off but properly closed file lacks with one flat grey, and calls it success. Raises
    UnreadableImage for a flat tail of a grey between the bounds, both excluded; decoded: [h, w] or [h, w, channels].
    """
    tail = decoded[-max(1, decoded.shape[0] // TAIL) :]
    first = tail[0, 0]
    if (tail == first).all() and above < float(first.mean()) < below and (decoded != first).any():
        raise UnreadableImage("damaged")


def square(grey: Image.Image, side: int) -> np.ndarray:
    """An 8-bit grey image of any size -> uint8 [side, side], stretched with an antialiased bilinear filter."""
    return np.asarray(grey.resize((side, side), Image.Resampling.BILINEAR), np.uint8)


def look_up(table: np.ndarray, indexes: np.ndarray) -> Image.Image:
    """table[indexes] (uint8 [n], unsigned [h, w]) as a grey image, a strip at a time: numpy widens indexes to 64
    bits.
    """
    looked_up = np.empty(indexes.shape, np.uint8)
    for top in range(0, indexes.shape[0], _LOOK_UP_ROWS):
        strip = slice(top, top + _LOOK_UP_ROWS)
        looked_up[strip] = table[indexes[strip]]
    return Image.fromarray(looked_up)
