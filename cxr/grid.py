"""The heat map as it stands in a result: a square grid of at most 14 x 14 levels of 8 bits, 255 its hottest place.

It tells as much as the network knew, costs nothing to keep, and is drawn wherever it is looked at, in these colours.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
import zlib

MOST = 14
"""Cells a side."""
_ANCHORS = (0.0, 0.35, 0.65, 0.85, 1.0)
_CHANNELS = ((0, 90, 225, 255, 255), (0, 20, 60, 170, 250), (60, 140, 60, 20, 160))


class GridError(ValueError):
    """The text is no grid; the message quotes nothing of it."""


def encode(levels: bytes) -> str:
    """Base64 of a square grid's levels, row by row. Raises GridError."""
    _side(levels)
    return base64.b64encode(levels).decode()


def decode(text: str) -> bytes:
    """The levels, row by row. Raises GridError."""
    try:
        levels = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise GridError("the heat map's grid is not base64") from None
    _side(levels)
    return levels


def png(text: str) -> bytes:
    """The grid alone as a PNG of one pixel a cell, to be stretched by who shows it. Raises GridError."""
    levels = decode(text)
    side = _side(levels)
    rows = b"".join(b"\0" + levels[start : start + side] for start in range(0, len(levels), side))
    header = struct.pack(">2I5B", side, side, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", COLOURS), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _side(levels: bytes) -> int:
    side = math.isqrt(len(levels))
    if not 1 <= side <= MOST or side * side != len(levels):
        raise GridError(f"the heat map's grid has {len(levels)} cells, expected a square of 1 to {MOST} a side")
    return side


def _colour(level: int) -> bytes:
    """Red, green and blue of a level: dark blue over violet, red and orange to pale yellow, ever brighter."""
    heat = level / 255
    after = next(number for number in range(1, len(_ANCHORS)) if heat <= _ANCHORS[number])
    low, high = _ANCHORS[after - 1 : after + 1]
    share = (heat - low) / (high - low)
    return bytes(int(values[after - 1] + share * (values[after] - values[after - 1])) for values in _CHANNELS)


COLOURS = b"".join(map(_colour, range(256)))
"""Red, green and blue of each level [256 * 3]."""
