import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cxr.film import UnreadableImage
from cxr.png import MAGIC, Png, chunk, read_png
from cxr.reader import read_film
from cxr.work import MAX_PARTS, Work
from tests.cxr.dicom_files import chest

GREY = chest()
DEEP = GREY.astype(np.uint16) * 16
"""12 bits: of the upper byte no more than 16 levels are left."""


def png(values: np.ndarray, colour: int, extra: bytes = b"", depth: int = 16) -> bytes:
    """[h, w, channels] as a PNG of 16-bit values."""
    raw = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2" if depth == 16 else "u1"))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, 0)
    return MAGIC + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw, 1)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return read_film(png(DEEP, 0)).pixels.astype(int)


def refused(data: bytes, work: Work | None = None) -> str:
    with pytest.raises(UnreadableImage) as refusal:
        read_film(data, work=work or Work())
    return refusal.value.code


def read(data: bytes) -> Png:
    return read_png(data, Work())


def test_a_png_declares_its_size_depth_and_colours():
    assert read(png(DEEP, 0))[:4] == (260, 300, 16, 0)
    assert read(png(np.repeat(DEEP[..., None], 3, 2), 2)).channels == 3


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("levels", [(16, 0), (4, 0), (16, 1000), (1, 30000), (257, 0)], ids=str)
def test_a_deep_film_is_the_same_in_any_number_of_channels(plain, colour, channels, levels):
    step, offset = levels
    values = np.repeat((GREY.astype(np.uint16) * step + offset)[..., None], channels, 2)
    if colour in (4, 6):
        values[..., -1] = 65535
    film = read_film(png(values, colour))
    assert np.abs(film.pixels - plain).max() <= 1 and film.saturation < 0.001


@pytest.mark.parametrize("colour", [4, 6])
def test_transparent_parts_of_a_deep_film_are_black(colour, plain):
    values = np.repeat(DEEP[..., None], 2 if colour == 4 else 4, 2)
    values[..., -1] = 65535
    values[:, 200:] = 60000
    values[:, 200:, -1] = 0
    pixels = read_film(png(values, colour)).pixels
    assert pixels[:, 174:].max() == 0 and np.abs(pixels[:, :170] - plain[:, :170]).max() <= 1


def test_a_clear_level_of_a_deep_film_is_black(plain):
    values = DEEP.copy()
    values[:, 200:] = 60000
    grey = png(values, 0, chunk(b"tRNS", struct.pack(">H", 60000)))
    colour = png(np.repeat(values[..., None], 3, 2), 2, chunk(b"tRNS", struct.pack(">3H", 60000, 60000, 60000)))
    for data in (grey, colour):
        pixels = read_film(data).pixels
        assert pixels[:, 174:].max() == 0 and np.abs(pixels[:, :170] - plain[:, :170]).max() <= 1


def test_colour_is_seen_at_any_depth():
    y, x = np.mgrid[0:200, 0:300]
    photo = np.stack([2047 + 2000 * np.sin(x / 17), 2047 + 2000 * np.sin(y / 13), np.full(x.shape, 999)], 2)
    assert read_film(png(photo, 2)).saturation > 0.1


def test_an_interlaced_deep_film_is_read(plain):
    passes, raw = (
        ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
        b"",
    )
    values = np.repeat(DEEP[..., None], 3, 2)
    for top, left, down, right in passes:
        raw += b"".join(b"\0" + row.astype(">u2").tobytes() for row in values[top::down, left::right])
    header = struct.pack(">IIBBBBB", 260, 300, 16, 2, 0, 0, 1)
    data = MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    assert np.abs(read_film(data).pixels - plain).max() <= 1


def test_a_deep_film_is_turned_upright(plain):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(np.repeat(DEEP[..., None], 3, 2))
    film = read_film(png(turned, 2, chunk(b"eXIf", exif.tobytes()[6:])))
    assert (film.width, film.height) == (260, 300) and np.abs(film.pixels - plain).max() <= 1


def wrong(kind: bytes, body: bytes) -> bytes:
    return chunk(kind, body)[:-4] + b"\0\0\0\0"


@pytest.mark.parametrize(
    "extra", [wrong(b"tEXt", b"a\0b"), wrong(b"gAMA", bytes(4)), wrong(b"prVt", b""), chunk(b"zTXt", b"a")]
)
def test_damage_in_what_no_picture_needs_is_overlooked(plain, extra):
    assert np.array_equal(read_film(png(DEEP, 0, extra)).pixels, plain)


@pytest.mark.parametrize(
    "extra", [wrong(b"tRNS", b"\0\1"), wrong(b"eXIf", b"MM"), chunk(b"CgBI", b"xxxx"), wrong(b"PLTE", bytes(3))]
)
def test_damage_in_what_a_picture_needs_is_not(extra):
    assert refused(png(DEEP, 0, extra)) == "damaged"


def test_a_png_may_lack_what_follows_its_pixels(plain):
    data = png(DEEP, 0)
    for lacking in range(13):
        assert np.array_equal(read_film(data[: len(data) - lacking]).pixels, plain)
    assert refused(data[:-13]) == "damaged"


def test_chunks_are_counted():
    work = Work()
    assert refused(png(DEEP, 0, chunk(b"tEXt", b"") * MAX_PARTS), work) == "too_complex"
    assert work.parts == MAX_PARTS + 1


def test_pixels_in_many_chunks_are_one_picture(plain):
    data = png(DEEP, 0)
    at = data.index(b"IDAT") - 4
    size = struct.unpack(">I", data[at : at + 4])[0]
    body = data[at + 8 : at + 8 + size]
    pieces = b"".join(chunk(b"IDAT", body[n : n + 100]) for n in range(0, size, 100))
    assert np.array_equal(read_film(data[:at] + pieces + data[at + 12 + size :]).pixels, plain)


def test_bytes_without_a_header_are_damaged():
    data = png(DEEP, 0)
    for kept in range(60):
        with pytest.raises(UnreadableImage):
            read(data[:kept])
    with pytest.raises(UnreadableImage):
        read(b"")


def test_an_animation_says_how_many_frames_it_has():
    stream = io.BytesIO()
    frames = [Image.fromarray(GREY[::-1])]
    Image.fromarray(GREY).save(stream, "PNG", save_all=True, append_images=frames)
    assert read(stream.getvalue()).frames == 2
