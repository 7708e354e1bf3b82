"""What a PNG stream (ISO/IEC 15948) declares, and the stream without what no picture needs.

A decoder is given header, palette, transparency and the picture's data, the latter as one chunk. Texts,
profiles and private chunks never reach it, however many there are and whether their checksums are right or not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from cxr.film import UnreadableImage
from cxr.tiff import ORIENTATION, number_of
from cxr.work import Work

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY_ALPHA, RGB, RGBA = 4, 2, 6
"""Colour types."""
_CHANNELS = {0: 1, RGB: 3, 3: 1, GREY_ALPHA: 2, RGBA: 4}
_KEPT = frozenset({b"PLTE", b"tRNS"})
_KNOWN = _KEPT | {b"IHDR", b"IDAT", b"eXIf"}
_EXIF_BYTES = 1 << 16
"""As many as a JPEG has room for."""
_ANCILLARY = 0x20
"""The bit of a chunk's first letter that says: a reader may skip it."""


class Png(NamedTuple):
    """width, height: px. depth: bits of a value. colour: type. frames: of an animation. orientation: of EXIF, 1 is
    upright. clear: tRNS, b"" without. essential: the stream to decode.
    """

    width: int
    height: int
    depth: int
    colour: int
    frames: int
    orientation: int
    clear: bytes
    essential: bytes

    @property
    def channels(self) -> int:
        return _CHANNELS[self.colour]

    def as_bytes_of_rgba(self) -> bytes:
        """A picture of 16-bit grey with opacity, whose four bytes a pixel are called red, green, blue and opacity: the
        rows and their filters are the same.
        """
        at = len(MAGIC) + 8
        header = self.essential[at : at + 8] + bytes([8, RGBA]) + self.essential[at + 10 : at + 13]
        return MAGIC + chunk(b"IHDR", header) + self.essential[at + 17 :]


def read_png(data: bytes, work: Work) -> Png:
    """Raises UnreadableImage: `damaged` for a stream that cannot be followed or whose checksums differ where it
    matters, `too_complex` above cxr.work's limits.
    """
    header, kept, pixels, frames, orientation, clear = b"", list[bytes](), list[memoryview](), 1, 1, b""
    for kind, body in _chunks(data, work):
        if kind == b"IDAT":
            pixels.append(body)
        elif kind == b"IHDR":
            header = header or bytes(body)
        elif kind == b"eXIf":
            orientation = number_of(bytes(body[:_EXIF_BYTES]), ORIENTATION) or 1
        elif kind in _KEPT:
            kept.append(chunk(kind, bytes(body)))
            clear = bytes(body) if kind == b"tRNS" else clear
        elif kind == b"acTL":
            frames = int.from_bytes(body[:4], "big")
    if len(header) != 13 or not pixels:
        raise UnreadableImage("damaged")
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    if 0 in (width, height) or colour not in _CHANNELS:
        raise UnreadableImage("damaged")
    crc = zlib.crc32(b"IDAT")
    for piece in pixels:
        crc = zlib.crc32(piece, crc)
    size = sum(len(piece) for piece in pixels)
    opening = (MAGIC, chunk(b"IHDR", header), *kept, struct.pack(">I", size), b"IDAT")
    whole = b"".join((*opening, *pixels, struct.pack(">I", crc), chunk(b"IEND", b"")))
    return Png(width, height, depth, colour, max(1, frames), orientation, clear, whole)


def _chunks(data: bytes, work: Work) -> Iterator[tuple[bytes, memoryview]]:
    """(kind, body) of every chunk up to IEND, the checksums of those that matter compared. A file may lack what comes
    after its pixels.
    """
    view, at, pixels = memoryview(data), len(MAGIC), False
    while at + 8 <= len(data):
        work.take_parts()
        length, kind = struct.unpack(">I4s", view[at : at + 8])
        body, checksum = view[at + 8 : at + 8 + length], view[at + 8 + length : at + 12 + length]
        at += 12 + length
        whole = len(checksum) == 4
        if kind == b"IEND" or (pixels and not whole and kind != b"IDAT"):
            return
        matters = kind in _KNOWN or not kind[0] & _ANCILLARY
        right = not matters or zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(checksum, "big")
        if not (whole and right) or (matters and kind not in _KNOWN):
            raise UnreadableImage("damaged")
        pixels = pixels or kind == b"IDAT"
        yield kind, body


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
