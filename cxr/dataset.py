"""What a dataset is: `train|test/NORMAL|PNEUMONIA/<film>`, the layout of Kaggle's archive, in a folder or a bucket.

A file of a dataset is a film, is known to lie beside the films, or is a stray, which is refused by name: nothing that
might be a film is passed over in silence. The upload, the DAGs and the training job judge by this module, from a file's
path alone; whether its bytes are a film is said by the reader of films.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cxr.labels import CLASSES

SPLITS = ("train", "test")
UNUSED_SPLIT = "val"
"""Kaggle's 16 films; held-out films are cut from train/ by patient instead."""
PATIENT_LIST = "patients.csv"
SUBTYPE_LIST = "subtypes.csv"
"""Which pneumonias are bacterial and which viral."""
LISTS = (PATIENT_LIST, SUBTYPE_LIST)
COMPLETE = "complete.json"
"""The mark of a whole corrected version, written last."""
WRAPPING = "chest_xray"
"""The folder of Kaggle's archive, which holds itself once more."""
FILM_SUFFIXES = (".jpeg", ".jpg", ".png", ".dcm", ".dicom")

PREFIX = "datasets/([^/]+/)+"
"""A regular expression: where a dataset lies in the datasets bucket."""
PREFIX_OR_NONE = f"^({PREFIX})?$"
"""The same for a form in which the field may stay empty."""

# In lower case. Archivers and desktops leave them behind; so do all names that begin with a dot.
_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}
# What follows the last dot in a DICOM UID is a number, and no suffix.
_SUFFIX = re.compile(r"\.\d*[a-z][a-z0-9]*$", re.IGNORECASE)
_NAMED = 10


@dataclass(frozen=True)
class Judgement:
    """What a file of a dataset is, and why it is no film (`why` is empty for a film; it names no file)."""

    kind: Literal["film", "beside", "stray"]
    why: str = ""


FILM = Judgement("film")


def judge(path: str, size: int | None = None, splits: Sequence[str] = SPLITS) -> Judgement:
    """What the file at a path relative to the dataset is, with forward slashes; `size` in bytes where it is known.

    splits: () where the class folders lie at the top, as the films of a recalibration do.
    """
    parts = path.split("/")
    if is_junk(parts):
        return Judgement("beside", "left behind by an archiver or a desktop")
    if path in (*LISTS, COMPLETE):
        return Judgement("beside", path)
    if splits and parts[0] == UNUSED_SPLIT and len(parts) > 1:
        return Judgement("beside", f"{UNUSED_SPLIT}/ (not used)")
    return _placed(parts, splits) or _named(parts[-1], size) or FILM


def is_junk(parts: Sequence[str]) -> bool:
    """Whether any part of a path is what archivers and desktops leave behind, or it is a mere folder (ends in `/`)."""
    return not parts[-1] or any(part.startswith(".") or part.lower() in _JUNK for part in parts)


def _placed(parts: Sequence[str], splits: Sequence[str]) -> Judgement | None:
    """A stray where the folders are wrong. Folders below a class may have any name but that of a class or a split."""
    layout = [names for names in (splits, CLASSES) if names]
    for name in LISTS:
        if len(parts) == 1 and parts[0].lower().startswith(f"{name.partition('.')[0]}."):
            return Judgement("stray", f"must be called {name}, in this case")
    for part, names in zip(parts[:-1], layout, strict=False):
        if part not in names:
            meant = next((name for name in names if name.lower() == part.lower()), None)
            return (
                Judgement("stray", f"lies in a folder that must be called {meant}, in this case") if meant else OUTSIDE
            )
    if len(parts) <= len(layout):
        return OUTSIDE
    below = {part.lower() for part in parts[len(layout) : -1]}
    if below & {name.lower() for name in (*SPLITS, *CLASSES, WRAPPING)}:
        return Judgement("stray", "lies in a class within a class")
    return None


OUTSIDE = Judgement("stray", f"lies outside {'|'.join(SPLITS)}/{'|'.join(CLASSES)}/")


def _named(name: str, size: int | None) -> Judgement | None:
    suffix = suffix_of(name)
    if suffix and suffix not in FILM_SUFFIXES:
        return Judgement("stray", f"is neither {', '.join(FILM_SUFFIXES)} nor without a suffix (DICOM)")
    return Judgement("stray", "is empty") if size == 0 else None


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, with its dot; empty where there is none.

    A DICOM UID has none: `CR.1.2.840.113619.2.55`, as storescp names files, ends in a number.
    """
    found = _SUFFIX.search(name)
    return found.group().lower() if found else ""


def some(items: Sequence[str]) -> str:
    """The first ten of these names, and how many there are besides."""
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return "; ".join(items[:_NAMED]) + more
