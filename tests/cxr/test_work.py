"""What a file may cost is known before it is spent."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from cxr import dicom_pixels, raster
from cxr.film import UnreadableImage
from cxr.png import MAGIC, chunk
from cxr.reader import read_film
from cxr.work import MAX_PARTS, MAX_PASSES, Work
from tests.cxr.dicom_files import chest, compressed, cr, encapsulated, saved

GREY = chest()


def cost(data: bytes) -> Work:
    work = Work()
    read_film(data, work=work)
    return work


def encoded(kind: str, pixels: np.ndarray = GREY, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("take", "limit"), [("take_parts", MAX_PARTS), ("take_passes", MAX_PASSES)])
def test_the_limit_itself_may_be_taken_and_no_more(take, limit):
    work = Work()
    getattr(work, take)(limit)
    with pytest.raises(UnreadableImage, match=str(limit)) as refusal:
        getattr(work, take)(1)
    assert refusal.value.code == "too_complex"


def test_an_ordinary_film_costs_a_hundredth_of_the_limits():
    for data in (encoded("JPEG"), encoded("PNG"), saved(cr(GREY)), compressed(cr(GREY), JPEGLSLossless)):
        work = cost(data)
        assert work.parts < MAX_PARTS / 100 and work.passes < MAX_PASSES / 100


def test_every_scan_and_component_is_a_pass():
    size = GREY.size
    assert cost(encoded("JPEG")).passes == size
    assert cost(encoded("JPEG", progressive=True)).passes == 6 * size
    assert cost(encoded("JPEG", np.repeat(GREY[..., None], 3, 2))).passes == 3 * size


def test_slower_decoders_count_a_pixel_several_times():
    size = GREY.size
    assert cost(encoded("PNG")).passes == 2 * size
    assert cost(saved(cr(GREY))).passes == size
    assert cost(compressed(cr(GREY), JPEGLSLossless)).passes == 9 * size
    assert cost(compressed(cr(GREY), JPEG2000Lossless)).passes > 11 * size


@pytest.mark.parametrize("extra", [b"", bytes(1_000_000)])
def test_bytes_of_jpeg_2000_cost_more_than_pixels(extra):
    frame = encoded("JPEG2000", no_jp2=True)
    at = frame.index(b"\xff\x90\0\x0a")
    (length,) = struct.unpack(">I", frame[at + 6 : at + 10])
    longer = frame[: at + 6] + struct.pack(">I", length + len(extra)) + frame[at + 10 : -2] + extra + frame[-2:]
    work = Work()
    try:
        read_film(encapsulated(longer, JPEG2000Lossless, GREY), work=work)
    except UnreadableImage:
        assert extra
    assert work.passes == pytest.approx(11 * GREY.size + 20 * len(longer), abs=20_000)


@pytest.fixture
def no_decoder(monkeypatch):
    """Whoever decodes fails the test."""

    def spent(*_, **__):
        pytest.fail("the decoder was called")

    monkeypatch.setattr(raster, "opened", spent)
    monkeypatch.setattr(dicom_pixels, "opened", spent)
    for library, name in (("openjpeg", "decode_pixel_data"), ("jpeg_ls", "decode_buffer")):
        monkeypatch.setattr(f"{library}.{name}", spent)


def heavy_png() -> bytes:
    header = struct.pack(">IIBBBBB", 5000, 5000, 16, 2, 0, 0, 0)
    return MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def heavy_jpeg() -> bytes:
    data = encoded("JPEG", np.repeat(GREY[..., None], 3, 2), progressive=True)
    frame, scan = data.index(b"\xff\xc2"), data.rindex(b"\xff\xda")
    large = data[: frame + 5] + struct.pack(">HH", 5000, 5000) + data[frame + 9 :]
    return large[:-2] + large[scan:-2] * 20 + large[-2:]


def heavy_jpeg_2000() -> bytes:
    frame = bytearray(encoded("JPEG2000", no_jp2=True))
    for at in (8, 12, 24, 28):
        frame[at : at + 4] = struct.pack(">I", 5000)
    at = frame.index(b"\xff\x90\0\x0a")
    frame[at + 6 : at + 10] = bytes(4)
    film = bytes(frame[:-2]) + bytes(14 << 20) + b"\xff\xd9"
    return encapsulated(film, JPEG2000Lossless, GREY, Rows=5000, Columns=5000)


@pytest.mark.parametrize("make", [heavy_png, heavy_jpeg, heavy_jpeg_2000])
def test_nothing_is_decoded_whose_cost_is_above_the_limit(no_decoder, make):
    with pytest.raises(UnreadableImage) as refusal:
        read_film(make())
    assert refusal.value.code == "too_complex"


def test_work_in_data_that_no_decoder_sees_is_not_counted():
    data = encoded("JPEG")
    assert cost(data + b"\xff\xd8" * 100_000).parts == cost(data).parts
