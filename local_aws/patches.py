"""Every replacement inside moto goes through here: its signature is checked first, and it is undone at the end.

moto is a library that was never meant to be extended at these places. A release that moves one of them must stop the
local AWS at start-up with the name of the patched place, not hours later with a lost message.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

ABSENT = object()


class UnsupportedMoto(RuntimeError):
    """A place in moto that the local AWS replaces no longer looks as it did."""


class Patches:
    """The replacements made in moto by one local AWS; `undo` puts the originals back, last one first."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any], parameters: str | None = None) -> None:
        """Put `make(original)` in the place of `owner.name`, which must take exactly `parameters` (names, in order).

        `parameters` None: an attribute or a property, which only has to be there. A classmethod is handed over as
        such. Raises UnsupportedMoto.
        """
        label = f"{getattr(owner, '__module__', '')}.{getattr(owner, '__qualname__', owner.__name__)}.{name}"
        found = inspect.getattr_static(owner, name, ABSENT)
        if found is ABSENT:
            raise UnsupportedMoto(self._message(label, "is gone"))
        if parameters is not None:
            function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
            present = " ".join(inspect.signature(function).parameters)
            if present != parameters:
                raise UnsupportedMoto(self._message(label, f"takes ({present}), expected ({parameters})"))
        self._undo.append((owner, name, vars(owner).get(name, ABSENT)))
        setattr(owner, name, make(found))

    def add(self, owner: Any, name: str, value: Any) -> None:
        """Add an attribute that moto does not have (an action of a service, say)."""
        if inspect.getattr_static(owner, name, ABSENT) is not ABSENT:
            raise UnsupportedMoto(self._message(f"{owner.__qualname__}.{name}", "now exists: drop the local one"))
        self._undo.append((owner, name, ABSENT))
        setattr(owner, name, value)

    def undo(self) -> None:
        while self._undo:
            owner, name, before = self._undo.pop()
            if before is ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

    @staticmethod
    def _message(label: str, what: str) -> str:
        return f"{label} {what} in moto {version('moto')}; install the moto of requirements.txt, or adapt local_aws"
