"""Many results are read side by side, and one of another form stops nobody: it is counted and left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from cxr.result import ResultError, Row, key_of
from cxr_pipeline.objects import MAX_KEY_BYTES, find_bytes

THREADS = 16
AT_ONCE = 1000  # results in memory


def read(s3: Any, bucket: str, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield (upload key, result) for each upload that has a result; None for a result that is no JSON."""

    def one(key: str) -> tuple[str, Any] | None:
        place = key_of(key)
        content = find_bytes(s3, bucket, place) if len(place.encode()) <= MAX_KEY_BYTES else None
        if content is None:
            return None
        try:
            return key, json.loads(content)
        except (ValueError, RecursionError):
            return key, None

    remaining = iter(keys)
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(remaining, AT_ONCE)):
            yield from filter(None, pool.map(one, part))


def rows(found: Iterable[tuple[str, Any]], strange: Counter[str]) -> Iterator[tuple[Row, Any]]:
    """Yield (row, result) of each result of the right form; count the others in ``strange``, by what is wrong."""
    for key, result in found:
        try:
            yield Row.of(key, result), result
        except ResultError as error:
            strange[str(error)] += 1
