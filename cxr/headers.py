"""What JPEG and PNG streams declare of themselves, read without decoding. (JPEG 2000: cxr.jpeg2000.)

The rule defended here: memory is promised to an image only after its own header has been believed small enough.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cxr.film import UnreadableImage

MAX_SCANS = 64
"""Scans of a progressive JPEG; encoders write about 10, and each one costs a pass over all pixels."""
_START_OF_SCAN = b"\xff\xda"

_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""SOF0..SOF15 without DHT, JPG and DAC; SOF55 (0xF7) is JPEG-LS."""


class JpegFrame(NamedTuple):
    """The frame header of a JPEG or JPEG-LS stream. width, height: px; depth: bits of a value; components: colours."""

    width: int
    height: int
    depth: int
    components: int


def png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in px of IHDR, or None if there is none."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """The first frame header of a JPEG or JPEG-LS stream, or None if there is none."""
    at = 2
    while at + 10 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_STANDALONE:
            at += 2
        elif marker in _JPEG_FRAMES:
            depth, height, width, components = struct.unpack(">BHHB", data[at + 4 : at + 10])
            return JpegFrame(width, height, depth, components)
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def check_scans(jpeg: bytes) -> None:
    """Raises UnreadableImage for a JPEG stream of too many scans."""
    if (scans := jpeg.count(_START_OF_SCAN)) > MAX_SCANS:
        raise UnreadableImage("too_complex", scans=scans, limit=MAX_SCANS)
