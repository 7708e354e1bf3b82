"""Corrected datasets are versions of the first: datasets/x/, datasets/x-v2/, datasets/x-v3/ ...

Half a version must not pass for a whole one: complete.json is written last, and only then may the version be used.
"""

from __future__ import annotations

import re

from cxr.dataset import COMPLETE

_VERSION = re.compile(r"(?P<stem>.*?)(?:-v(?P<number>\d+))?/")


def next_version(dataset: str) -> str:
    """Return the prefix of the version after ``dataset``. Raises ValueError for a prefix without its slash."""
    stem, number = _numbered(dataset)
    return f"{stem}-v{number + 1}/"


def previous_version(dataset: str) -> str | None:
    """Return the prefix of the version before ``dataset``, None for a first one. Raises ValueError like the other."""
    stem, number = _numbered(dataset)
    if number < 2:
        return None
    return f"{stem}/" if number == 2 else f"{stem}-v{number - 1}/"


def interrupted(dataset: str, complete: bool) -> str | None:
    """Say why a version must not be used and what to do; None for a whole one and for a first one."""
    before = previous_version(dataset)
    if complete or before is None:
        return None
    return (
        f"{dataset} lacks {COMPLETE}: its copy was interrupted. Run its corrections on {before} again; that completes "
        f"it. (If it was uploaded whole under this name, put a file {COMPLETE} beside its train/.)"
    )


def _numbered(dataset: str) -> tuple[str, int]:
    match = _VERSION.fullmatch(dataset)
    if match is None:
        raise ValueError(f"{dataset!r} is no dataset prefix: it ends in a slash")
    return match["stem"], int(match["number"] or 1)
