import io

import pytest
from PIL import Image

from cxr.headers import j2k_size, jpeg_size, png_size

SIZE = (300, 170)


def encoded(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(SIZE).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 3000}, {"dpi": (300, 300)}])
def test_a_jpeg_declares_its_size(options):
    assert jpeg_size(encoded("JPEG", **options)) == SIZE


def test_fill_bytes_before_a_marker_are_skipped():
    data = encoded("JPEG")
    assert jpeg_size(data[:2] + b"\xff\xff\xff" + data[2:]) == SIZE


def test_png_and_jpeg_2000_declare_their_size():
    assert png_size(encoded("PNG")) == SIZE
    assert j2k_size(encoded("JPEG2000")) == SIZE
    assert j2k_size(encoded("JPEG2000", no_jp2=True)) == SIZE


@pytest.mark.parametrize("read", [jpeg_size, png_size, j2k_size])
def test_bytes_without_a_header_have_no_size(read):
    for kind in ("JPEG", "PNG", "JPEG2000"):
        data = encoded(kind)
        for kept in range(0, 60):
            assert read(data[:kept]) in (None, SIZE)
    assert read(b"\xff" * 1000) is None
    assert read(b"") is None
