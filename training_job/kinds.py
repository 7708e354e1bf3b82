"""Normal, bacterial or viral: the classes that the recipe `end_to_end` learns, where a pneumonia's kind is known.

A pneumonia whose kind nobody told counts half as either, which is the same as learning the two classes alone.
"""

from __future__ import annotations

import numpy as np

KINDS = ("normal", "bacteria", "virus")
UNKNOWN = len(KINDS)


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
