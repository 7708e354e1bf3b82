"""The stored values of a DICOM film: what is in the file, before any of it is given a meaning.

What the header promises is capped before anything is decoded; header and compressed stream must agree about the size;
a stream is decoded by one library per transfer syntax: Pillow, GDCM, CharLS, OpenJPEG.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr.dicom_elements import DEFLATED, PIXEL_DATA, ROWS, Element
from cxr.dicom_header import ALLOCATED, COLUMNS, HIGH_BIT, REPRESENTATION, SAMPLES, STORED, Header
from cxr.film import UnreadableImage, check_size, check_tail
from cxr.jpeg import LOSSLESS, Jpeg, read_jpeg
from cxr.jpeg2000 import read_codestream
from cxr.raster import opened
from cxr.work import Work

_EXPLICIT = "1.2.840.10008.1.2.1"
_NATIVE = frozenset({"1.2.840.10008.1.2", _EXPLICIT, "1.2.840.10008.1.2.2", DEFLATED})
_ENCAPSULATED_NATIVE = _EXPLICIT + ".98"
_RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
_DEEPEST = 16
"""Bits a value that DICOM allows for CR and DX."""
_RLE_HEADER, _LONGEST_RUN = 64, 128
_J2K_PIXEL, _J2K_BYTE, _J2K_PACKET = 10, 20, 100
"""Passes (cxr.work) that decoding takes, as benchmarks.hostile measured them. JPEG 2000 codes bit by bit."""


class Layout(NamedTuple):
    """How the values lie. allocated, stored, high_bit: bits, as in the header; signed: two's complement."""

    width: int
    height: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool

    @property
    def dtype(self) -> str:
        return f"u{self.allocated // 8}"


class Stored(NamedTuple):
    """values: unsigned [h, w], below 1 << depth. signed: the highest of these bits is a sign."""

    values: np.ndarray
    depth: int
    signed: bool


def layout_of(header: Header) -> Layout:
    """Raises UnreadableImage for a layout that no greyscale film has, or a size that is not safe to decode."""
    width, height = header.count(COLUMNS), header.count(ROWS)
    if width < 1 or height < 1:
        raise UnreadableImage("dicom_no_pixels")
    check_size(width, height)
    stored = header.count(STORED)
    layout = Layout(
        width,
        height,
        header.count(ALLOCATED),
        stored,
        header.count(HIGH_BIT, stored - 1),
        header.count(REPRESENTATION) == 1,
    )
    fits = layout.allocated in (8, _DEEPEST) and 1 < stored <= layout.high_bit + 1 <= layout.allocated
    if header.count(SAMPLES, 1) != 1 or not fits:
        raise UnreadableImage("dicom_encoding")
    return layout


def is_supported(syntax: str) -> bool:
    """Is there a decoder for the transfer syntax?"""
    return syntax in _NATIVE or syntax == _ENCAPSULATED_NATIVE or syntax in _DECODERS


def stored_values(header: Header, layout: Layout, work: Work) -> Stored:
    """Decodes the pixels. Raises UnreadableImage if the stream is damaged or disagrees with the header."""
    pixels, syntax = header.elements[PIXEL_DATA], header.dataset.syntax
    work.take_passes(layout.width * layout.height)
    if pixels.fragments is None:
        return _cut_out(_native(pixels, layout, header.dataset.encoding.big, syntax in _NATIVE), layout)
    frame = pixels.fragments[0] if len(pixels.fragments) == 1 else memoryview(b"".join(pixels.fragments))
    if not frame:
        raise UnreadableImage("dicom_no_pixels")
    if syntax == _ENCAPSULATED_NATIVE:
        return _cut_out(_native(Element(b"OW", frame), layout, False, True), layout)
    if syntax not in _DECODERS:
        raise UnreadableImage("dicom_encoding")
    try:
        return _DECODERS[syntax](bytes(frame), layout, work)
    except (UnreadableImage, MemoryError):
        raise
    except Exception:
        raise UnreadableImage("dicom_damaged") from None


def _native(pixels: Element, layout: Layout, big: bool, as_stated: bool) -> np.ndarray:
    """unsigned [h, w] as allocated. Under a compressed transfer syntax (not `as_stated`) pixels that were left as they
    are must have exactly their size. In big-endian files bytes in words (OW) are swapped too.
    """
    count, got = layout.width * layout.height, len(pixels.value)
    expected = count * layout.allocated // 8
    if got < expected:
        raise UnreadableImage("dicom_damaged")
    if got >= 2 * expected or not (as_stated or got == expected + expected % 2):
        raise UnreadableImage("dicom_no_pixels")
    in_words = layout.allocated == _DEEPEST or (big and pixels.vr != b"OB")
    if layout.allocated == 8 and in_words:
        words = np.frombuffer(pixels.value, "<u2", got // 2).byteswap()
        return words.view("u1")[:count].reshape(layout.height, layout.width)
    values = np.frombuffer(pixels.value, (">" if big else "<") + layout.dtype, count)
    return values.reshape(layout.height, layout.width)


def _cut_out(words: np.ndarray, layout: Layout) -> Stored:
    """The stored bits out of the allocated ones: overlays, fillers and sign extensions around them are no pixels."""
    unsigned = words.astype(words.dtype.newbyteorder("="), copy=False)
    unsigned = unsigned.view(f"u{unsigned.dtype.itemsize}")
    shift = layout.high_bit + 1 - layout.stored
    if shift:
        unsigned = unsigned >> unsigned.dtype.type(shift)
    mask = unsigned.dtype.type((1 << min(layout.stored, 8 * unsigned.dtype.itemsize)) - 1)
    return Stored(unsigned & mask, layout.stored, layout.signed)


def _jpeg(frame: bytes, layout: Layout, work: Work) -> Stored:
    """JPEG of 8 or 12 bits, lossy or lossless. What libjpeg fills in for missing data is the middle of the range."""
    promised = _promise(frame, layout, work)
    if promised.depth == 8 and promised.process < LOSSLESS:
        decoded = np.asarray(opened(promised.essential, "JPEG"))
        if decoded.shape != (layout.height, layout.width):
            raise UnreadableImage("dicom_no_pixels")
    else:
        decoded = _gdcm(promised, layout)
    middle = 1 << (promised.depth - 1)
    check_tail(decoded, middle - 1, middle + 1)
    return _of_stream(decoded, promised.depth, layout)


def _jpeg_ls(frame: bytes, layout: Layout, work: Work) -> Stored:
    import jpeg_ls

    promised = _promise(frame, layout, work)
    decoded, _ = jpeg_ls.decode_buffer(promised.essential)
    return _of_stream(_shaped(decoded, promised.depth, layout), promised.depth, layout)


def _promise(frame: bytes, layout: Layout, work: Work) -> Jpeg:
    """What the stream declares, which must be what the header says."""
    if not frame.startswith(b"\xff\xd8"):
        raise UnreadableImage("dicom_no_pixels")
    try:
        promised = read_jpeg(frame, work)
    except UnreadableImage as refusal:
        raise UnreadableImage("dicom_damaged") if refusal.code == "damaged" else refusal from None
    if (promised.width, promised.height) != (layout.width, layout.height):
        raise UnreadableImage("dicom_no_pixels")
    if promised.components != 1 or promised.depth > layout.allocated:
        raise UnreadableImage("dicom_encoding")
    work.take_passes(promised.passes)
    return promised


def _shaped(decoded: bytes | bytearray, depth: int, layout: Layout) -> np.ndarray:
    values = np.frombuffer(decoded, "<u2" if depth > 8 else "u1")
    return values.reshape(layout.height, layout.width)


def _gdcm(promised: Jpeg, layout: Layout) -> np.ndarray:
    """unsigned [h, w]. (GDCM decodes JPEG of 12 bits if it is called directly; pydicom does not ask it to.)"""
    import gdcm

    bits = 16 if promised.depth > 8 else 8
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(promised.essential)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.width, layout.height, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    syntax = _JPEG + ("57" if promised.process == LOSSLESS else "51")
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, bits, promised.depth, promised.depth - 1, 0))
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    return _shaped(decoded, bits, layout)


def _jpeg_2000(frame: bytes, layout: Layout, work: Work) -> Stored:
    import openjpeg

    promised = read_codestream(frame, work)
    if promised is None or promised[:2] != (layout.width, layout.height):
        raise UnreadableImage("dicom_no_pixels")
    if not promised.bounded or promised.depth > layout.allocated:
        raise UnreadableImage("dicom_encoding")
    if not promised.complete:
        raise UnreadableImage("damaged")
    size = layout.width * layout.height
    work.take_passes(_J2K_PIXEL * size + _J2K_BYTE * len(promised.essential) + _J2K_PACKET * promised.packets)
    decoded = bytes(openjpeg.decode_pixel_data(promised.essential, version=2))
    return _of_stream(_shaped(decoded, promised.depth, layout), promised.depth, layout)


def _of_stream(decoded: np.ndarray, depth: int, layout: Layout) -> Stored:
    """Values of a stream of `depth` bits. In one shallower than the header says, its own highest bit is the sign."""
    values = _cut_out(decoded, layout).values
    depth = min(depth, layout.stored)
    return Stored(values & values.dtype.type((1 << depth) - 1), depth, layout.signed)


def _rle(frame: bytes, layout: Layout, work: Work) -> Stored:
    """RLE (PS3.5 annex G): one PackBits segment per byte of a value, the highest first."""
    count = int.from_bytes(frame[:4], "little")
    if count != layout.allocated // 8:
        raise UnreadableImage("dicom_encoding")
    size = layout.width * layout.height
    work.take_passes(2 * count * size)
    starts = [int.from_bytes(frame[4 * n : 4 * n + 4], "little") for n in range(1, count + 1)]
    values = np.zeros((layout.height, layout.width), layout.dtype)
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        if not _RLE_HEADER <= start < end or _unpacked(frame[start:end], size + _LONGEST_RUN) is not None:
            raise UnreadableImage("dicom_no_pixels")
        segment = _unpacked(frame[start:end], size)
        if segment is None:
            raise UnreadableImage("dicom_damaged")
        values = segment.reshape(values.shape) if count == 1 else values << 8 | segment.reshape(values.shape)
    return _cut_out(values, layout)


def _unpacked(packed: bytes, size: int) -> np.ndarray | None:
    """uint8 [size] of a PackBits stream, None if it holds fewer. Pillow takes the whole as one line of a picture."""
    try:
        return np.asarray(Image.frombytes("L", (size, 1), packed, "packbits", "L")).reshape(size)
    except ValueError:
        return None


_Decode = Callable[[bytes, Layout, Work], Stored]
_DECODERS: dict[str, _Decode] = {
    _RLE: _rle,
    **{_JPEG + kind: _jpeg for kind in ("50", "51", "53", "55", "57", "70")},
    **{_JPEG + kind: _jpeg_ls for kind in ("80", "81")},
    **{_JPEG + kind: _jpeg_2000 for kind in ("90", "91")},
}
"""Encapsulated transfer syntaxes: RLE; JPEG baseline, extended, two retired progressive ones, lossless (2); LS (2);
2000 (2).
"""
