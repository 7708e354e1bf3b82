"""CSV that a spreadsheet may open: every cell is quoted, none starts a row of its own, none becomes a formula.

A program that opens a file does not ask by what it was separated: what stands behind a semicolon, a bar or a quote
inside a cell counts as the beginning of one. Full-width signs are signs, and what has no width hides nothing.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import IO

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
REPLACEMENT = "\ufffd"
_SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212\u207a\u207b\u208a\u208b\u207c\u208c"
# White space, what Unicode calls a format (Cf), and letters that are drawn as nothing.
_HIDDEN = (
    r"\s\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffd\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f"
)
FORMULA = re.compile(rf"(^|[,;|\"'])([{_HIDDEN}\"']*)(?=[{_SIGNS}])")


def write(header: Sequence[str], rows: Iterable[Iterable[object]], out: IO[bytes]) -> None:
    """Write ``rows`` below ``header`` as UTF-8; texts are made harmless by `cell`, None is an empty cell."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for row in rows:
        writer.writerow([cell(value) if isinstance(value, str) else value for value in row])
    text.detach()


def cell(text: str) -> str:
    """Return ``text`` with control characters replaced and an apostrophe before every sign that could be a formula."""
    return FORMULA.sub(r"\1\2'", UNPRINTABLE.sub(REPLACEMENT, text))
