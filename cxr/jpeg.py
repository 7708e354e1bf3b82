"""What a JPEG or JPEG-LS stream (ITU-T T.81, T.87) declares, and the stream without what no picture needs.

A decoder is given the essential segments alone: tables, frame, scans, orientation and colour space. Comments, profiles,
fill bytes and junk between segments, of which a file can hold millions, never reach it. Markers are found as libjpeg
finds them: whatever stands before the next 0xFF is skipped.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from cxr.film import UnreadableImage
from cxr.tiff import NUMBER_OF_IMAGES, ORIENTATION, number_of
from cxr.work import Work

MAX_SCANS = 64
"""Encoders write about 10, and each one costs a pass over all pixels."""

_EOI, _SOS = 0xD9, 0xDA
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_LS_FRAME, _LS_TABLES = 0xF7, 0xF8
_FRAMES = frozenset({*range(0xC0, 0xD0), _LS_FRAME}) - {0xC4, 0xC8, 0xCC}
"""SOF0..SOF15 without DHT, JPG and DAC; SOF55 is JPEG-LS."""
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD, _LS_TABLES})
"""DHT, DAC, DQT, DRI, LSE."""
_KNOWN = _FRAMES | _TABLES | {_SOS, 0xDC, 0xFE, *range(0xE0, 0xF0)}
"""DNL, COM and APP0..APP15 are skipped unless _NOTES names them."""
_NOTES = {0xE0: b"JFIF\0", 0xEE: b"Adobe"}
"""Application segments about the colours, which a decoder needs; the first of each counts."""
_EXIF, _PICTURES = (0xE1, b"Exif\0\0"), (0xE2, b"MPF\0")
"""Application segments that say which way is up and how many pictures the file holds."""
_TABLE, _LONGEST = 64, 1 << 16
"""Bytes of one table, and of the longest segment, which may hold a thousand of them: each one is a part."""
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_AFTER_LS_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
"""In a scan 0xFF is followed by 0 (T.81), by a byte below 0x80 (T.87) or by a restart marker."""


LOSSLESS, LS, _ARITHMETIC = 3, _LS_FRAME - 0xC0, 9
"""Processes: SOF3; SOF55; from SOF9 on (but for JPEG-LS) values are coded arithmetically."""
_CAREFUL, _SLOW = 8, 12
"""Passes (cxr.work) that a value takes where libjpeg's fast way is not taken; arithmetic decoding is the slowest."""


class Jpeg(NamedTuple):
    """width, height: px. depth: bits of a value. components: colours. process: n of SOFn. scanned: the scans'
    components, added up. orientation: of EXIF, 1 is upright. frames: pictures in the file. essential: the stream to
    decode.
    """

    width: int
    height: int
    depth: int
    components: int
    process: int
    scanned: int
    orientation: int
    frames: int
    essential: bytes

    @property
    def passes(self) -> int:
        """Over the pixels, as cxr.work counts them."""
        careful = self.depth > 8 or self.process in (LOSSLESS, LS)
        weight = _CAREFUL if careful else _SLOW if self.process >= _ARITHMETIC else 1
        return self.width * self.height * self.scanned * weight


def read_jpeg(data: bytes, work: Work) -> Jpeg:
    """The stream that `data` begins with; what follows its end is ignored.

    Raises UnreadableImage: `damaged` for a stream that cannot be followed to its end marker, `too_complex` above
    MAX_SCANS or cxr.work's limits.
    """
    kept: list[bytes | memoryview] = [data[:2]]
    view, frame, scans, scanned, noted = memoryview(data), None, 0, 0, set()
    numbers: dict[int, int | None] = {}
    for marker, start, end in _segments(data, work):
        body = data[start + 4 : min(end, start + 4 + _LONGEST)]
        if marker in _FRAMES:
            if frame is not None or len(body) < 6:
                raise UnreadableImage("damaged")
            depth, height, width, components = struct.unpack(">BHHB", body[:6])
            frame = width, height, depth, components, marker - 0xC0
        elif marker == _SOS:
            scans, scanned = scans + 1, scanned + (body[0] if body else 0)
            if scans > MAX_SCANS:
                raise UnreadableImage("too_complex", count=scans, limit=MAX_SCANS)
        elif marker in _TABLES:
            work.take_parts(len(body) // _TABLE)
        else:
            for (kind, name), tag in ((_EXIF, ORIENTATION), (_PICTURES, NUMBER_OF_IMAGES)):
                if marker == kind and body.startswith(name):
                    numbers.setdefault(tag, number_of(body[len(name) :], tag))
            if marker in noted or not body.startswith(_NOTES.get(marker, b"\0none")):
                continue
        noted.add(marker)
        kept.append(view[start:end])
    if frame is None or not scans:
        raise UnreadableImage("damaged")
    return Jpeg(
        *frame,
        scanned,
        numbers.get(ORIENTATION) or 1,
        numbers.get(NUMBER_OF_IMAGES) or 1,
        b"".join([*kept, b"\xff\xd9"]),
    )


def _segments(data: bytes, work: Work) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment that has a length, a scan's with its data. UnreadableImage unless they go on
    to an end marker.
    """
    at, in_scan = 2, _AFTER_SCAN
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            raise UnreadableImage("damaged")
        work.take_parts()
        marker, start, at = data[found.end() - 1], found.start(), found.end()
        if marker == _EOI:
            return
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        at += length
        if length < 2 or at > len(data) or marker not in _KNOWN:
            raise UnreadableImage("damaged")
        if marker == _LS_FRAME:
            in_scan = _AFTER_LS_SCAN
        elif marker == _SOS:
            end = in_scan.search(data, at)
            at = end.start() if end else len(data)
        yield marker, start, at
