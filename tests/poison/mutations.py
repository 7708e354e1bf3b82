"""Ways in which sound files go bad: by accident in transit, or on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
)
HEADER = 600
"""Most decisions are taken on the first bytes."""


def flip(data: bytearray, randomness: random.Random) -> None:
    for _ in range(randomness.randint(1, 16)):
        data[_place(data, randomness)] ^= 1 << randomness.randrange(8)


def overwrite(data: bytearray, randomness: random.Random) -> None:
    value, at = randomness.choice(INTERESTING), _place(data, randomness)
    data[at : at + len(value)] = value


def cut(data: bytearray, randomness: random.Random) -> None:
    del data[_place(data, randomness) :]


def remove(data: bytearray, randomness: random.Random) -> None:
    at = _place(data, randomness)
    del data[at : at + randomness.randint(1, 200)]


def repeat(data: bytearray, randomness: random.Random) -> None:
    at = _place(data, randomness)
    data[at:at] = data[at : at + randomness.randint(1, 200)] * randomness.randint(1, 20)


def insert(data: bytearray, randomness: random.Random) -> None:
    at = _place(data, randomness)
    data[at:at] = randomness.randbytes(randomness.randint(1, 100))


PIECES = (
    b"\xff",
    b"\xff\xfe\0\2",
    b"\xff\xd0",
    b"\xff\0",
    b"\0\0\0\0tEXt" + b"\x9c\x31\x2a\x5c",
    b"\x09\0\1\0LO\0\0",
    b"\xfe\xff\0\xe0\0\0\0\0",
    b"\x09\0\1\0SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff",
    b"\xff\x64\0\2",
    b"\x80",
)
"""What readers loop over: fill bytes, segments, restarts, chunks, elements, items, nests, comments, idle codes."""


def stuff(data: bytearray, randomness: random.Random) -> None:
    at = _place(data, randomness)
    data[at:at] = randomness.choice(PIECES) * (1 << randomness.randrange(17))


STEPS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    flip,
    overwrite,
    overwrite,
    cut,
    remove,
    repeat,
    insert,
    stuff,
)


def mutated(data: bytes, randomness: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One to four mutations; now and then the tail of another file is grafted on first."""
    changed = bytearray(data)
    if others and randomness.random() < 0.1:
        other = randomness.choice(others)
        changed[_place(changed, randomness) :] = other[randomness.randrange(len(other)) :]
    for _ in range(randomness.randint(1, 4)):
        if changed:
            randomness.choice(STEPS)(changed, randomness)
    return bytes(changed)


def _place(data: bytearray, randomness: random.Random) -> int:
    near = min(len(data), HEADER)
    return randomness.randrange(near if randomness.random() < 0.6 else len(data)) if data else 0
