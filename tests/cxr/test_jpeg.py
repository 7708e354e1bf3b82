import io
import struct

import numpy as np
import pytest
from PIL import Image

from cxr.film import UnreadableImage
from cxr.jpeg import MAX_SCANS, Jpeg, read_jpeg
from cxr.reader import read_film
from cxr.work import MAX_PARTS, MAX_PASSES, Work

SIZE = (300, 170)


def encoded(mode: str = "L", size: tuple[int, int] = SIZE, **options) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def read(data: bytes) -> Jpeg:
    return read_jpeg(data, Work())


def refused(data: bytes, work: Work | None = None) -> str:
    with pytest.raises(UnreadableImage) as refusal:
        read_film(data, work=work or Work())
    return refusal.value.code


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 3000}, {"dpi": (300, 300)}])
def test_a_jpeg_declares_its_size(options):
    assert read(encoded(**options))[:2] == SIZE


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
def test_a_jpeg_declares_its_components_and_their_depth(mode, components):
    promised = read(encoded(mode))
    assert (promised.depth, promised.components) == (8, components)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_what_is_left_out_changes_no_pixel(mode, options):
    data = encoded(mode, **options, comment=b"x" * 3000, icc_profile=b"p" * 200_000)
    essential = read(data).essential
    assert len(essential) < len(data) - 200_000
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(stream))) for stream in (data, essential)))


def test_passes_are_the_pixels_of_all_components_of_all_scans():
    size = SIZE[0] * SIZE[1]
    assert read(encoded()).passes == size and read(encoded("RGB")).passes == 3 * size
    assert read(encoded(progressive=True)).passes == 6 * size
    assert read(encoded("RGB", progressive=True)).passes == 14 * size


@pytest.mark.parametrize(
    ("frame", "depth", "weight"), [(0xC1, 8, 1), (0xC1, 12, 8), (0xC3, 8, 8), (0xC9, 8, 12), (0xF7, 8, 8)]
)
def test_slow_processes_count_a_pixel_several_times(frame, depth, weight):
    data = encoded()
    at = data.index(b"\xff\xc0")
    changed = data[: at + 1] + bytes([frame]) + data[at + 2 : at + 4] + bytes([depth]) + data[at + 5 :]
    assert read(changed).passes == weight * SIZE[0] * SIZE[1]


JUNK = {
    "nulls": bytes(3),
    "fill bytes": b"\xff" * 9,
    "restart markers": b"\xff\xd3" * 9,
    "text": b"abc",
    "stuffing": b"\xff\0" * 9,
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
@pytest.mark.parametrize("before", [b"\xff\xe0", b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\xff\xd9"])
def test_junk_before_a_marker_is_skipped(junk, before):
    data = encoded()
    at = data.rindex(before)
    film = read_film(data[:at] + junk + data[at:])
    assert np.array_equal(film.pixels, read_film(data).pixels)


@pytest.mark.parametrize(
    "added", [b"\0" * 9_000_000, b"\xff" * 9_000_000, encoded(), b"<?php ?>"], ids=["nulls", "fill", "jpeg", "text"]
)
def test_what_follows_the_end_is_no_part_of_the_picture(added):
    assert np.array_equal(read_film(encoded() + added).pixels, read_film(encoded()).pixels)


def test_a_jpeg_without_its_end_marker_is_cut_off():
    for options in ({}, {"progressive": True}):
        assert refused(encoded(**options)[:-2]) == "damaged"


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (segment(0xFE, b"") * MAX_PARTS, "too_complex"),
        (segment(0xE5, b"x") * MAX_PARTS, "too_complex"),
        (b"\xff\xd0" * MAX_PARTS, "too_complex"),
        (segment(0xDB, bytes(65 * 1000)) * (MAX_PARTS // 1000), "too_complex"),
        (segment(0xC4, bytes(65 * 1000)) * (MAX_PARTS // 1000), "too_complex"),
        (b"\xff\x02\0\2", "damaged"),
        (b"\xff\xfe\0\1", "damaged"),
        (b"\xff\xfe\xff\xff", "damaged"),
    ],
    ids=[
        "comments",
        "application data",
        "restart markers",
        "quantisers",
        "codes",
        "reserved",
        "length of 1",
        "too long",
    ],
)
@pytest.mark.parametrize("place", ["start", "scan", "end"])
def test_segments_are_counted_and_must_be_whole(extra, code, place):
    data = encoded()
    at = {"start": 2, "scan": data.index(b"\xff\xda"), "end": len(data) - 2}[place]
    if place == "end" and extra.startswith(b"\xff\xd0"):
        pytest.skip("restart markers after a scan belong to its data, which costs nothing here")
    assert refused(data[:at] + extra + data[at:]) == code


def test_scans_are_counted():
    data = encoded()
    scan = data[data.index(b"\xff\xda") : -2]
    assert refused(data[:-2] + scan * MAX_SCANS + data[-2:]) == "too_complex"


def test_passes_over_pixels_are_counted_before_they_are_spent():
    data = encoded("RGB", (4000, 4000), progressive=True)
    at, scans = data.rindex(b"\xff\xda"), 12
    work = Work()
    assert refused(data[:-2] + data[at:-2] * scans * 2 + data[-2:], work) == "too_complex"
    assert work.passes > MAX_PASSES


@pytest.mark.parametrize("change", ["frame twice", "no frame", "no scan", "scan first", "12 bits", "hierarchical"])
def test_a_stream_of_another_order_or_process_is_refused(change):
    data = encoded()
    frame_at, scan_at = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    frame = data[frame_at : frame_at + 13]
    spoilt = {
        "frame twice": data[:frame_at] + frame + data[frame_at:],
        "no frame": data[:frame_at] + data[frame_at + 13 :],
        "no scan": data[:scan_at] + data[-2:],
        "scan first": data[:frame_at] + data[scan_at:-2] + frame + data[-2:],
        "12 bits": data[: frame_at + 4] + b"\x0c" + data[frame_at + 5 :],
        "hierarchical": data[: frame_at + 1] + b"\xc5" + data[frame_at + 2 :],
    }[change]
    assert refused(spoilt) == ("unsupported_format" if change in ("12 bits", "hierarchical") else "damaged")


def test_bytes_without_a_header_are_damaged():
    data = encoded()
    for kept in range(60):
        with pytest.raises(UnreadableImage):
            read(data[:kept])
    for nothing in (b"", b"\xff" * 1000, b"\xff\xd8" + bytes(1000)):
        with pytest.raises(UnreadableImage):
            read(nothing)


def test_a_jpeg_says_which_way_is_up_and_how_many_pictures_it_holds():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert (read(encoded()).orientation, read(encoded()).frames) == (1, 1)
    assert read(encoded(exif=exif)).orientation == 6
    stream, picture = io.BytesIO(), Image.linear_gradient("L")
    picture.save(stream, "MPO", save_all=True, append_images=[picture])
    assert read(stream.getvalue()).frames == 2
    assert b"Exif" not in read(encoded(exif=exif)).essential
