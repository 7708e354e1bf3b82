"""Files that appear whole or not at all.

An error of the disk names the file that was being written; the operating system names it only when it opens one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes | str) -> None:
    """Write whole or not at all; parents are made. Raises OSError naming the file."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give the path to an OSError that has none."""
    try:
        yield
    except OSError as error:
        if error.filename or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
