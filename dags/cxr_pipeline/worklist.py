"""The worklist is one file that works without a network: pictures, style and script are inside it.

Every text that came from outside is escaped, in attributes too, and the page's own policy lets nothing run or load but
the one style and the one script, known by their hashes, and pictures that it holds itself.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cxr import grid, spreadsheet
from cxr.labels import INTENDED_USE, STATUSES
from cxr.result import COLUMNS, Row
from cxr_pipeline.oversight import Figure

HERE = Path(__file__).parent
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Heading:
    """What stands above the films."""

    title: str
    subtitle: str


@dataclass(frozen=True)
class Extent:
    """At most ``rows`` films are shown, the first ``pictures`` of them with the pictures of their heat maps."""

    rows: int
    pictures: int


def write_csv(films: Iterable[Row], out: IO[bytes]) -> None:
    """Write the worklist as CSV, one film a line, in the same order as the page."""
    rows = ({**film.__dict__, "reasons": "; ".join(film.reasons)} for film in films)
    spreadsheet.write(COLUMNS, ([row[name] for name in COLUMNS] for row in rows), out)


def write_html(
    films: Iterable[Row],
    figures: Iterable[Figure],
    picture: Callable[[str], bytes | None],
    out: IO[bytes],
    heading: Heading,
    extent: Extent,
) -> None:
    """Write the worklist page. ``films`` is gone through twice; ``picture`` returns what lies at a heat map's key."""
    statuses, total = Counter(film.status for film in islice(films, extent.rows)), sum(1 for _ in films)
    style, script = ((HERE / f"worklist.{kind}").read_text() for kind in ("css", "js"))
    page = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("worklist.html")
    page.stream(
        heading=heading,
        warning=f"{INTENDED_USE[0].upper()}{INTENDED_USE[1:]}.",
        policy=policy(style, script),
        style=Markup(style),  # nosec B704 # a file of this folder
        script=Markup(script),  # nosec B704 # a file of this folder
        figures=list(figures),
        filters=[("all", statuses.total()), *((status, statuses[status]) for status in STATUSES)],
        films=_shown(films, picture, extent),
        left=max(0, total - extent.rows),
    ).dump(out, encoding="utf-8", errors="replace")


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy of the page: nothing but this style, this script and pictures in the page."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _shown(
    films: Iterable[Row], picture: Callable[[str], bytes | None], extent: Extent
) -> Iterator[tuple[Row, str | None]]:
    """Yield the films of the page with their heat maps as PNG in base64, or with the grids of their results."""
    for number, film in enumerate(islice(films, extent.rows)):
        png = picture(film.heatmap) if film.heatmap and number < extent.pictures else None
        if not (png and png.startswith(PNG)):
            png = _drawn(film.grid)
        yield film, base64.b64encode(png).decode() if png else None


def _drawn(text: str | None) -> bytes | None:
    """Return the grid of a result as PNG; None where there is none, or something else in its place."""
    with contextlib.suppress(grid.GridError):
        return grid.png(text) if text else None
    return None
