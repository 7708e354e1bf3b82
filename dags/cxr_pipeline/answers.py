"""The answers of a period, kept on disk in the order in which a reader should see them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from cxr.labels import PRIORITIES
from cxr.result import Row


class Answers:
    """Answers in a sqlite file; iterating yields the urgent ones first, within a priority the likeliest first."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("CREATE TABLE answer (key TEXT PRIMARY KEY, rank INTEGER, probability REAL, row TEXT)")

    def __enter__(self) -> Answers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add(self, films: Iterable[Row]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)",
            ((f.key, PRIORITIES.index(f.priority), f.probability, json.dumps(f.__dict__)) for f in films),
        )

    def __iter__(self) -> Iterator[Row]:
        query = "SELECT row FROM answer ORDER BY rank, probability IS NULL, probability DESC, key"
        for (text,) in self._db.execute(query):
            row = json.loads(text)
            yield Row(**{**row, "reasons": tuple(row["reasons"])})
