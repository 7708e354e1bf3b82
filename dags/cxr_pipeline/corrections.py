"""A reader's corrections are a CSV with the columns ``key`` and ``label``; every wrong line is named, by its number.

No message quotes a cell: a key, or a label in the wrong column, may be a patient's name and would stay in a log. Keys
are taken as they are: a space at either end belongs to them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from cxr.labels import CLASSES

HEADER = ("key", "label")


class CorrectionsRefused(Exception):
    """No new version can be made; the text names the lines or the prefix, and what to do."""


@dataclass(frozen=True)
class Correction:
    """An upload, the label that a reader gave it, and the line of the CSV where that ends."""

    key: str
    label: str
    line: int


def read(content: bytes) -> list[Correction]:
    """Read the CSV; raise CorrectionsRefused naming every bad line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorrectionsRefused(f"byte {error.start} is no UTF-8; save the file as CSV UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        return _read(reader)
    except csv.Error as error:
        raise CorrectionsRefused(f"line {reader.line_num}: {error}; save the file as CSV UTF-8") from None


def _read(reader: csv.DictReader[str]) -> list[Correction]:
    if not set(HEADER) <= set(reader.fieldnames or ()):
        raise CorrectionsRefused(
            f"the first line must be the header {','.join(HEADER)}, with commas; it has {len(reader.fieldnames or ())} "
            "columns of other names"
        )
    found: dict[str, Correction] = {}
    wrong = []
    for row in reader:
        key, label, line = row["key"] or "", (row["label"] or "").strip().upper(), reader.line_num
        if not key.strip():
            wrong.append(f"line {line}: there is no key")
        elif None in row:
            wrong.append(f"line {line}: it has more cells than the header; put a key with a comma into quotes")
        elif label not in CLASSES:
            wrong.append(f"line {line}: the label is none of {', '.join(CLASSES)}")
        elif key not in found:
            found[key] = Correction(key, label, line)
        elif found[key].label != label:
            wrong.append(f"line {line}: {label} here and {found[key].label} in line {found[key].line}; take one out")
    if wrong:
        raise CorrectionsRefused("; ".join(wrong))
    if not found:
        raise CorrectionsRefused("the file names no film")
    return list(found.values())


def lines(numbers: Iterable[int]) -> str:
    """Say which lines."""
    return "line " + ", ".join(map(str, sorted(numbers)))
