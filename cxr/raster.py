"""JPEG and PNG files, decoded by Pillow: any colour or depth, turned upright, stretched to the model's square.

A JPEG is decoded whole. (libjpeg can decode at a fraction of the size, which would save a fifth of the time on a camera
film, but its scale does not divide every side: up to 47 grey levels off, and other pixels than a browser's.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile

from cxr.film import MIN_SPAN, Film, UnreadableImage, check_size, check_span, check_tail, look_up, square
from cxr.jpeg import read_jpeg
from cxr.png import GREY_ALPHA, RGB, RGBA, Png, read_png
from cxr.work import Work

_JPEG_DEPTH = 8
_HIERARCHICAL = 4
"""SOF0..SOF3 are what Pillow decodes, and their arithmetic-coded forms 8 above them."""
_SHALLOW, _DEEP, _DEEP_COLOUR = 2, 4, 8
"""Passes (cxr.work) that a value of a PNG takes, as benchmarks.hostile measured them: 8 bits, 16 bits, 16 in colour."""
_DEEP_MODES = ("I", "I;16", "I;16B")
_DEEP_STRIP = 256
_FILLED = (8, 247)
"""What a tail of a film itself may be lies outside: black or white."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a film of an EXIF orientation upright; 1 and all other numbers need nothing."""
_QUARTER_TURNS = frozenset({_TURNS[orientation] for orientation in (5, 6, 7, 8)})
_COLOUR_SIDE, _SPARSE = 224, 4
"""Colour is measured on every fourth row and column of this square, whatever side the model takes."""


def read_jpeg_film(data: bytes, side: int, work: Work) -> Film:
    """side: px. Raises UnreadableImage for everything that is no usable film."""
    promised = read_jpeg(data, work)
    if promised.depth != _JPEG_DEPTH or promised.process % 8 >= _HIERARCHICAL:
        raise UnreadableImage("unsupported_format")
    if 0 in (promised.width, promised.height):
        raise UnreadableImage("damaged")
    check_size(promised.width, promised.height)
    if promised.frames != 1:
        raise UnreadableImage("multi_frame")
    work.take_passes(promised.passes)
    image = opened(promised.essential, "JPEG")
    with _decoding():
        image.load()
        check_tail(np.asarray(image), *_FILLED)
    return _film(image, "JPEG", promised.orientation, side)


def read_png_film(data: bytes, side: int, work: Work) -> Film:
    """side: px. Raises UnreadableImage for everything that is no usable film."""
    promised = read_png(data, work)
    check_size(promised.width, promised.height)
    if promised.frames != 1:
        raise UnreadableImage("multi_frame")
    deep_colour = promised.depth == 16 and promised.channels > 1
    weight = _DEEP_COLOUR if deep_colour else _DEEP if promised.depth == 16 else _SHALLOW
    work.take_passes(promised.width * promised.height * promised.channels * weight)
    image: Image.Image = opened(promised.essential, "PNG")
    with _decoding():
        if deep_colour:
            image = _shallow(image, promised)
        image.load()
    return _film(image, "PNG", promised.orientation, side)


def opened(data: bytes, kind: str) -> ImageFile.ImageFile:
    """A picture whose header alone has been read.

    Its decoder will be given all data at once: fed in blocks, libjpeg would go over millions of fill bytes again with
    every block.
    """
    with _decoding():
        image = Image.open(BytesIO(data), formats=(kind,))
        image.decodermaxblock = len(data)
    check_size(*image.size)
    return image


def _film(image: Image.Image, kind: str, orientation: int, side: int) -> Film:
    """image: decoded, and closed here; orientation: of EXIF."""
    width, height = image.size
    turn = _TURNS.get(orientation)
    if turn in _QUARTER_TURNS:
        width, height = height, width
    pixels, saturation = _to_grey(image if turn is None else image.transpose(turn), side)
    image.close()
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
    """Rescales a deep greyscale by its own range; Pillow's convert("L") would clip everything above 255 to white. A
    level that is declared transparent is black.
    """
    deep = np.asarray(image).astype(np.uint16, copy=False)
    clear = image.info.get("transparency")
    seen = deep if clear is None else deep[deep != clear]
    if not seen.size:
        raise UnreadableImage("constant_image", span=0, limit=MIN_SPAN)
    darkest, brightest = int(seen.min()), int(seen.max())
    check_span(darkest, brightest)
    table = _stretched(np.arange(1 << 16), darkest, brightest)
    if clear is not None:
        table[clear] = 0
    return look_up(table, deep)


def _stretched(levels: np.ndarray, darkest: int, brightest: int) -> np.ndarray:
    """uint8, shaped as `levels`: darkest -> 0, brightest -> 255, the rest in between or clipped."""
    spread = (levels - np.float32(darkest)) * np.float32(255.0 / (brightest - darkest))
    return np.rint(spread.clip(0, 255)).astype(np.uint8)


def _shallow(image: Image.Image, promised: Png) -> Image.Image:
    """A 16-bit PNG of several channels, just opened -> 8 bits, the colours spread over their common range.

    Pillow keeps the upper byte alone, in which a 12-bit film has 16 levels. Its other byte order gives the lower one,
    so the picture is decoded twice.
    """
    alpha = promised.colour in (GREY_ALPHA, RGBA)
    if promised.colour == GREY_ALPHA:
        quarters = _released(opened(promised.as_bytes_of_rgba(), "PNG"))
        upper, lower = quarters[..., 0::2], quarters[..., 1::2]
    else:
        swapped = opened(promised.essential, "PNG")
        (tile,) = swapped.tile
        swapped.tile = [tile._replace(args=f"{swapped.mode};16L")]
        upper, lower = _released(image), _released(swapped)
    key = struct.unpack(">3H", promised.clear) if promised.colour == RGB and len(promised.clear) == 6 else None
    return _spread(upper, lower, alpha, key)


def _released(image: Image.Image) -> np.ndarray:
    """The pixels of an image that is not needed any longer."""
    pixels = np.asarray(image)
    image.close()
    return pixels


def _spread(upper: np.ndarray, lower: np.ndarray, alpha: bool, key: tuple[int, ...] | None) -> Image.Image:
    """upper, lower: bytes of 16-bit values, uint8 [h, w, channels], the last of them opacity if `alpha`; key: the
    colour that is transparent.
    """
    height, width, channels = upper.shape
    colours = channels - 1 if alpha else channels
    strips = [slice(top, top + _DEEP_STRIP) for top in range(0, height, _DEEP_STRIP)]

    def deep(strip: slice) -> tuple[np.ndarray, np.ndarray]:
        values = upper[strip, :, :colours].astype(np.uint16) << 8 | lower[strip, :, :colours]
        if alpha:
            return values, upper[strip, :, -1] | lower[strip, :, -1] > 0
        return values, np.ones(values.shape[:2], bool) if key is None else (values != key).any(axis=2)

    extremes = []
    for values, seen in map(deep, strips):
        shown = values if seen.all() else values[seen]
        if shown.size:
            extremes.append((int(shown.min()), int(shown.max())))
    if not extremes:
        raise UnreadableImage("constant_image", span=0, limit=MIN_SPAN)
    darkest, brightest = min(low for low, _ in extremes), max(high for _, high in extremes)
    check_span(darkest, brightest)
    table = _stretched(np.arange(1 << 16), darkest, brightest)
    transparent = alpha or key is not None
    shallow = np.empty((height, width, 4 if transparent else 3), np.uint8)
    for strip in strips:
        values, seen = deep(strip)
        shallow[strip, :, :3] = table[values]
        if transparent:
            shallow[strip, :, 3] = np.where(seen, upper[strip, :, -1], 0) if alpha else 255 * seen
    return Image.fromarray(shallow)


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
    try:
        yield
    except (UnreadableImage, MemoryError):
        raise
    except Exception as damage:
        raise UnreadableImage("damaged") from damage
