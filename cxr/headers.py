"""Pixel sizes as compressed streams declare them, read without decoding.

The rule defended here: memory is promised to an image only after its own header has been believed small enough.
"""

from __future__ import annotations

import struct

_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""SOF0..SOF15 without DHT, JPG and DAC; SOF55 (0xF7) is JPEG-LS."""
_J2K_START = b"\xff\x4f\xff\x51"


def png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in px of IHDR, or None if there is none."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in px of the first frame header of a JPEG or JPEG-LS stream, or None if there is none."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_STANDALONE:
            at += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def j2k_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in px of the SIZ segment of a JPEG 2000 codestream (also inside JP2), or None."""
    at = data.find(_J2K_START, 0, 4096)
    if at < 0 or len(data) < at + 24:
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    return right - left, bottom - top
