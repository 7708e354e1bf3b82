"""What a JPEG 2000 stream (ISO/IEC 15444-1) promises, read without decoding.

Every number that the decoder turns into memory or time is read first, wherever in the stream it may stand; a header
that cannot be followed to its end is no header; and a tile that is not there is noticed.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from cxr.work import Work

MAX_TILES = 2_000
"""A film of 25 megapixels in tiles of 128 px has 1,600; ten kilobytes each in the decoder."""
MAX_PIECES = 250_000
"""Half a kilobyte each in the decoder. A film of 25 megapixels in code-blocks of 16 px has 100,000, of 64 px 9,000."""
MAX_PACKETS = 4_000_000
"""Pieces times layers: a microsecond each, and some bytes."""

_START = b"\xff\x4f\xff\x51"
_COD, _COC, _COM, _SOT, _SOD, _EOC = 0xFF52, 0xFF53, 0xFF64, 0xFF90, 0xFF93, 0xFFD9
_SEGMENTS = frozenset({*range(0xFF50, 0xFF54), *range(0xFF55, 0xFF59), *range(0xFF5C, 0xFF62), 0xFF63, 0xFF64, _SOT})
"""CAP, SIZ, COD, COC; TLM, PRF, PLM, PLT; QCD, QCC, RGN, POC, PPM, PPT; CRG, COM: all that state their length."""
_MAX_PREAMBLE = 4096
"""Bytes of the boxes of a JP2 file before its codestream."""
_MAX_LEVELS = 32


class Codestream(NamedTuple):
    """width, height: px. tiles: of the grid. pieces: precincts and code-blocks of all tiles, taken as whole ones;
    layers: of quality. complete: every tile of the grid is there, with all the parts that it announces. depth: bits of
    a value.

    What exceeds MAX_TILES is not followed beyond its first header: pieces and layers are then the least possible.
    """

    width: int
    height: int
    components: int
    tiles: int
    pieces: int
    layers: int
    complete: bool
    depth: int
    essential: bytes

    @property
    def packets(self) -> int:
        return self.pieces * self.layers

    @property
    def bounded(self) -> bool:
        """Is it greyscale, and cut up so coarsely that decoding costs little beyond its pixels?"""
        cut_up = self.tiles <= MAX_TILES and self.pieces <= MAX_PIECES and self.packets <= MAX_PACKETS
        return self.components == 1 and cut_up


class _Style(NamedTuple):
    """How a tile is cut up. Powers of two: the code-blocks' sides, and the precincts' per level, the smallest first."""

    block: tuple[int, int]
    precincts: tuple[tuple[int, int], ...]


def read_codestream(data: bytes, work: Work) -> Codestream | None:
    """The promises of a codestream, bare or in a JP2 file; None if its headers cannot be followed."""
    try:
        return _read(data, _start(data), work)
    except (ValueError, IndexError, struct.error):
        return None


def _start(data: bytes) -> int:
    """Where a reader of JP2 boxes finds the codestream. A palette would multiply its components, so it is refused."""
    if data.startswith(_START):
        return 0
    at = 0
    while at < _MAX_PREAMBLE:
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"jp2c":
            start = at + (16 if length == 1 else 8)
            if data.startswith(_START, start) and b"pclr" not in data[:start]:
                return start
        if kind == b"jp2c" or length < 8:
            break
        at += length
    raise ValueError("no codestream")


def _read(data: bytes, start: int, work: Work) -> Codestream:
    numbers = struct.unpack(">8IH", data[start + 8 : start + 42])
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = numbers
    width, height = right - left, bottom - top
    depth = (data[start + 42] & 0x7F) + 1
    if min(width, height, tile_width, tile_height, right - tile_left, bottom - tile_top) < 1:
        raise ValueError("an empty image or an empty tile")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > MAX_TILES:
        return Codestream(width, height, components, tiles, tiles, 1, False, depth, b"")
    layers = 1
    styles: set[_Style] = set()
    parts: Counter[int] = Counter()
    announced: Counter[int] = Counter()
    pieces_of_stream: list[bytes] = []
    whole_parts = True
    for segment in _segments(data, start + 2, work):
        whole_parts = whole_parts and segment.end <= len(data)
        marker, body = segment.marker, segment.body
        if marker == _COD:
            layers = max(layers, int.from_bytes(body[2:4], "big"))
            styles.add(_style(body[0], body[5:]))
        elif marker == _COC:
            styles.add(_style(body[1], body[2:]))
        elif marker == _SOT:
            tile, _, _, of = struct.unpack(">HIBB", body)
            parts[tile] += 1
            announced[tile] = max(announced[tile], of)
        if not segment.stray:
            pieces_of_stream.append(data[segment.start : segment.end])
    whole = min(tile_width, width), min(tile_height, height)
    pieces = tiles * max(_pieces(*whole, style) for style in styles)
    complete = len(parts) == tiles and max(parts) < tiles and all(parts[tile] >= announced[tile] for tile in parts)
    essential = b"".join((_START[:2], *pieces_of_stream, struct.pack(">H", _EOC)))
    return Codestream(width, height, components, tiles, pieces, layers, complete and whole_parts, depth, essential)


class _Segment(NamedTuple):
    """One segment, or the data of a tile-part. body: without marker and length. start, end: in the file; an end beyond
    the file's is cut off. stray: a comment where none may be, after a tile's data.
    """

    marker: int
    body: bytes
    start: int
    end: int
    stray: bool


def _segments(data: bytes, at: int, work: Work) -> Iterator[_Segment]:
    """The main header's segments and every tile-part's with its data.

    ValueError for what states no length and for a segment that is cut off: a decoder might then find headers that were
    not seen here.
    """
    end_of_part, in_tiles = 0, False
    while at + 4 <= len(data):
        work.take_parts()
        marker, length = struct.unpack(">HH", data[at : at + 4])
        if marker == _EOC:
            return
        if marker == _SOD and end_of_part > at:
            yield _Segment(marker, b"", at, end_of_part, False)
            at, in_tiles, end_of_part = end_of_part, True, 0
            continue
        body = data[at + 4 : at + 2 + length]
        if marker not in _SEGMENTS or length < 2 or len(body) != length - 2:
            raise ValueError("an unknown or an incomplete segment")
        if marker == _SOT:
            part = int.from_bytes(body[2:6], "big")
            end_of_part = at + part if part else len(data)
        end = at + 2 + length
        yield _Segment(marker, body, at, end, marker == _COM and in_tiles and not end_of_part)
        at = end


def _style(flags: int, body: bytes) -> _Style:
    """The part that COD and COC share. Without the flag, a precinct has a side of 2**15."""
    levels = body[0]
    sides = body[5 : 6 + levels] if flags & 1 else b"\xff" * (levels + 1)
    if levels > _MAX_LEVELS or len(sides) != levels + 1:
        raise ValueError("too many levels, or precincts of other levels")
    block = (body[1] & 15) + 2, (body[2] & 15) + 2
    return _Style(block, tuple((side & 15, side >> 4) for side in sides))


def _pieces(width: int, height: int, style: _Style) -> int:
    """Precincts and code-blocks of one tile of width x height px: at each level, in one band or, above it, in three."""
    pieces = 0
    for level, precinct in enumerate(style.precincts):
        shrunk = len(style.precincts) - 1 - level
        bands = 3 if level else 1
        precincts, blocks = 1, bands
        for side, of_precinct, of_block in zip((width, height), precinct, style.block, strict=True):
            precincts *= _parts(side, shrunk + of_precinct)
            halved = 1 if level else 0
            blocks *= _parts(side, shrunk + halved + max(0, min(of_block, of_precinct - halved)))
        pieces += precincts + blocks
    return pieces


def _parts(side: int, power: int) -> int:
    return -(-side >> power)
