"""One number out of the TIFF directory of an EXIF or MPF block.

Only the entry that is asked for is looked at. Readers that load a whole directory can be made to copy a block's bytes
once per entry, of which there may be 65,535.
"""

from __future__ import annotations

import struct

ORIENTATION, NUMBER_OF_IMAGES = 0x0112, 0xB001
MAX_ENTRIES = 1000
_ORDERS = {b"II": "<", b"MM": ">"}
_MAGIC = 42
_FORMS = {1: "B", 3: "H", 4: "I"}
"""BYTE, SHORT, LONG."""


def number_of(block: bytes, tag: int) -> int | None:
    """The first value of `tag` in the first directory of a TIFF block; None if it is absent, no whole number or the
    block is damaged.
    """
    order = _ORDERS.get(block[:2])
    if order is None:
        return None
    try:
        magic, start = struct.unpack_from(f"{order}HI", block, 2)
        (entries,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(min(entries, MAX_ENTRIES) if magic == _MAGIC else 0):
            found, form, count, value = struct.unpack_from(f"{order}HHI4s", block, start + 2 + 12 * entry)
            if found == tag:
                return struct.unpack_from(order + _FORMS[form], value)[0] if count else None
    except (struct.error, KeyError):
        return None
    return None
