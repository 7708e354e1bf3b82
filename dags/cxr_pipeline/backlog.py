"""What the live path has missed is found, and what became of it is told.

Keys may be patients' names: they are in manifests, which go when the run ends, and in its reports, never in its log.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, Any, TypedDict

from cxr import spreadsheet
from cxr.pointer import PointerStore
from cxr_pipeline import bundle, difference, results
from cxr_pipeline.difference import Change
from cxr_pipeline.ledger import LONGEST, Ledger, filled
from cxr_pipeline.manifests import Manifests, size_for
from cxr_pipeline.outcome import fail, headline
from cxr_pipeline.settings import Settings

POINTER_SECONDS = 60  # a warm function reads the pointer again after so long


class Part(TypedDict):
    """One manifest. expect_sha256: of the model that must answer, or None. started: when the run began (ISO 8601)."""

    manifest: str
    expect_sha256: str | None
    started: str


class Account(TypedDict):
    """What became of a run's films. transitions: of status and label, most frequent first."""

    changed: int
    transitions: dict[str, int]
    report: str


@dataclass(frozen=True)
class Again:
    """Which films another model has to answer: those answered before ``answered_before``, uploaded since ``since``."""

    model_sha256: str
    answered_before: datetime
    since: datetime | None


def again(s3: Any, models_bucket: str, params: dict[str, Any]) -> Again | None:
    """Return what `rescore` asks for; ends the task where a date or a model is missing.

    In mode `queue` it waits until every warm function has seen the promotion.
    """
    if params["rescore"] == "none":
        return None
    since = _since(params) if params["rescore"] == "since" else None
    champion = PointerStore(s3, models_bucket).read()
    if champion is None:
        fail("no model serves: there is nothing to classify again with")
    seen = datetime.fromisoformat(champion.pointer.promoted_at) + timedelta(seconds=POINTER_SECONDS)
    if params["mode"] == "queue":
        time.sleep(max(0.0, (seen - datetime.now(UTC)).total_seconds()))
    cutoff = seen + timedelta(seconds=params["function_timeout_seconds"])
    return Again(bundle.read(s3, champion.pointer.current).model_sha256, cutoff, since)


def _since(params: dict[str, Any]) -> datetime:
    if not params["since"]:
        fail("`rescore` is `since`, but no date is given in `since`")
    moment = datetime.fromisoformat(params["since"])
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def find(s3: Any, names: Settings, params: dict[str, Any], run: str, wanted: Again | None) -> list[Part]:
    """Join the listings of uploads and results, and write what is to be classified as manifests.

    Uploads that nobody can answer are listed in reports/<run>/unanswerable.csv, and stop nothing.
    """
    started = datetime.now(UTC).replace(microsecond=0)  # as S3 tells times
    settled = datetime.now(UTC) - timedelta(minutes=params["older_than_minutes"])
    with filled(s3, names.uploads_bucket, names.results_bucket, params["prefix"] or "") as ledger:
        keys = {"unanswered": lambda: ledger.unanswered(settled)}
        if wanted is not None:
            keys["again"] = lambda: ledger.outdated(wanted.answered_before, wanted.since)
        counts = {name: sum(1 for _ in found()) for name, found in keys.items()}
        size = size_for(sum(counts.values()), params["manifest_size"])
        folder = Manifests(s3, names.results_bucket, f"manifests/{run}/")
        manifests: list[str] = []
        for name, found in keys.items():
            manifests += folder.write(name, names.uploads_bucket, found(), size)
        uploads, answers = ledger.counts()
        _report_unanswerable(s3, names.results_bucket, run, list(ledger.unanswerable()))
    headline(f"{uploads} uploads, {answers} results; to classify: {counts}, in {len(manifests)} manifests")
    sha256 = wanted.model_sha256 if wanted else None
    return [{"manifest": manifest, "expect_sha256": sha256, "started": started.isoformat()} for manifest in manifests]


def _report_unanswerable(s3: Any, bucket: str, run: str, keys: list[str]) -> None:
    if not keys:
        return
    address = _put(
        s3, bucket, f"reports/{run}/unanswerable.csv",
        lambda out: spreadsheet.write(["key"], ([key] for key in keys), out),
    )  # fmt: skip
    headline(
        f"{len(keys)} uploads cannot be answered: their keys have more than {LONGEST} bytes, and their results' would "
        f"be longer than S3 allows; upload them again under shorter ones ({address})"
    )


def account(s3: Any, names: Settings, params: dict[str, Any], run: str, parts: list[Part]) -> Account:
    """Say what became of every film and delete the manifests; ends the task as failed where films have no answer."""
    manifests, keys = Manifests(s3, names.results_bucket, f"manifests/{run}/"), [part["manifest"] for part in parts]
    started, expect = datetime.fromisoformat(parts[0]["started"]), parts[0]["expect_sha256"]
    with filled(s3, names.uploads_bucket, names.results_bucket, params["prefix"] or "") as ledger:
        for key in keys:
            films = manifests.read(key)
            if films is None:
                fail("the manifests of this run are deleted: it was accounted for already; the next run finds the rest")
            ledger.add_wanted(film["key"] for film in films)
        missing = sum(1 for _ in ledger.missing())
        found = _changes(s3, names.results_bucket, ledger.rewritten(started))
        stale = _stale(s3, names.results_bucket, ledger, started, expect) if expect else 0
    report = f"reports/{run}/difference.csv"
    address = _put(s3, names.results_bucket, report, lambda out: difference.write_csv(found, out))
    transitions = difference.transitions(found)
    headline(f"{len(found)} films changed status or label: {transitions or 'none'} ({address})")
    manifests.delete(keys)
    if missing:
        fail(f"{missing} films have no answer; look at the backlog's dead-letter queue (the next run asks again)")
    if stale:
        fail(
            f"{stale} films still have another model's answer; look at the backlog's dead-letter queue and for "
            "model_refused in the function's log, then run this again"
        )
    return {"changed": len(found), "transitions": transitions, "report": report}


def _changes(s3: Any, bucket: str, keys: Iterable[str]) -> list[Change]:
    strange: Counter[str] = Counter()
    rows = results.rows(results.read(s3, bucket, keys), strange)
    found = [change for film, result in rows if (change := difference.change(film, result))]
    for why, number in strange.items():
        headline(f"{number} results are left out of the report: {why}")
    return found


def _stale(s3: Any, bucket: str, ledger: Ledger, started: datetime, sha256: str) -> int:
    """Count the films that another model than ``sha256`` has answered, before ``started``."""
    rows = results.rows(results.read(s3, bucket, ledger.untouched(started)), Counter())
    return sum(1 for film, _ in rows if film.model_sha256 != sha256)


def _put(s3: Any, bucket: str, key: str, write: Callable[[IO[bytes]], None]) -> str:
    """Put a CSV that ``write`` makes into the bucket; return its address."""
    with tempfile.TemporaryFile() as file:
        write(file)
        file.seek(0)
        s3.upload_fileobj(file, bucket, key, ExtraArgs={"ContentType": "text/csv; charset=utf-8"})
    return f"s3://{bucket}/{key}"
