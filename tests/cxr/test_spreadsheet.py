"""However a program parts the cells of a CSV, no cell of ours is a formula and none starts a row."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr import spreadsheet

SIGNS = "=+-@"
HOSTILE = [
    "=1+1", "+1", "-1", "@SUM(A1)", "x\r=1+1.png", "x\n=1+1.png", "\n=1", "\t=1", ";=1", "a;=1", "a;\"=1", "a,=1",
    "a|=1", "\uff1d1+1", "a;\uff1d1", "\u200b=1", "\ufeff=1", " =1", "\u3000=1", "\"=1", "'=1", "a;'\"=1", "\x00=1",
    "\x0b=1", "\x85=1", "\u2028=1", "x\u2028=1", "\ufe66\u0031", "\u2212" + "1", ";\t=1", "\x1b[31m=1",
]  # fmt: skip


def written(*cells: object) -> str:
    out = io.BytesIO()
    spreadsheet.write(["first", "second", "third"], [cells], out)
    return out.getvalue().decode()


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet might calculate: it drops what is not seen, and takes wide signs for narrow ones."""
    seen = "".join(c for c in cell if unicodedata.category(c) not in ("Cc", "Cf", "Zs", "Zl", "Zp"))
    first = unicodedata.normalize("NFKC", seen.lstrip('"'))[:1]
    return first in {*SIGNS, "\u2212"} and first != ""


def check(text: str) -> None:
    content = written(text, "b" + text, text + "c")
    for delimiter in ",;|\t":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            rows = list(csv.reader(io.StringIO(content), delimiter=delimiter, quoting=quoting))
            assert len(rows) == 2
            assert not [cell for row in rows for cell in row if is_formula(cell)], (delimiter, rows)
    assert len(content.splitlines()) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_a_formula_or_a_row(text: str) -> None:
    check(text)


@given(
    st.text(
        st.sampled_from([*SIGNS, *";,|\t\r\n\"' ", "\uff1d", "\u200b", "\ufeff", "\x00", "\x85", "\u2028", "x", "1"]),
        max_size=8,
    )
)
def test_no_text_of_these_signs_becomes_a_formula_or_a_row(text: str) -> None:
    check(text)


@given(st.text(max_size=30))
def test_no_text_at_all_becomes_a_formula_or_a_row(text: str) -> None:
    check(text)


def test_an_honest_cell_is_read_as_it_was() -> None:
    honest = ['ward 1/Müller-"K" a+2.jpeg', "a@b-c=d.png", "low: -0.5 is below 0.7, at most 0.9"]
    assert list(csv.reader(io.StringIO(written(*honest))))[1] == honest
    assert written("x", 0.25, None).splitlines()[1] == '"x","0.25",""'
