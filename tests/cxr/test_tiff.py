import struct

import pytest

from cxr.tiff import MAX_ENTRIES, NUMBER_OF_IMAGES, ORIENTATION, number_of


def block(*entries: bytes, order: str = ">", start: int = 8) -> bytes:
    head = struct.pack(f"{order}2sHI", b"MM" if order == ">" else b"II", 42, start)
    return head + bytes(start - 8) + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def entry(tag: int, form: int, value: bytes, count: int = 1, order: str = ">") -> bytes:
    return struct.pack(f"{order}HHI", tag, form, count) + value.ljust(4, b"\0")


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize(("form", "code"), [(1, "B"), (3, "H"), (4, "I")])
@pytest.mark.parametrize("start", [8, 30])
def test_a_whole_number_of_any_form_is_found(order, form, code, start):
    six = entry(ORIENTATION, form, struct.pack(order + code, 6), order=order)
    other = entry(0x0100, 4, b"\1\1\1\1", order=order)
    assert number_of(block(other, six, order=order, start=start), ORIENTATION) == 6
    assert number_of(block(other, six, order=order, start=start), NUMBER_OF_IMAGES) is None


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"MM",
        b"XX" + block(entry(ORIENTATION, 3, b"\0\6"))[2:],
        block(entry(ORIENTATION, 3, b"\0\6")).replace(b"\0*", b"\0+", 1),
        block(entry(ORIENTATION, 3, b"\0\6"))[:20],
        block(entry(ORIENTATION, 2, b"six\0")),
        block(entry(ORIENTATION, 5, b"\0\0\0\x08")),
        block(entry(ORIENTATION, 3, b"\0\6", count=0)),
        struct.pack(">2sHI", b"MM", 42, 0xFFFFFFFF),
    ],
)
def test_what_is_damaged_or_no_number_is_none(damaged):
    assert number_of(damaged, ORIENTATION) is None


def test_entries_are_bounded():
    many = [entry(0x9000, 3, b"\0\1")] * MAX_ENTRIES
    assert number_of(block(*many, entry(ORIENTATION, 3, b"\0\6")), ORIENTATION) is None
    assert number_of(block(*many[1:], entry(ORIENTATION, 3, b"\0\6")), ORIENTATION) == 6
