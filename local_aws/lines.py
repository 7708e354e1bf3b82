"""The lines that a running command has added to its log since somebody last looked."""

from __future__ import annotations

from pathlib import Path


class NewLines:
    """Reads `file` from its present end on; a file that does not exist yet is read from its beginning."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._offset = file.stat().st_size if file.exists() else 0
        self._partial = b""

    def read(self, last: bool = False) -> list[str]:
        """The lines that are complete since the last call (`last`: the unfinished one as well)."""
        with self.file.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if last and self._partial:
            lines, self._partial = [*lines, self._partial], b""
        return [line.decode(errors="replace").rstrip("\r") for line in lines]
