"""What another model changed is read from the answers themselves: each names the one that it supersedes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from typing import IO, Any

from cxr import spreadsheet
from cxr.labels import CLASSES, STATUSES
from cxr.result import Row


@dataclass(frozen=True)
class Change:
    """A film whose status or label another model changed."""

    key: str
    old_status: str
    old_label: str
    new_status: str
    new_label: str
    old_model: str
    new_model: str


def change(film: Row, result: Any) -> Change | None:
    """Return what changed where the answer supersedes one of another status or label; None otherwise."""
    old = result.get("supersedes")
    if not isinstance(old, dict) or (old.get("status"), old.get("label")) == (film.status, film.label):
        return None
    if old.get("status") not in STATUSES or old.get("label") not in (*CLASSES, None):
        return None
    return Change(
        key=film.key,
        old_status=old["status"],
        old_label=old.get("label") or "none",
        new_status=film.status,
        new_label=film.label or "none",
        old_model=str(old.get("model_sha256")),
        new_model=film.model_sha256,
    )


def write_csv(found: Iterable[Change], out: IO[bytes]) -> None:
    """Write the changed films as CSV, one a line."""
    spreadsheet.write([field.name for field in fields(Change)], map(astuple, found), out)


def transitions(found: list[Change]) -> dict[str, int]:
    """Count the films by what changed, most frequent first: ``{"ok PNEUMONIA -> uncertain PNEUMONIA": 3}``."""
    counted = Counter(f"{c.old_status} {c.old_label} -> {c.new_status} {c.new_label}" for c in found)
    return dict(counted.most_common())
