"""Which uploads lack an answer is found by joining two listings on disk, never in memory and never by a merge.

Appending ``.json`` changes the byte order (``a.png`` < ``a.png.bak`` but ``a.png.bak.json`` < ``a.png.json``), so the
sorted listings do not run in step; and listings carry no metadata, so the times decide: a result that is older than
its upload answers another film.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from cxr.result import RESULTS, key_of
from cxr_pipeline.objects import MAX_KEY_BYTES, listing
from cxr_pipeline.smoke import PREFIX as SMOKE_PREFIX

LONGEST = MAX_KEY_BYTES - len(key_of(""))
"""Bytes of an upload's key: the result of a longer one could not be written."""


class Ledger:
    """Uploads and results of one listing each, in a sqlite file; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-20000;"
            "CREATE TABLE upload (key TEXT PRIMARY KEY, modified REAL NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE result (key TEXT PRIMARY KEY, modified REAL NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE wanted (key TEXT PRIMARY KEY) WITHOUT ROWID;"
        )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add_uploads(self, objects: Iterable[dict[str, Any]]) -> None:
        """Add a listing of the uploads bucket; folders and golden films are left out."""
        self._db.executemany(
            "INSERT OR REPLACE INTO upload VALUES (?, ?)",
            (
                (o["Key"], o["LastModified"].timestamp())
                for o in objects
                if not (o["Key"].endswith("/") or o["Key"].startswith(SMOKE_PREFIX))
            ),
        )

    def add_results(self, objects: Iterable[dict[str, Any]]) -> None:
        """Add a listing of ``results/``: the key of a result is that of its upload plus ``.json``."""
        self._db.executemany(
            "INSERT OR REPLACE INTO result VALUES (?, ?)",
            (
                (o["Key"].removeprefix(RESULTS).removesuffix(".json"), o["LastModified"].timestamp())
                for o in objects
                if o["Key"].endswith(".json")
            ),
        )

    def add_wanted(self, keys: Iterable[str]) -> None:
        """Restrict `unanswered` and `rewritten` to these uploads."""
        self._db.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", ((key,) for key in keys))

    def counts(self) -> tuple[int, int]:
        """(uploads, results)."""
        return self._count("upload"), self._count("result")

    def unanswered(self, settled_before: datetime) -> Iterator[str]:
        """Yield uploads made before ``settled_before`` that have no result, or one older than themselves."""
        yield from self._keys(
            "SELECT upload.key FROM upload LEFT JOIN result USING (key) WHERE upload.modified < :settled "
            "AND (result.modified IS NULL OR result.modified < upload.modified) "
            "AND length(CAST(upload.key AS BLOB)) <= :longest ORDER BY upload.key",
            settled=settled_before.timestamp(),
            longest=LONGEST,
        )

    def unanswerable(self) -> Iterator[str]:
        """Yield uploads whose keys are so long that S3 has no room for their results: nobody can answer them."""
        query = "SELECT key FROM upload WHERE length(CAST(key AS BLOB)) > :longest ORDER BY key"
        yield from self._keys(query, longest=LONGEST)

    def outdated(self, answered_before: datetime, uploaded_since: datetime | None) -> Iterator[str]:
        """Yield uploads, made since ``uploaded_since``, whose result was written before ``answered_before``."""
        yield from self._keys(
            "SELECT upload.key FROM upload JOIN result USING (key) WHERE upload.modified >= :since "
            "AND result.modified >= upload.modified AND result.modified < :answered ORDER BY upload.key",
            since=uploaded_since.timestamp() if uploaded_since else 0.0,
            answered=answered_before.timestamp(),
        )

    def missing(self) -> Iterator[str]:
        """Yield wanted uploads that still exist and have no result, or one older than themselves."""
        yield from self._keys(
            "SELECT wanted.key FROM wanted JOIN upload USING (key) LEFT JOIN result USING (key) "
            "WHERE result.modified IS NULL OR result.modified < upload.modified ORDER BY wanted.key"
        )

    def rewritten(self, since: datetime) -> Iterator[str]:
        """Yield wanted uploads whose result was written since ``since``."""
        yield from self._keys(
            "SELECT wanted.key FROM wanted JOIN result USING (key) WHERE result.modified >= :since ORDER BY wanted.key",
            since=since.timestamp(),
        )

    def untouched(self, since: datetime) -> Iterator[str]:
        """Yield wanted uploads whose result was last written before ``since``."""
        yield from self._keys(
            "SELECT wanted.key FROM wanted JOIN result USING (key) WHERE result.modified < :since ORDER BY wanted.key",
            since=since.timestamp(),
        )

    def _keys(self, query: str, **values: float) -> Iterator[str]:
        for (key,) in self._db.execute(query, values):
            yield key

    def _count(self, table: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # nosec B608 # a name of ours


@contextmanager
def filled(s3: Any, uploads_bucket: str, results_bucket: str, prefix: str) -> Iterator[Ledger]:
    """Yield a ledger of both buckets below ``prefix``; uploads are listed first, so that no answer can be missed."""
    with tempfile.TemporaryDirectory() as scratch, Ledger(Path(scratch) / "ledger.sqlite") as ledger:
        ledger.add_uploads(listing(s3, uploads_bucket, prefix))
        ledger.add_results(listing(s3, results_bucket, RESULTS + prefix))
        yield ledger
