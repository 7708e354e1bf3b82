"""The answers of a period, kept on disk in the order in which a reader should see them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

PRIORITIES = ("urgent", "review", "routine")
STATUSES = ("ok", "uncertain", "out_of_distribution", "unreadable")


@dataclass(frozen=True)
class Answer:
    """What a result says of one film."""

    key: str
    status: str
    label: str | None
    probability: float | None
    confidence: float | None
    threshold: float | None
    priority: str
    ood_distance: float | None
    reasons: tuple[str, ...]
    heatmap: str | None
    grid: str | None
    model_version: str
    model_sha256: str
    classified_at: str

    @classmethod
    def of(cls, key: str, result: dict[str, Any]) -> Answer:
        return cls(
            key=key,
            status=result["status"],
            label=result["label"],
            probability=result["probability"],
            confidence=result["confidence"],
            threshold=result["threshold"],
            priority=result["priority"],
            ood_distance=(result.get("ood") or {}).get("distance"),
            reasons=tuple(f"{reason['code']}: {reason['sentence']}" for reason in result["reasons"]),
            heatmap=(result.get("heatmap") or {}).get("key"),
            grid=(result.get("heatmap") or {}).get("grid"),
            model_version=str(result["model"]["version"]),
            model_sha256=result["model"]["sha256"],
            classified_at=result["classified_at"],
        )


class Answers:
    """Answers in a sqlite file; iterating yields the urgent ones first, within a priority the likeliest first."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        columns = ", ".join(name for name in Answer.__dataclass_fields__ if name != "key")
        self._db.execute(f"CREATE TABLE answer (key TEXT PRIMARY KEY, rank INTEGER, {columns})")

    def __enter__(self) -> Answers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add(self, answers: Iterable[Answer]) -> None:
        names = list(Answer.__dataclass_fields__)
        marks = ", ".join(f":{name}" for name in (*names, "rank"))
        self._db.executemany(
            f"INSERT OR REPLACE INTO answer ({', '.join((*names, 'rank'))}) VALUES ({marks})",
            (
                {**answer.__dict__, "reasons": json.dumps(answer.reasons), "rank": PRIORITIES.index(answer.priority)}
                for answer in answers
            ),
        )

    def __iter__(self) -> Iterator[Answer]:
        names = list(Answer.__dataclass_fields__)
        order = "rank, probability IS NULL, probability DESC, key"
        for row in self._db.execute(f"SELECT {', '.join(names)} FROM answer ORDER BY {order}"):
            values = dict(zip(names, row, strict=True))
            yield Answer(**{**values, "reasons": tuple(json.loads(values["reasons"]))})

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM answer").fetchone()[0])
