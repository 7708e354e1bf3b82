"""The grey level of every stored value, as the header asks for it (PS3.3 C.7.6.3, C.11.1, C.11.2).

Stored value -> modality LUT or rescale -> VOI LUT or window -> turned for MONOCHROME1 -> spread over 0..255. Working on
the table of possible values instead of the pixels is exact and keeps a 25-megapixel film out of float64.
"""

from __future__ import annotations

import numpy as np

from cxr.dicom_header import (
    CENTER,
    FUNCTION,
    INTERCEPT,
    LUT_DATA,
    LUT_DESCRIPTOR,
    MODALITY_LUT,
    PADDING,
    PADDING_LIMIT,
    PHOTOMETRIC,
    SLOPE,
    VOI_LUT,
    WIDTH,
    Header,
)
from cxr.film import MIN_SPAN, UnreadableImage, check_span

_WORDS = 1 << 16


def presentation(header: Header, depth: int, signed: bool, present: np.ndarray) -> np.ndarray:
    """uint8 [2**depth]: the grey level of each stored value, spread over the values that are `present` (bool
    [2**depth]). signed: the values are two's complement.

    Raises UnreadableImage: `dicom_window` if what the header asks for leaves no contrast.
    """
    values = np.arange(1 << depth)
    if signed:
        values[values >= 1 << (depth - 1)] -= 1 << depth
    padding = _padding(header, values)
    shown = present & ~padding
    if not shown.any():
        raise UnreadableImage("dicom_no_pixels")
    check_span(int(values[shown].min()), int(values[shown].max()))
    levels = _windowed(header, _rescaled(header, values))
    if not np.isfinite(levels).all():
        raise UnreadableImage("dicom_damaged")
    darkest, brightest = levels[shown].min(), levels[shown].max()
    if brightest <= darkest:
        raise UnreadableImage("dicom_window", span=0, limit=MIN_SPAN)
    grey = np.rint((levels.clip(darkest, brightest) - darkest) * (255.0 / (brightest - darkest))).astype(np.uint8)
    if header.word(PHOTOMETRIC) == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def is_windowed(header: Header) -> bool:
    """Does the header ask for anything that could leave a film without contrast?"""
    return any(header.word(tag) for tag in (CENTER, SLOPE)) or bool(header.items(VOI_LUT) + header.items(MODALITY_LUT))


def _rescaled(header: Header, values: np.ndarray) -> np.ndarray:
    """float64: what the modality LUT or, without one, the rescale makes of stored values."""
    for item in header.items(MODALITY_LUT):
        if (table := _Table.of(item, values)) is not None:
            return table.look_up(values)
    slope, intercept = header.decimal(SLOPE), header.decimal(INTERCEPT)
    return values * (1.0 if slope is None else slope) + (0.0 if intercept is None else intercept)


def _windowed(header: Header, levels: np.ndarray) -> np.ndarray:
    """float64: what the first usable VOI LUT or, without one, the first usable window makes of modality values."""
    for item in header.items(VOI_LUT):
        if (table := _Table.of(item, levels)) is not None:
            return table.look_up(levels)
    function = header.word(FUNCTION)
    for center, width in zip(header.numbers(CENTER), header.numbers(WIDTH), strict=False):
        if center is None or width is None or width <= 0 or (width < 1 and function in ("", "LINEAR")):
            continue
        return _through_window(levels, center, width, function)
    return levels


def _through_window(levels: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3). An unknown function is taken as LINEAR, which is the default."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (levels - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return ((levels - center) / width + 0.5).clip(0, 1)
    if width == 1:
        return (levels > center - 0.5).astype(np.float64)
    return ((levels - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)


class _Table:
    """A LUT of an item (PS3.3 C.11.1.1). The first entry belongs to the input `first` and all below, the last to all
    above.
    """

    def __init__(self, entries: np.ndarray, first: int) -> None:
        self._entries, self._first = entries, first

    @classmethod
    def of(cls, item: Header, inputs: np.ndarray) -> _Table | None:
        """The item's table, None if descriptor or data are empty. Raises UnreadableImage if they contradict each other.

        8-bit entries come as bytes or one in each word, so the length of the data tells; in big-endian files their
        words are swapped like all others.
        """
        descriptor, element = item.words(LUT_DESCRIPTOR), item.elements.get(LUT_DATA)
        if element is None or not len(element.value) or len(descriptor) < 3:
            return None
        count, first = descriptor[0] or _WORDS, descriptor[1]
        data, big = bytes(element.value), item.dataset.encoding.big and element.vr != b"OB"
        if len(data) in (count, count + count % 2) and len(data) < 2 * count:
            words = np.frombuffer(data + bytes(len(data) % 2), "<u2")
            entries = (words.byteswap() if big else words).view("u1")[:count]
        elif len(data) >= 2 * count:
            entries = np.frombuffer(data, ">u2" if big else "<u2", count)
        else:
            raise UnreadableImage("dicom_damaged")
        return cls(entries.astype(np.float64), _first(first, count, inputs))

    def look_up(self, inputs: np.ndarray) -> np.ndarray:
        """float64, shaped as `inputs`."""
        return self._entries[np.rint(inputs - self._first).clip(0, len(self._entries) - 1).astype(np.int64)]


def _first(first: int, count: int, inputs: np.ndarray) -> int:
    """`first` read as unsigned or as signed 16 bits: the table of `count` entries that covers more of the inputs."""
    lowest, highest = inputs.min(), inputs.max()

    def covered(start: int) -> float:
        return min(start + count - 1, highest) - max(start, lowest)

    return max((first, first - _WORDS), key=covered) if first >= _WORDS // 2 else first


def _padding(header: Header, values: np.ndarray) -> np.ndarray:
    """bool, shaped as `values`: those that mean 'no pixel here'."""
    low = header.words(PADDING)
    if not low:
        return np.zeros(values.shape, bool)
    high = header.words(PADDING_LIMIT) or low
    bounds = [bound - _WORDS if values.min() < 0 and bound >= _WORDS // 2 else bound for bound in (low[0], high[0])]
    return (values >= min(bounds)) & (values <= max(bounds))
