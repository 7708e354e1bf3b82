"""What another model changed is read from the answers themselves: each names the one that it supersedes."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cxr_pipeline.backlog import RESULTS

THREADS = 16
AT_ONCE = 1000  # results in memory


@dataclass(frozen=True)
class Change:
    """A film whose status or label another model changed."""

    key: str
    old_status: str
    old_label: str
    new_status: str
    new_label: str
    old_model: str
    new_model: str


def read_results(s3: Any, bucket: str, keys: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (upload key, result) for each upload that has a result; ``AT_ONCE`` are fetched side by side."""

    def read(key: str) -> tuple[str, dict[str, Any]] | None:
        try:
            body = s3.get_object(Bucket=bucket, Key=f"{RESULTS}{key}.json")["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None
        return key, json.loads(body)

    remaining = iter(keys)
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(remaining, AT_ONCE)):
            yield from filter(None, pool.map(read, part))


def changes(results: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Change]:
    """Yield the films whose status or label differs from that of the answer they supersede."""
    for key, result in results:
        old = result.get("supersedes")
        if old and (old["status"], old["label"]) != (result["status"], result["label"]):
            yield Change(
                key,
                old["status"],
                old["label"] or "none",
                result["status"],
                result["label"] or "none",
                old["model_sha256"],
                result["model"]["sha256"],
            )


def as_csv(found: list[Change]) -> bytes:
    """Return the changed films as CSV, one a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Change.__dataclass_fields__)
    writer.writerows([getattr(change, name) for name in Change.__dataclass_fields__] for change in found)
    return text.getvalue().encode()


def transitions(found: list[Change]) -> dict[str, int]:
    """Count the films by what changed, most frequent first: ``{"ok PNEUMONIA -> uncertain PNEUMONIA": 3}``."""
    counted = Counter(f"{c.old_status} {c.old_label} -> {c.new_status} {c.new_label}" for c in found)
    return dict(counted.most_common())
