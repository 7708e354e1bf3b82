import io

import pytest
from PIL import Image

from cxr.headers import jpeg_frame, png_size

SIZE = (300, 170)


def encoded(kind: str, mode: str = "L", **options) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(SIZE).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 3000}, {"dpi": (300, 300)}])
def test_a_jpeg_declares_its_size(options):
    assert jpeg_frame(encoded("JPEG", **options))[:2] == SIZE


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
def test_a_jpeg_declares_its_components_and_their_depth(mode, components):
    frame = jpeg_frame(encoded("JPEG", mode))
    assert (frame.depth, frame.components) == (8, components)


def test_fill_bytes_before_a_marker_are_skipped():
    data = encoded("JPEG")
    assert jpeg_frame(data[:2] + b"\xff\xff\xff" + data[2:]) == jpeg_frame(data)


def test_a_png_declares_its_size():
    assert png_size(encoded("PNG")) == SIZE


@pytest.mark.parametrize("read", [jpeg_frame, png_size])
def test_bytes_without_a_header_have_no_size(read):
    for kind in ("JPEG", "PNG", "JPEG2000"):
        data = encoded(kind)
        for kept in range(0, 60):
            declared = read(data[:kept])
            assert declared is None or declared[:2] == SIZE
    assert read(b"\xff" * 1000) is None
    assert read(b"") is None
