"""CSV files beside a dataset's films that say something of them: one row a film, by its path.

Every row names a film (not every film needs a row): a list that matches nothing would say nothing. A refusal names
lines: what stands in them may be a patient's name, and logs outlive the list.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from cxr.dataset import some


class BadFilmList(ValueError):
    """A list of films cannot be used."""


def read_film_list(path: Path, column: str, films: Collection[str]) -> dict[str, str]:
    """{file: value} of a CSV with the columns `file` (relative to the dataset's root) and `column`.

    Raises BadFilmList naming the lines.
    """
    values: dict[str, str] = {}
    strangers: list[str] = []
    example = "train/NORMAL/IM-0115-0001.jpeg"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFilmList(f"{path} is not UTF-8 ({error.reason}); save it as CSV UTF-8") from error
    with io.StringIO(text, newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames is None or not {"file", column} <= set(reader.fieldnames):
            raise BadFilmList(f"{path} needs a first line with the columns file and {column}; add it")
        for number, row in enumerate(reader, start=2):
            file, value = (row["file"] or "").strip(), (row[column] or "").strip()
            if not file or not value:
                raise BadFilmList(f"{path}, line {number}: file or {column} is empty; fill both or drop the line")
            if values.get(file, value) != value:
                raise BadFilmList(f"{path}, line {number}: an earlier line gives its file another {column}; keep one")
            values[file] = value
            if file not in films:
                strangers.append(f"line {number}")
    if not values:
        raise BadFilmList(f"{path} has a header and no row; list the films, or take the file away")
    if strangers:
        raise BadFilmList(
            f"{path}: {len(strangers)} of its rows name no film; give each film's path relative to the dataset folder, "
            f"with forward slashes, as {example}, or drop the row: {some(strangers)}"
        )
    return values
