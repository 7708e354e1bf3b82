import io
import struct

import pytest
from PIL import Image

from cxr import jpeg2000
from cxr.film import UnreadableImage
from cxr.jpeg2000 import MAX_PACKETS, MAX_PIECES, MAX_TILES, Codestream
from cxr.work import MAX_PARTS, Work

SIZE = (300, 170)


def read_codestream(data: bytes) -> Codestream | None:
    return jpeg2000.read_codestream(data, Work())


def encoded(mode: str = "L", bare: bool = True, **options) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(SIZE).convert(mode).save(stream, "JPEG2000", no_jp2=bare, **options)
    return stream.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">HH", marker, len(body) + 2) + body


def tile_part(tile: int, of: int = 1, headers: bytes = b"", part: int = 0) -> bytes:
    data = headers + b"\xff\x93" + b"\0" * 8
    return segment(0xFF90, struct.pack(">HIBB", tile, 12 + len(data), part, of)) + data


def coding_style(layers: int = 1, block: int = 4, precinct: int | None = None, levels: int = 5) -> bytes:
    """COD; block: exponent of the side less 2; precinct: exponent of the side at all levels."""
    sides = b"" if precinct is None else bytes([precinct | precinct << 4] * (levels + 1))
    return bytes([bool(sides), 0]) + struct.pack(">HB", layers, 0) + bytes([levels, block, block, 0, 1]) + sides


def stream(
    side: int, tile: int, style: bytes, parts: bytes | None = None, components: int = 1, headers: bytes = b""
) -> bytes:
    """A codestream of side x side px in tiles of tile x tile px, whose data mean nothing."""
    size = struct.pack(">H8IH", 0, side, side, 0, 0, tile, tile, 0, 0, components) + b"\x07\x01\x01" * components
    tiles = (-(-side // tile)) ** 2
    if parts is None:
        parts = b"".join(tile_part(number) for number in range(tiles))
    return b"\xff\x4f" + segment(0xFF51, size) + segment(0xFF52, style) + headers + parts + b"\xff\xd9"


@pytest.mark.parametrize("bare", [True, False])
def test_what_an_encoder_wrote_is_bounded_and_complete(bare):
    for options in ({}, {"tile_size": (64, 64)}, {"precinct_size": (64, 64)}, {"quality_layers": [40, 20, 0]}):
        read = read_codestream(encoded(bare=bare, **options))
        assert read[:3] == (*SIZE, 1) and read.bounded and read.complete
        assert read.tiles == (15 if "tile_size" in options else 1)
        assert read.layers == (3 if "quality_layers" in options else 1)


def test_colour_is_not_bounded():
    assert not read_codestream(encoded("RGB")).bounded
    assert not read_codestream(stream(5000, 5000, coding_style(), components=80)).bounded


@pytest.mark.parametrize(("tile", "bounded"), [(112, False), (128, True), (20, False)])
def test_the_number_of_tiles_is_bounded(tile, bounded):
    read = read_codestream(stream(5000, tile, coding_style()))
    assert read.bounded == bounded == (read.tiles <= MAX_TILES)


@pytest.mark.parametrize(
    ("style", "bounded"),
    [
        ({"block": 4}, True),
        ({"block": 2}, True),
        ({"block": 0}, False),
        ({"precinct": 7}, True),
        ({"precinct": 4}, False),
        ({"precinct": 1}, False),
        ({"layers": 20, "precinct": 7}, True),
        ({"layers": 65535, "precinct": 7}, False),
    ],
    ids=str,
)
def test_pieces_and_packets_are_bounded(style, bounded):
    read = read_codestream(stream(5000, 5000, coding_style(**style)))
    assert read.bounded == bounded == (read.pieces <= MAX_PIECES and read.pieces * read.layers <= MAX_PACKETS)


def test_pieces_are_counted_as_the_standard_cuts_them():
    """64 px in code-blocks of 16: 2 levels have 1 + 3 + 12 of them, and a precinct each."""
    read = read_codestream(stream(64, 64, coding_style(block=2, levels=2)))
    assert read.pieces == 1 + 3 + 12 + 3
    assert read_codestream(stream(64, 32, coding_style(block=2, levels=2))).pieces == 4 * (1 + 3 + 3 + 3)


def test_a_coding_style_is_found_wherever_it_may_stand():
    fine = coding_style(precinct=1)
    in_tile = tile_part(0, headers=segment(0xFF52, fine))
    of_component = segment(0xFF53, bytes([0, 1]) + fine[5:])
    for hostile in (
        stream(5000, 5000, coding_style(), in_tile),
        stream(5000, 5000, coding_style(), headers=of_component),
        stream(5000, 5000, coding_style(), tile_part(0, headers=of_component)),
    ):
        assert not read_codestream(hostile).bounded


def test_a_missing_tile_is_noticed():
    def complete(*tiles):
        return read_codestream(stream(200, 100, coding_style(), b"".join(map(tile_part, tiles)))).complete

    assert complete(0, 1, 2, 3) and complete(2, 0, 3, 1)
    assert not complete(0, 1, 2) and not complete() and not complete(0, 1, 2, 4) and not complete(0, 1, 2, 2)


def test_a_missing_part_of_a_tile_is_noticed():
    first, second = (tile_part(0, of=2, part=part) for part in (0, 1))
    assert read_codestream(stream(200, 200, coding_style(), first + second)).complete
    assert not read_codestream(stream(200, 200, coding_style(), first)).complete


def test_the_last_tile_may_leave_its_length_open():
    part = bytearray(tile_part(0))
    part[6:10] = bytes(4)
    assert read_codestream(stream(200, 200, coding_style(), bytes(part))).complete


@pytest.mark.parametrize(
    "data",
    [
        stream(0, 200, coding_style()),
        stream(200, 200, coding_style(levels=33)),
        stream(200, 200, coding_style(precinct=7)[:-1]),
        stream(200, 200, b""),
        stream(200, 200, coding_style(), headers=b"\xff\x30"),
        stream(200, 200, coding_style(), headers=b"\xff\x64\0\1"),
        stream(200, 200, coding_style(), b"\xff\x93" + bytes(20)),
        b"\xff\x4f" + stream(200, 200, coding_style()),
        b"\xff" * 1000,
        b"",
    ],
    ids=[
        "no pixel",
        "33 levels",
        "cut style",
        "no style",
        "marker without length",
        "length of 1",
        "data without tile",
        "two starts",
        "no stream",
        "empty",
    ],
)
def test_headers_that_cannot_be_followed_are_none(data):
    assert read_codestream(data) is None


@pytest.mark.parametrize("bare", [True, False])
def test_a_stream_that_is_cut_off_promises_its_own_size_or_nothing(bare):
    data = encoded(bare=bare)
    for kept in range(0, 250):
        read = read_codestream(data[:kept])
        assert read is None or read[:2] == SIZE


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def test_of_a_jp2_file_the_stream_that_its_boxes_lead_to_is_read():
    file, honest = encoded(bare=False), stream(170, 170, coding_style())
    at = file.index(b"jp2h") - 4
    assert read_codestream(file[:at] + box(b"xml ", honest) + file[at:])[:2] == SIZE


def test_a_jp2_file_with_a_palette_is_refused():
    file = encoded(bare=False)
    at = file.index(b"jp2c") - 4
    assert read_codestream(file[:at] + box(b"pclr", b"\0\1\x28" + bytes(80)) + file[at:]) is None


def test_an_endless_header_is_refused():
    with pytest.raises(UnreadableImage) as refusal:
        read_codestream(stream(200, 200, coding_style(), headers=segment(0xFF64, b"x") * MAX_PARTS))
    assert refusal.value.code == "too_complex"


def test_comments_after_the_tiles_are_left_out_of_what_is_decoded():
    parts = tile_part(0) + segment(0xFF64, b"a comment") * 2
    assert read_codestream(stream(200, 200, coding_style(), parts)).essential == stream(200, 200, coding_style())


def test_a_stream_without_its_end_marker_is_closed():
    whole = stream(200, 200, coding_style())
    assert read_codestream(whole[:-2]).essential == whole and read_codestream(whole[:-2]).complete


def test_a_tile_part_that_is_longer_than_the_file_is_incomplete():
    assert not read_codestream(stream(200, 200, coding_style())[:-6]).complete


def test_boxes_around_the_stream_never_reach_the_decoder():
    read = read_codestream(encoded(bare=False))
    assert read.essential.startswith(b"\xff\x4f\xff\x51") and b"jp2h" not in read.essential and read.depth == 8
