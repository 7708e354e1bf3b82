"""The elements of a DICOM file (PS3.5 section 7, PS3.10 section 7), found without interpreting them.

Of the hundreds that a header holds, the wanted ones alone are kept; who the patient is stays bytes that nobody looks
at. A file that was cut off gives what was there before the cut, and says so. Every element, item and fragment is
counted (cxr.work); nests of sequences are passed over without being built.
"""

from __future__ import annotations

import zlib
from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple

from cxr.film import MAX_BYTES, UnreadableImage
from cxr.work import Work

IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
ROWS, PIXEL_DATA = 0x00280010, 0x7FE00010
SEQUENCES = frozenset({0x00283000, 0x00283010})
"""Modality LUT and VOI LUT: the ones that may be wanted, where a file does not state that they are sequences."""
_PREAMBLE = 132
_TRANSFER_SYNTAX = 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations whose length has four bytes."""
_MAX_NEST = 100


class Encoding(NamedTuple):
    """implicit: elements do not state their value representation. big: numbers are big-endian."""

    implicit: bool
    big: bool

    def number(self, data: bytes | memoryview) -> int:
        return int.from_bytes(data, "big" if self.big else "little")


class Element(NamedTuple):
    """vr: b"" where the file does not state it. items: of a sequence. fragments: of encapsulated pixels."""

    vr: bytes
    value: memoryview
    items: tuple[dict[int, Element], ...] = ()
    fragments: tuple[memoryview, ...] | None = None


@dataclass
class DataSet:
    """syntax: of the file's pixels. elements: the wanted ones, by tag. last: tag of the last element, wanted or not.
    cut_off: the file ends within an element.
    """

    syntax: str
    encoding: Encoding
    elements: dict[int, Element] = field(default_factory=dict)
    last: int = 0
    cut_off: bool = False


class _CutOff(Exception):
    """An element promises more bytes than there are."""


def read_elements(data: bytes, wanted: Container[int], work: Work) -> DataSet:
    """The elements of a part 10 file whose tags are `wanted`. Raises UnreadableImage: `dicom_damaged` for what is no
    data set, `file_too_large` for a deflated one that would exceed the limit, `too_complex` above cxr.work's limits.
    """
    meta = _Walk(memoryview(data), Encoding(False, False), {_TRANSFER_SYNTAX}, work)
    found: dict[int, Element] = {}
    try:
        at = meta.elements(_PREAMBLE, len(data), found, meta_only=True)
    except _CutOff:
        raise UnreadableImage("dicom_damaged") from None
    stated = found.get(_TRANSFER_SYNTAX)
    syntax = bytes(stated.value).decode("ascii", "replace").strip("\0 ") if stated else IMPLICIT
    body = memoryview(data)[at:]
    cut_off = False
    if syntax == DEFLATED:
        body, cut_off = _inflated(body)
    encoding = Encoding(syntax == IMPLICIT, syntax == BIG_ENDIAN)
    if not encoding.big:
        encoding = Encoding(not bytes(body[4:6]).isalpha(), False)
    dataset = DataSet(syntax, encoding, cut_off=cut_off)
    walk = _Walk(body, encoding, wanted, work)
    try:
        walk.elements(0, len(body), dataset.elements)
    except _CutOff:
        dataset.cut_off = PIXEL_DATA not in dataset.elements
    dataset.last = walk.last
    return dataset


def _inflated(body: memoryview) -> tuple[memoryview, bool]:
    """The inflated data set, and whether its stream lacks its end."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, MAX_BYTES)
    except zlib.error:
        raise UnreadableImage("dicom_damaged") from None
    if inflater.unconsumed_tail:
        raise UnreadableImage("file_too_large", bytes=len(inflated) + 1, limit=MAX_BYTES)
    return memoryview(inflated), not inflater.eof


@dataclass
class _Walk:
    """One pass over the elements of `data`."""

    data: memoryview
    encoding: Encoding
    wanted: Container[int]
    work: Work
    nest: int = 0
    last: int = 0

    def elements(self, at: int, end: int, found: dict[int, Element], meta_only: bool = False) -> int:
        """Walks from `at` to `end`, past the delimiter of an item or past the pixels: what follows those is padding.
        The first element of a tag counts. Returns where the walk ended.
        """
        while end - at >= 8:
            tag = self._tag(at)
            if meta_only and tag >> 16 != 2:
                return at
            self.work.take_parts()
            if tag in (_ITEM_END, _SEQUENCE_END):
                return at + 8
            vr, start, length = self._header(at, end)
            self.last = tag
            keep = tag in self.wanted and tag not in found
            if length == _UNDEFINED and tag == PIXEL_DATA:
                fragments, at = self._fragments(start, end)
                found.setdefault(tag, Element(vr, self.data[start:start], fragments=fragments))
            elif length == _UNDEFINED or (keep and self._is_sequence(tag, vr)):
                items, at = self._items(start, end, length, keep, vr)
                if keep:
                    found[tag] = Element(vr, self.data[start:start], items)
            else:
                at = start + length
                if at > end:
                    raise _CutOff
                if keep:
                    found[tag] = Element(vr, self.data[start:at])
            if tag == PIXEL_DATA and ROWS in found:
                return end
        if at < end and any(self.data[at:end]):
            raise _CutOff
        return end

    def _tag(self, at: int) -> int:
        return self.encoding.number(self.data[at : at + 2]) << 16 | self.encoding.number(self.data[at + 2 : at + 4])

    def _header(self, at: int, end: int) -> tuple[bytes, int, int]:
        """(value representation, where the value starts, its length) of the element at `at`."""
        vr = bytes(self.data[at + 4 : at + 6])
        if self.encoding.implicit or not (vr.isalpha() and vr.isupper()):
            return b"", at + 8, self.encoding.number(self.data[at + 4 : at + 8])
        if vr not in _LONG:
            return vr, at + 8, self.encoding.number(self.data[at + 6 : at + 8])
        if end - at < 12:
            raise _CutOff
        return vr, at + 12, self.encoding.number(self.data[at + 8 : at + 12])

    def _is_sequence(self, tag: int, vr: bytes) -> bool:
        return vr == b"SQ" or (vr in (b"", b"UN") and tag in SEQUENCES)

    def _items(
        self, at: int, end: int, length: int, keep: bool, vr: bytes
    ) -> tuple[tuple[dict[int, Element], ...], int]:
        """The items of a sequence, empty ones unless `keep`, and where it ends."""
        if self.nest == _MAX_NEST:
            raise UnreadableImage("dicom_damaged")
        bounded = length != _UNDEFINED
        if bounded and at + length > end:
            raise _CutOff
        end = at + length if bounded else end
        encoding = Encoding(True, False) if vr == b"UN" else self.encoding
        inner = _Walk(self.data, encoding, self.wanted if keep else (), self.work, self.nest + 1)
        items: list[dict[int, Element]] = []
        while end - at >= 8:
            self.work.take_parts()
            tag, size = inner._tag(at), inner.encoding.number(self.data[at + 4 : at + 8])
            at += 8
            if tag == _SEQUENCE_END:
                return tuple(items), at
            if tag != _ITEM or (size != _UNDEFINED and at + size > end):
                raise _CutOff
            found: dict[int, Element] = {}
            if size == _UNDEFINED or keep:
                at = inner.elements(at, end if size == _UNDEFINED else at + size, found)
            else:
                at += size
            if keep:
                items.append(found)
        if not bounded:
            raise _CutOff
        return tuple(items), end

    def _fragments(self, at: int, end: int) -> tuple[tuple[memoryview, ...], int]:
        """The fragments without the offset table, which some writers leave out. A file that lacks no more than the
        delimiter is whole.
        """
        fragments: list[memoryview] = []
        while end - at >= 8:
            self.work.take_parts()
            tag, size = self._tag(at), self.encoding.number(self.data[at + 4 : at + 8])
            if tag != _ITEM:
                return tuple(fragments[1:] or fragments), at + 8
            if at + 8 + size > end:
                raise _CutOff
            fragments.append(self.data[at + 8 : at + 8 + size])
            at += 8 + size
        if len(fragments) < 2:
            raise _CutOff
        return tuple(fragments[1:]), at
