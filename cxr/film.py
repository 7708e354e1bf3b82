"""bytes -> Film. The one reader of images, shared by training and serving, so that both see the same pixels.

The rule defended here: whatever the bytes are, the answer is a Film or UnreadableImage with a reason; never another
exception, never more than a bounded amount of memory. Sizes are checked in the header, before anything is decoded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from cxr.headers import jpeg_frame, png_size
from cxr.reasons import reason

SIDE = 224
"""Pixels a side of the model's input. The film is stretched to the square; its aspect is not kept."""
MAX_BYTES = 64 * 2**20
"""Above the 50 MB of an uncompressed 16-bit film of MAX_PIXELS."""
MAX_PIXELS = 25_000_000
"""A 43x43 cm detector at 0.1 mm has 18 megapixels."""
MIN_SIDE = 128
MAX_ASPECT = 3.0
MIN_SPAN = 16
"""Grey levels between the darkest and the brightest pixel (8-bit levels; raw levels for deeper images)."""
TAIL = 10
"""A tenth of the rows, all of exactly one grey that is neither black nor white, is no part of any film."""
MAX_SCANS = 64
"""Scans of a progressive JPEG; encoders write about 10, and each one costs a pass over all pixels."""
DRAFT_SIDE = 2 * SIDE
"""JPEG is decoded at the smallest of libjpeg's scales above this: 8 ms instead of 19, at most 2 grey levels apart."""

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN = b"\xff\xda"
_DEEP_MODES = ("I", "I;16", "I;16B")
_FILLED = (8, 247)
"""What a tail of a film itself may be lies outside: black or white."""
_LOOK_UP_ROWS = 256
_EXIF_ORIENTATION = 0x0112
_EXIF_TURNED = (5, 6, 7, 8)
_SPARSE = 4
"""Colour is measured on every fourth row and column: a mean over 3,136 pixels is enough and sixteen times cheaper."""


class UnreadableImage(Exception):
    """The bytes are no film that can be judged. `code` is one of cxr.reasons.UNREADABLE, `sentence` its text for
    people.
    """

    def __init__(self, code: str, **numbers: float) -> None:
        why = reason(code, **numbers)
        super().__init__(why.sentence)
        self.code = why.code
        self.sentence = why.sentence


@dataclass(frozen=True)
class Film:
    """One readable film.

    pixels: uint8 [224, 224], 0 = black, bone is bright. format: JPEG, PNG or DICOM. width, height: px of the upright
    original. saturation: mean share (0..1) of colour that brightness does not explain; 0 for grey images, near 0 for
    evenly tinted ones.
    """

    pixels: np.ndarray
    format: str
    width: int
    height: int
    saturation: float


def read_film(data: bytes) -> Film:
    """Reads a JPEG, PNG or DICOM image. Raises UnreadableImage, and nothing else, for bytes that are no usable film."""
    with _silence():
        return _read(data)


def _read(data: bytes) -> Film:
    if not data:
        raise UnreadableImage("empty_file")
    if len(data) > MAX_BYTES:
        raise UnreadableImage("file_too_large", bytes=len(data), limit=MAX_BYTES)
    if data.startswith(_JPEG_MAGIC):
        return _read_raster(data, "JPEG")
    if data.startswith(_PNG_MAGIC):
        return _read_raster(data, "PNG")
    if data[128:132] == b"DICM":
        from cxr.dicom import read_dicom

        return read_dicom(data)
    raise UnreadableImage("unsupported_format")


def check_size(width: int, height: int) -> None:
    """Raises UnreadableImage unless width x height (px) is plausible for a film and safe to decode."""
    if width * height > MAX_PIXELS:
        raise UnreadableImage("too_many_pixels", width=width, height=height, limit=MAX_PIXELS)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImage("bad_aspect", width=width, height=height, limit=int(MAX_ASPECT))
    if min(width, height) < MIN_SIDE:
        raise UnreadableImage("too_small", width=width, height=height, limit=MIN_SIDE)


def check_span(darkest: float, brightest: float) -> None:
    """Raises UnreadableImage for an image without contrast."""
    if brightest - darkest < MIN_SPAN:
        raise UnreadableImage("constant_image", span=int(brightest - darkest), limit=MIN_SPAN)


def check_scans(jpeg: bytes) -> None:
    """Raises UnreadableImage for a JPEG stream of too many scans."""
    if (scans := jpeg.count(_START_OF_SCAN)) > MAX_SCANS:
        raise UnreadableImage("too_complex", scans=scans, limit=MAX_SCANS)


def check_tail(decoded: np.ndarray, above: float, below: float) -> None:
    """libjpeg fills what a cut-off but properly closed file lacks with one flat grey, and calls it success. Raises
    UnreadableImage for a flat tail of a grey between the bounds, both excluded; decoded: [h, w] or [h, w, channels].
    """
    tail = decoded[-max(1, decoded.shape[0] // TAIL) :]
    first = tail[0, 0]
    if (tail == first).all() and above < float(first.mean()) < below and (decoded != first).any():
        raise UnreadableImage("damaged")


def square(grey: Image.Image) -> np.ndarray:
    """An 8-bit grey image of any size -> uint8 [224, 224], stretched with an antialiased bilinear filter."""
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.uint8)


def look_up(table: np.ndarray, indexes: np.ndarray) -> Image.Image:
    """table[indexes] (uint8 [n], unsigned [h, w]) as a grey image, a strip at a time: numpy widens indexes to 64
    bits.
    """
    looked_up = np.empty(indexes.shape, np.uint8)
    for top in range(0, indexes.shape[0], _LOOK_UP_ROWS):
        strip = slice(top, top + _LOOK_UP_ROWS)
        looked_up[strip] = table[indexes[strip]]
    return Image.fromarray(looked_up)


def _read_raster(data: bytes, kind: str) -> Film:
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
        image.draft(image.mode, (DRAFT_SIDE, DRAFT_SIDE))
        image.load()
        if kind == "JPEG":
            check_tail(np.asarray(image), *_FILLED)
        upright = ImageOps.exif_transpose(image)
        image.close()
    pixels, saturation = _to_grey(upright)
    check_span(int(pixels.min()), int(pixels.max()))
    return Film(pixels, kind, width, height, saturation)


def _to_grey(image: Image.Image) -> tuple[np.ndarray, float]:
    """Any mode that Pillow reads from JPEG or PNG -> uint8 [224, 224] and the saturation."""
    if image.mode in _DEEP_MODES:
        return square(_to_eight_bits(image)), 0.0
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        rgb = _shrink_on_black(image)
    elif image.mode in ("1", "L"):
        return square(image.convert("L")), 0.0
    else:
        colour = image if image.mode == "RGB" else image.convert("RGB")
        rgb = colour.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(rgb.convert("L"), np.uint8), _saturation(np.asarray(rgb)[::_SPARSE, ::_SPARSE])


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Rescales a deep greyscale by its own range; Pillow's convert("L") would clip everything above 255 to white."""
    deep = np.asarray(image).astype(np.uint16, copy=False)
    darkest, brightest = int(deep.min()), int(deep.max())
    check_span(darkest, brightest)
    scaled = (np.arange(brightest + 1) - darkest) * (255.0 / (brightest - darkest))
    return look_up(np.rint(scaled.clip(0)).astype(np.uint8), deep)


def _shrink_on_black(image: Image.Image) -> Image.Image:
    """Transparent parts become black: premultiplied colour is colour laid on black."""
    premultiplied = image.convert("RGBA").convert("RGBa").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
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
def _silence() -> Iterator[None]:
    """Pillow and pydicom quote tags in warnings and log lines: nobody hears them, whatever the log level.

    Warning filters belong to the process: with several threads a filter may outlive its call, which only silences more.
    """
    for name in ("PIL", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


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
