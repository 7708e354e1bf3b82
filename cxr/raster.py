"""JPEG and PNG files, decoded by Pillow: any colour or depth, turned upright, stretched to the model's square.

A JPEG is decoded whole. (libjpeg can decode at a fraction of the size, which would save a fifth of the time on a camera
film, but its scale does not divide every side: up to 47 grey levels off, and other pixels than a browser's.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from cxr.film import Film, UnreadableImage, check_size, check_span, check_tail, look_up, square
from cxr.headers import check_scans, jpeg_frame, png_size

_DEEP_MODES = ("I", "I;16", "I;16B")
_FILLED = (8, 247)
"""What a tail of a film itself may be lies outside: black or white."""
_EXIF_ORIENTATION = 0x0112
_EXIF_TURNED = (5, 6, 7, 8)
_COLOUR_SIDE, _SPARSE = 224, 4
"""Colour is measured on every fourth row and column of this square, whatever side the model takes."""


def read_raster(data: bytes, kind: str, side: int) -> Film:
    """kind: JPEG or PNG; side: px. Raises UnreadableImage for everything that is no usable film of that kind."""
    if kind == "JPEG":
        check_scans(data)
    declared = jpeg_frame(data) if kind == "JPEG" else png_size(data)
    if declared is None or 0 in declared[:2]:
        raise UnreadableImage("damaged")
    check_size(*declared[:2])
    with _decoding():
        image = Image.open(BytesIO(data), formats=(kind,))
        frames = getattr(image, "n_frames", 1)
    if frames != 1 or image.format != kind:
        raise UnreadableImage("multi_frame")
    check_size(*image.size)
    width, height = image.size
    with _decoding():
        if image.getexif().get(_EXIF_ORIENTATION) in _EXIF_TURNED:
            width, height = height, width
        image.load()
        if kind == "JPEG":
            check_tail(np.asarray(image), *_FILLED)
        upright = ImageOps.exif_transpose(image)
        image.close()
    pixels, saturation = _to_grey(upright, side)
    check_span(int(pixels.min()), int(pixels.max()))
    return Film(pixels, kind, width, height, saturation)


def _to_grey(image: Image.Image, side: int) -> tuple[np.ndarray, float]:
    """Any mode that Pillow reads from JPEG or PNG -> uint8 [side, side] and the saturation."""
    if image.mode in _DEEP_MODES:
        return square(_to_eight_bits(image), side), 0.0
    on_black = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if image.mode in ("1", "L") and not on_black:
        return square(image.convert("L"), side), 0.0
    shrink = _shrink_on_black if on_black else _shrink
    rgb = shrink(image, side)
    sample = rgb if side == _COLOUR_SIDE else shrink(image, _COLOUR_SIDE)
    return np.asarray(rgb.convert("L"), np.uint8), _saturation(np.asarray(sample)[::_SPARSE, ::_SPARSE])


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Rescales a deep greyscale by its own range; Pillow's convert("L") would clip everything above 255 to white."""
    deep = np.asarray(image).astype(np.uint16, copy=False)
    darkest, brightest = int(deep.min()), int(deep.max())
    check_span(darkest, brightest)
    scaled = (np.arange(brightest + 1) - darkest) * (255.0 / (brightest - darkest))
    return look_up(np.rint(scaled.clip(0)).astype(np.uint8), deep)


def _shrink(image: Image.Image, side: int) -> Image.Image:
    colour = image if image.mode == "RGB" else image.convert("RGB")
    return colour.resize((side, side), Image.Resampling.BILINEAR)


def _shrink_on_black(image: Image.Image, side: int) -> Image.Image:
    """Transparent parts become black: premultiplied colour is colour laid on black."""
    premultiplied = image.convert("RGBA").convert("RGBa").resize((side, side), Image.Resampling.BILINEAR)
    return Image.fromarray(np.ascontiguousarray(np.asarray(premultiplied)[..., :3]))


def _saturation(rgb: np.ndarray) -> float:
    """Colour left after each channel (uint8 [h, w, 3]) is explained by a straight line through the brightness.

    An evenly tinted film (sepia, blue base) is such a line and scores below 0.015; colour photographs score 0.03 to
    0.14.
    """
    colour = rgb / np.float32(255)
    brightness = colour.mean(axis=2, keepdims=True)
    brightness -= brightness.mean()
    centred = colour - colour.mean(axis=(0, 1))
    slope = (brightness * centred).mean(axis=(0, 1)) / max(float((brightness**2).mean()), 1e-9)
    return float(np.abs(centred - brightness * slope).max(axis=2).mean())


@contextmanager
def _decoding() -> Iterator[None]:
    """Whatever Pillow raises on hostile bytes becomes UnreadableImage; running out of memory stays what it is."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: half films would be judged; switch it off.")
    try:
        yield
    except (UnreadableImage, MemoryError):
        raise
    except Exception as damage:
        raise UnreadableImage("damaged") from damage
