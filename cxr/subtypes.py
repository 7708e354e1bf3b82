"""The kind of a pneumonia, where it is known: bacterial or viral, from a film's name or from subtypes.csv.

It helps to train; no answer names it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from cxr.film_list import BadFilmList, read_film_list

SUBTYPES = ("bacteria", "virus")

# Kaggle's names (person1234_virus_1.jpeg) and the original archive's (VIRUS-1008087-0001.jpeg), in any case.
_NAMED = re.compile(r"(?:person\d+_)?(bacteria|virus)[_-]", re.IGNORECASE)


def subtype_of(file: str) -> str | None:
    """One of SUBTYPES; None where the name says none."""
    found = _NAMED.match(PurePosixPath(file).name)
    return found[1].lower() if found else None


def read_subtypes(path: Path, films: Collection[str], ill: Collection[str]) -> dict[str, str]:
    """{file: subtype} of a CSV with the columns `file` and `subtype`; `ill` are the films that are PNEUMONIA.

    Raises BadFilmList for rows that name no film, one twice with different subtypes, a normal one, or no subtype.
    """
    listed = read_film_list(path, "subtype", films)
    if other := sum(subtype not in SUBTYPES for subtype in listed.values()):
        raise BadFilmList(
            f"{path}: {other} of its rows give another subtype than {' and '.join(SUBTYPES)}; correct them"
        )
    if normal := sum(file not in ill for file in listed):
        raise BadFilmList(f"{path}: {normal} of its rows name NORMAL films, which have no subtype; drop them")
    return listed
