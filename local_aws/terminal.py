"""What a person reads on a terminal is text: brackets in a key are no markup, an escape sequence moves no cursor."""

from __future__ import annotations

from typing import IO

from rich.console import Console
from rich.text import Text

from infra.terminal import plain

LOG_WIDTH = 140
"""Characters of a line where there is no terminal: wide enough for a table of keys."""


class Terminal(Console):
    """A rich console that takes no string for markup; `file` defaults to standard output."""

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False)
        if not self.is_terminal:
            self.width = LOG_WIDTH

    def say(self, text: object, style: str = "") -> None:
        """Print `text` as it is, however long its lines are."""
        self.print(Text(plain(str(text)), style), soft_wrap=True)
