"""Normal, bacterial or viral: the classes that the recipe `end_to_end` learns, where a pneumonia's kind is known.

A pneumonia whose kind nobody told counts half as either, which is the same as learning the two classes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cxr.subtypes import SUBTYPES, subtype_of

KINDS = ("normal", *SUBTYPES)
UNKNOWN = len(KINDS)


def of_films(files: Sequence[str], labels: np.ndarray, listed: Mapping[str, str]) -> np.ndarray:
    """int [n] of films with labels [n]: normal, the subtype that is listed or in the file's name, or UNKNOWN."""

    def kind(file: str) -> int:
        subtype = listed.get(file) or subtype_of(file)
        return KINDS.index(subtype) if subtype else UNKNOWN

    return np.array([kind(file) if label else 0 for file, label in zip(files, labels, strict=True)], np.int64)


def targets(kinds: np.ndarray) -> np.ndarray:
    """float32 [n, 3], each row a distribution over KINDS. kinds: int [n], index into KINDS, or UNKNOWN."""
    table = np.eye(UNKNOWN + 1, len(KINDS), dtype=np.float32)
    table[UNKNOWN] = (0.0, 0.5, 0.5)
    return table[kinds]


def weights(kinds: np.ndarray) -> np.ndarray:
    """A weight per film [n], mean 1, by the root of its class's rarity: half of the imbalance goes."""
    shares = targets(kinds)
    of_film = shares @ np.sqrt(1.0 / np.maximum(shares.sum(axis=0), 1.0))
    return (of_film / of_film.mean()).astype(np.float32)


def logit(scores: np.ndarray) -> np.ndarray:
    """The log odds [n] of pneumonia from scores [n, 3]: bacterial or viral against normal."""
    scores = np.asarray(scores, np.float64)
    return np.logaddexp(scores[:, 1], scores[:, 2]) - scores[:, 0]
