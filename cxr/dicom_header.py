"""The attributes of a DICOM header that say what a film shows and how its pixels are meant, as numbers and words.

An attribute that is there but empty is absent, as the standard's optional attributes may be written either way.
"""

from __future__ import annotations

import math

from cxr.dicom_elements import PIXEL_DATA, ROWS, DataSet, Element
from cxr.film import UnreadableImage

MODALITY, INTENT, BODY_PART, BURNED_IN = 0x00080060, 0x00080068, 0x00180015, 0x00280301
SAMPLES, PHOTOMETRIC, FRAMES, COLUMNS = 0x00280002, 0x00280004, 0x00280008, 0x00280011
ALLOCATED, STORED, HIGH_BIT, REPRESENTATION = 0x00280100, 0x00280101, 0x00280102, 0x00280103
PADDING, PADDING_LIMIT = 0x00280120, 0x00280121
CENTER, WIDTH, INTERCEPT, SLOPE, FUNCTION = 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056
MODALITY_LUT, LUT_DESCRIPTOR, LUT_DATA, VOI_LUT = 0x00283000, 0x00283002, 0x00283006, 0x00283010
LUT_SHAPE = 0x20500020
WANTED = frozenset(
    {MODALITY, INTENT, BODY_PART, BURNED_IN, SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, ALLOCATED, STORED, HIGH_BIT}
    | {REPRESENTATION, PADDING, PADDING_LIMIT, CENTER, WIDTH, INTERCEPT, SLOPE, FUNCTION}
    | {MODALITY_LUT, LUT_DESCRIPTOR, LUT_DATA, VOI_LUT, LUT_SHAPE, PIXEL_DATA}
)
"""All that is ever looked at."""


class Header:
    """The attributes of one data set or of one item, by tag."""

    def __init__(self, dataset: DataSet, elements: dict[int, Element] | None = None) -> None:
        self.dataset = dataset
        self.elements = dataset.elements if elements is None else elements

    def word(self, tag: int) -> str:
        """Text in upper case, "" if absent."""
        element = self.elements.get(tag)
        return "" if element is None else bytes(element.value).decode("latin-1").strip("\0 ").upper()

    def numbers(self, tag: int) -> list[float | None]:
        """The values of a decimal or integer string, None for an empty one. UnreadableImage if one is no number."""
        return [_decimal(text) for text in self.word(tag).split("\\")]

    def decimal(self, tag: int) -> float | None:
        """The first value of a decimal or integer string, None if absent."""
        return self.numbers(tag)[0]

    def count(self, tag: int, absent: int = 0) -> int:
        """An unsigned 16-bit number."""
        words = self.words(tag)
        return words[0] if words else absent

    def words(self, tag: int) -> list[int]:
        """Unsigned 16-bit numbers."""
        element = self.elements.get(tag)
        value = b"" if element is None else bytes(element.value)
        return [self.dataset.encoding.number(value[at : at + 2]) for at in range(0, len(value) - 1, 2)]

    def items(self, tag: int) -> list[Header]:
        """The items of a sequence that are not empty."""
        element = self.elements.get(tag)
        return [Header(self.dataset, item) for item in (element.items if element else ()) if item]


def _decimal(text: str) -> float | None:
    text = text.strip("\0 ")
    try:
        number = float(text) if text else None
    except ValueError:
        raise UnreadableImage("dicom_damaged") from None
    if number is not None and not math.isfinite(number):
        raise UnreadableImage("dicom_damaged")
    return number
