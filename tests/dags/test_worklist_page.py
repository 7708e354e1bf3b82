"""The worklist shows the urgent first, is one file, and lets no upload's name become markup or a formula."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cxr_pipeline.answers import Answer, Answers
from cxr_pipeline.oversight import Figure
from cxr_pipeline.worklist import write_csv, write_html

from cxr.grid import encode, png

GRID = encode(bytes(range(196)))


def answer(
    key: str,
    priority: str,
    probability: float | None,
    status: str = "ok",
    heatmap: str | None = None,
    grid: str | None = None,
) -> Answer:
    reasons = ("low_confidence: <b>The model</b> is not sure.",)
    return Answer(
        key, status, "PNEUMONIA", probability, probability, 0.4, priority, 1.0, reasons, heatmap, grid, "3", "s",
        "2026-11-22T10:00:00Z",
    )  # fmt: skip


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    with Answers(tmp_path / "answers.sqlite") as made:
        made.add([
            answer("routine.png", "routine", 0.1),
            answer("review.png", "review", None, "unreadable"),
            answer("<script>alert(1)</script>.png", "urgent", 0.8, heatmap="h/1.png"),
            answer("=cmd()", "urgent", 0.99, "uncertain"),
        ])  # fmt: skip
        yield made


def page(answers: Answers, rows: int = 100) -> str:
    out = io.BytesIO()
    figures = [Figure("abstention rate", 0.25, "at most 0.5", False, "look"), Figure("PSI", None, "x", False, "y")]
    write_html(answers, figures, lambda key: b"PNG", out, title="T", subtitle="S", pictures=10, rows=rows)
    return out.getvalue().decode()


def test_urgent_comes_first_and_within_a_priority_the_likeliest(answers: Answers) -> None:
    assert [a.key for a in answers] == ["=cmd()", "<script>alert(1)</script>.png", "review.png", "routine.png"]


def test_the_page_escapes_what_came_from_outside(answers: Answers) -> None:
    html = page(answers)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<b>The model</b>" not in html


def test_a_film_without_a_picture_shows_the_grid_of_its_result(tmp_path: Path) -> None:
    with Answers(tmp_path / "grids.sqlite") as made:
        made.add([
            answer("a.png", "routine", 0.3, grid=GRID),
            answer("b.png", "routine", 0.2, grid="no grid"),
            answer("c.png", "routine", 0.1),
        ])  # fmt: skip
        html = page(made)
    assert f'alt="Heat map of a.png" src="data:image/png;base64,{base64.b64encode(png(GRID)).decode()}"' in html
    assert html.count("no heat map") == 2


def test_the_page_loads_nothing(answers: Answers) -> None:
    html = page(answers)
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "default-src 'none'" in html
    assert "data:image/png;base64," in html


def test_the_page_has_a_filter_for_every_status_with_its_count(answers: Answers) -> None:
    found = dict(re.findall(r'data-filter="(\w+)".*?<b>(\d+)</b>', page(answers)))
    assert found == {"all": "4", "ok": "2", "uncertain": "1", "out_of_distribution": "0", "unreadable": "1"}


def test_a_long_worklist_says_how_many_films_only_the_csv_has(answers: Answers) -> None:
    html = page(answers, rows=3)
    assert html.count("<tr tabindex") == 3
    assert "The 1 films of lowest urgency are in worklist.csv only." in html


def test_the_csv_has_every_film_and_no_formula(answers: Answers) -> None:
    out = io.BytesIO()
    write_csv(answers, out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue().decode())))
    assert [row["key"] for row in rows][:2] == ["'=cmd()", "<script>alert(1)</script>.png"]
    assert len(rows) == 4
