"""What is printed never steers the terminal: names and texts come from archives, buckets and AWS, so from strangers."""

from __future__ import annotations

import sys
from typing import TextIO


def plain(text: str) -> str:
    """The text with whatever is neither printable nor a line's end or a tab written as its escape (`\\x1b`)."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def say(text: str, file: TextIO | None = None, end: str = "\n") -> None:
    """Prints plain(text)."""
    print(plain(text), file=file or sys.stdout, end=end, flush=True)
