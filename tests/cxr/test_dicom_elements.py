"""Elements are found whatever stands before and between them, at a bounded cost."""

import struct
import zlib

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cxr.film import UnreadableImage
from cxr.reader import read_film
from cxr.work import MAX_PARTS, Work
from tests.cxr.dicom_files import chest, cr, saved

GREY = chest()
FILM = saved(cr(GREY))
BEFORE_MODALITY = FILM.index(struct.pack("<HH2s", 0x0008, 0x0060, b"CS"))
BEFORE_PIXELS = FILM.index(struct.pack("<HH", 0x7FE0, 0x0010))


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return read_film(FILM).pixels


def with_extra(extra: bytes, at: int = BEFORE_MODALITY) -> bytes:
    return FILM[:at] + extra + FILM[at:]


def refused(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as refusal:
        read_film(data)
    return refusal.value.code


def element(group: int, number: int, vr: bytes, body: bytes, undefined: bool = False) -> bytes:
    length = 0xFFFFFFFF if undefined else len(body)
    return struct.pack("<HH2sHI", group, number, vr, 0, length) + body


def item(body: bytes, undefined: bool = False) -> bytes:
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) if undefined else b""
    return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF if undefined else len(body)) + body + end


END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
WORD = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
"""A modality inside a sequence, which is not the film's."""
IMPLICIT_WORD = struct.pack("<HHI", 0x0008, 0x0060, 2) + b"CT"
ICON = element(0x7FE0, 0x0010, b"OB", item(b"") + item(b"icon") + END, undefined=True)
EXTRAS = {
    "sequence": element(0x0008, 0x0051, b"SQ", item(WORD)),
    "open sequence": element(0x0008, 0x0051, b"SQ", item(WORD) + END, undefined=True),
    "open item": element(0x0008, 0x0051, b"SQ", item(WORD, undefined=True) + END, undefined=True),
    "open item in a closed sequence": element(0x0008, 0x0051, b"SQ", item(WORD, undefined=True)),
    "nest": element(
        0x0008, 0x0051, b"SQ", item(element(8, 0x52, b"SQ", item(WORD, True) + END, True), True) + END, True
    ),
    "unknown, open: implicit inside": element(0x0009, 0x1001, b"UN", item(IMPLICIT_WORD, True) + END, undefined=True),
    "icon with compressed pixels": element(0x0008, 0x0051, b"SQ", item(ICON, True) + END, undefined=True),
    "nothing in it": element(0x0008, 0x0051, b"SQ", END, undefined=True),
    "private": struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", 6) + b"VENDOR",
    "representation that no standard knows": struct.pack("<HH2sI", 0x0009, 0x1002, b"\0\0", 0)[:8] + b"",
}


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_what_is_not_wanted_is_passed_over(plain, extra):
    assert np.array_equal(read_film(with_extra(extra)).pixels, plain)


@pytest.mark.parametrize("junk", [b"\0" * 1000, b"\xff" * 1000, WORD * 3, bytes(1)])
def test_what_follows_the_pixels_is_padding(plain, junk):
    assert np.array_equal(read_film(FILM + junk).pixels, plain)


def test_the_first_of_two_elements_counts(plain):
    assert np.array_equal(read_film(with_extra(WORD, BEFORE_PIXELS)).pixels, plain)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_wrong_or_a_missing_transfer_syntax_of_plain_pixels_is_seen_through(plain, syntax):
    other = ExplicitVRLittleEndian if syntax == ImplicitVRLittleEndian else ImplicitVRLittleEndian
    data = saved(cr(GREY, syntax))
    said = syntax.encode() + b"\0" * (len(syntax) % 2)
    swapped = other.encode() + b"\0" * (len(other) % 2)
    start = data.index(struct.pack("<HH2sH", 2, 0x10, b"UI", len(said)))
    stated = data[start : start + 8 + len(said)]
    wrong = struct.pack("<HH2sH", 2, 0x10, b"UI", len(swapped)) + swapped
    assert np.array_equal(read_film(data.replace(stated, wrong)).pixels, plain)
    assert np.array_equal(read_film(data.replace(stated, b"")).pixels, plain)


def deflated(inflated: bytes, squeeze: int = 9) -> bytes:
    whole = saved(cr(GREY, DeflatedExplicitVRLittleEndian))
    head = whole[: whole.index(b"1.2.840.10008.1.2.1.99") + 22]
    rest = whole[len(head) :]
    meta_end = len(head)
    while rest[:2] == b"\x02\x00":
        size = 8 + struct.unpack("<H", rest[6:8])[0]
        rest, meta_end = rest[size:], meta_end + size
    squeezer = zlib.compressobj(squeeze, zlib.DEFLATED, -15)
    return whole[:meta_end] + squeezer.compress(inflated) + squeezer.flush()


def test_a_deflated_film_that_was_cut_off_is_damaged(plain):
    body = FILM[FILM.index(struct.pack("<HH", 0x0008, 0x0016)) :]
    data = deflated(body)
    assert np.array_equal(read_film(data).pixels, plain)
    for kept in (len(data) // 2, len(data) - 300):
        assert refused(data[:kept]) in ("dicom_damaged", "dicom_no_pixels")


def test_a_directory_is_called_what_it_is():
    assert (
        refused(FILM[:BEFORE_MODALITY][:132] + meta() + struct.pack("<HH2sH", 4, 0x1130, b"CS", 0)) == "dicom_no_pixels"
    )


def meta() -> bytes:
    return FILM[132 : FILM.index(struct.pack("<HH", 0x0008, 0x0016))]


@pytest.mark.parametrize(
    "extra",
    [
        struct.pack("<HH2sH", 0x0009, 0x0000, b"LO", 0),
        item(b""),
        element(0x0009, 0x0001, b"SQ", b""),
    ],
    ids=["elements", "items", "sequences"],
)
def test_a_header_of_more_parts_than_the_limit_is_refused(extra):
    if extra == item(b""):
        extra = element(0x0008, 0x0051, b"SQ", extra * MAX_PARTS + END, undefined=True)
    else:
        extra *= MAX_PARTS
    work = Work()
    with pytest.raises(UnreadableImage) as refusal:
        read_film(with_extra(extra), work=work)
    assert refusal.value.code == "too_complex" and work.parts == MAX_PARTS + 1


def test_the_items_of_a_lut_are_counted_too():
    dataset = cr(GREY)
    dataset.VOILUTSequence = [Dataset() for _ in range(10)]
    work, one = Work(), Work()
    read_film(saved(dataset), work=work)
    read_film(FILM, work=one)
    assert work.parts == one.parts + 11


def test_a_sequence_of_wrong_length_is_a_cut():
    lying = element(0x0008, 0x0051, b"SQ", b"")[:-4] + struct.pack("<I", 10**9)
    assert refused(with_extra(lying)) == "dicom_damaged"


def test_nests_deeper_than_any_film_has_are_damage():
    opening = element(0x0008, 0x0051, b"SQ", b"", undefined=True) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    assert refused(with_extra(opening * 5000)) == "dicom_damaged"


def test_big_endian_nests_are_passed_over():
    dataset = cr(GREY, ExplicitVRBigEndian)
    inner = Dataset()
    inner.Modality = "CT"
    dataset.ReferencedStudySequence = [inner]
    assert read_film(saved(dataset)).format == "DICOM"
