"""The worklist is one file that works without a network: pictures, styles and scripts are inside it.

Every text that came from outside is escaped, and the page's own policy forbids it to load or send anything.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path
from typing import IO

from cxr import grid
from cxr_pipeline.answers import STATUSES, Answer
from cxr_pipeline.oversight import Figure

TEMPLATE = Path(__file__).with_name("worklist.html")
COLUMNS = (
    "key", "priority", "status", "label", "probability", "confidence", "threshold", "ood_distance", "reasons",
    "model_version", "classified_at",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would execute a cell that begins so


def write_csv(answers: Iterable[Answer], out: IO[bytes]) -> None:
    """Write the worklist as CSV, one film a line, in the same order as the page."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for answer in answers:
        row = {**answer.__dict__, "reasons": "; ".join(answer.reasons)}
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    text.detach()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def write_html(
    answers: Iterable[Answer],
    figures: Iterable[Figure],
    picture: Callable[[str], bytes | None],
    out: IO[bytes],
    *,
    title: str,
    subtitle: str,
    pictures: int,
    rows: int,
) -> None:
    """Write the worklist page.

    ``picture`` returns the PNG of a heat map's key, or None; it is asked for the first ``pictures`` films. A film
    without one shows its result's grid. At most ``rows`` films are shown; the page says how many more the CSV holds.
    """
    head, middle, tail = TEMPLATE.read_text().split("<!--SPLIT-->")
    statuses: Counter[str] = Counter()
    total = 0
    body = io.BytesIO()
    for number, answer in enumerate(answers):
        total += 1
        if number >= rows:
            continue
        statuses[answer.status] += 1
        png = picture(answer.heatmap) if answer.heatmap and number < pictures else None
        body.write(_row(answer, png or _drawn(answer.grid)).encode())
    left = total - min(total, rows)
    note = f"The {left} films of lowest urgency are in worklist.csv only." if left else ""
    out.write(
        head.replace("{{title}}", escape(title))
        .replace("{{subtitle}}", escape(subtitle))
        .replace("{{filters}}", "".join(_filters(statuses)))
        .replace("{{figures}}", "".join(map(_figure, figures)))
        .encode()
    )
    out.write(middle.encode())
    out.write(body.getvalue())
    out.write(tail.replace("{{note}}", escape(note)).encode())


def _filters(statuses: Counter[str]) -> Iterator[str]:
    choices = [("all", sum(statuses.values())), *((status, statuses[status]) for status in STATUSES)]
    for number, (status, films) in enumerate(choices, start=1):
        yield (
            f'<button type="button" data-filter="{status}" aria-pressed="{str(status == "all").lower()}">'
            f"<kbd>{number}</kbd> {status.replace('_', ' ')} <b>{films}</b></button>"
        )


def _figure(figure: Figure) -> str:
    value = "–" if figure.value is None else f"{figure.value:.3f}"
    state = "unknown" if figure.value is None else "breached" if figure.breached else "kept"
    return (
        f'<li class="{state}" title="{escape(figure.advice)}"><b>{value}</b> {escape(figure.name)} '
        f"<small>{escape(figure.limit)}</small></li>"
    )


def _drawn(text: str | None) -> bytes | None:
    """The grid of a result as PNG; None where there is none, or something else in its place."""
    with contextlib.suppress(grid.GridError):
        return grid.png(text) if text else None
    return None


def _row(answer: Answer, png: bytes | None) -> str:
    name = escape(answer.key)
    image = '<span class="none">no heat map</span>'
    if png:
        data = base64.b64encode(png).decode()
        image = f'<img loading="lazy" alt="Heat map of {name}" src="data:image/png;base64,{data}">'
    usable = answer.probability is not None and answer.status != "out_of_distribution"
    chance = f"{answer.probability:.1%}" if usable else "not to be used" if answer.probability is not None else ""
    meter = ""
    if usable:
        meter = f'<meter min="0" max="1" value="{answer.probability:.4f}"></meter>'
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in answer.reasons)
    return (
        f'<tr tabindex="-1" class="{answer.priority}" data-status="{answer.status}" data-text="{name.lower()}">'
        f'<td class="picture">{image}</td>'
        f'<td><span class="priority">{answer.priority}</span></td>'
        f'<td class="film"><b>{name}</b><ul>{reasons}</ul></td>'
        f'<td class="status">{answer.status.replace("_", " ")}</td>'
        f"<td>{(answer.label or '') if usable else ''}</td>"
        f'<td class="chance">{chance}{meter}</td>'
        f"<td>{escape(answer.classified_at[:16].replace('T', ' '))}<br><small>model {escape(answer.model_version)}"
        "</small></td></tr>\n"
    )
