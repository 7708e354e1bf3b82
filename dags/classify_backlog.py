"""Classify what the live path has missed, and on demand what another model should look at again.

* `find`: joins the listings of uploads and results on disk; writes manifests. *If it fails:* nothing was submitted;
  clear it.
* `submit`: one mapped task per manifest: messages of ten films, or calls until nothing is unfinished. *If it fails:*
  clear the failed ones: what is answered is skipped.
* `drain`: waits until the backlog queue is empty. *If it fails:* the wait was too short, or the function fails: look
  at its alarms.
* `account`: fails while a film has no answer; writes reports/<run>/difference.csv. *If it fails:* look at the
  backlog's dead-letter queue; the next run asks again.

After a promotion set `rescore`. `queue` leaves live uploads their own concurrency; `direct` is for a few hundred films
at once. Full guide: docs/airflow.md.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from cxr_pipeline import backlog, bundle, difference, submission
from cxr_pipeline.clients import client
from cxr_pipeline.draining import DrainSensor
from cxr_pipeline.naming import run_key
from cxr_pipeline.objects import read_json
from cxr_pipeline.outcome import fail, headline, skip
from cxr_pipeline.settings import settings

from cxr.pointer import PointerStore

POINTER_SECONDS = 60  # a warm function reads the pointer again after so long

FORM = {
    "mode": Param(
        "queue", type="string", enum=["queue", "direct"], title="Way to the function",
        description="queue: the backlog queue, whose own concurrency leaves live uploads theirs. direct: calls of the "
        "function, a manifest each.",
    ),
    "rescore": Param(
        "none", type="string", enum=["none", "since", "all"], title="Classify again",
        description="Films that another model has answered: none, those uploaded since a date, or all.",
    ),
    "since": Param(
        None, type=["string", "null"], format="date-time", title="Uploaded since",
        description="For `since`: with time zone, for example 2026-11-01T00:00:00Z.",
    ),
    "prefix": Param(
        None, type=["string", "null"], title="Prefix", description="Only uploads below it, for example ward-3/.",
    ),
    "older_than_minutes": Param(
        12, type="number", minimum=0, maximum=10080, title="Older than (minutes)",
        description="Younger uploads are left to the live queue; its visibility timeout is 12 minutes.",
    ),
    "function_timeout_seconds": Param(
        120, type="integer", minimum=1, maximum=900, title="Function timeout (s)",
        description="An answer begun before a promotion may be written so much later.",
    ),
    "manifest_size": Param(
        300, type="integer", minimum=1, maximum=4000, title="Films in a manifest",
        description="One mapped task each. More than 1,000 manifests: they grow instead.",
    ),
    "wait_hours": Param(
        12, type="number", minimum=0, maximum=168, title="Wait at most (hours)",
        description="Until the backlog queue is empty.",
    ),
    "settle_seconds": Param(
        60, type="integer", minimum=0, maximum=3600, title="Believe an empty queue after (s)",
        description="SQS counts approximately until about a minute after the last message was sent.",
    ),
    "check_interval": Param(
        30, type="integer", minimum=1, maximum=600, title="Check every (s)",
        description="Between two looks at the queue.",
    ),
}  # fmt: skip


@dag(
    dag_id="classify_backlog",
    doc_md=__doc__,
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=FORM,
    default_args={"owner": "imaging", "retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["cxr", "inference"],
)
def classify_backlog() -> None:
    """Find, submit, wait, account for every film."""
    found = find()
    submit.expand(part=found) >> DrainSensor(task_id="drain", retries=0) >> account(found)


@task
def find() -> list[dict[str, Any]]:
    """Join the listings of uploads and results, and write what is to be classified as manifests."""
    context, names = get_current_context(), settings()
    params, s3 = context["params"], client("s3")
    queued = submission.waiting(client("sqs"), names.backlog_queue_url)
    if params["mode"] == "queue" and queued:
        skip(f"the backlog queue still holds {queued} messages: they are answered first")
    started = datetime.now(UTC).replace(microsecond=0)  # as S3 tells times
    expect, cutoff = _champion(s3, names.models_bucket, params)
    settled = datetime.now(UTC) - timedelta(minutes=params["older_than_minutes"])
    folder = f"manifests/{run_key(context['dag_run'])}/"
    with tempfile.TemporaryDirectory() as scratch, backlog.Ledger(Path(scratch) / "ledger.sqlite") as ledger:
        backlog.fill(ledger, s3, names.uploads_bucket, names.results_bucket, params["prefix"] or "")
        wanted = {"unanswered": (lambda: ledger.unanswered(settled))}
        if cutoff is not None:
            wanted["again"] = lambda: ledger.outdated(cutoff, _since(params))
        counts = {name: sum(1 for _ in keys()) for name, keys in wanted.items()}
        manifests: list[str] = []
        for name, keys in wanted.items():
            manifests += backlog.write_manifests(
                s3, names.results_bucket, f"{folder}{name}/", names.uploads_bucket, keys(), params["manifest_size"],
                sum(counts.values()),
            )  # fmt: skip
        uploads, results = ledger.counts()
    headline(f"{uploads} uploads, {results} results; to classify: {counts}, in {len(manifests)} manifests")
    part = {"expect_sha256": expect, "started": started.isoformat()}
    return [{**part, "manifest": manifest} for manifest in manifests]


def _since(params: dict[str, Any]) -> datetime | None:
    """Return the date of `rescore` = since; fail where it is missing."""
    if params["rescore"] == "all":
        return None
    if not params["since"]:
        fail("`rescore` is `since`, but no date is given in `since`")
    moment = datetime.fromisoformat(params["since"])
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _champion(s3: Any, models_bucket: str, params: dict[str, Any]) -> tuple[str | None, datetime | None]:
    """Return (the serving model's sha256, the time before which an answer may be another model's).

    Both are None unless films are to be classified again. Waits until every warm function has seen the promotion.
    """
    if params["rescore"] == "none":
        return None, None
    champion = PointerStore(s3, models_bucket).read()
    if champion is None:
        fail("no model serves: there is nothing to classify again with")
    promoted = datetime.fromisoformat(champion.pointer.promoted_at)
    seen = promoted + timedelta(seconds=POINTER_SECONDS)
    if params["mode"] == "queue":
        time.sleep(max(0.0, (seen - datetime.now(UTC)).total_seconds()))
    cutoff = seen + timedelta(seconds=params["function_timeout_seconds"])
    return bundle.read(s3, champion.pointer.current).model_sha256, cutoff


@task(max_active_tis_per_dagrun=4, map_index_template="{{ task.op_kwargs['part']['manifest'] }}")
def submit(part: dict[str, Any]) -> dict[str, int]:
    """Bring one manifest to the function: as messages of ten films, or by calls until nothing is unfinished."""
    context, names = get_current_context(), settings()
    if context["params"]["mode"] == "queue":
        objects = read_json(client("s3"), names.results_bucket, part["manifest"])["objects"]
        messages = submission.enqueue(client("sqs"), names.backlog_queue_url, objects)
        headline(f"{len(objects)} films in {messages} messages")
        return {"queued": len(objects)}
    function = client("lambda", read_timeout=900, retries={"max_attempts": 0})
    uri = f"s3://{names.results_bucket}/{part['manifest']}"
    counts = submission.invoke(function, names.function_name, uri, part["expect_sha256"])
    headline(f"{counts['done']} classified, {counts['skipped']} were current, {counts['failed']} failed")
    return counts


@task
def account(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Say what became of every film: unanswered ones fail the run, changed ones go into the difference report."""
    context, names = get_current_context(), settings()
    s3, key = client("s3"), run_key(context["dag_run"])
    with tempfile.TemporaryDirectory() as scratch, backlog.Ledger(Path(scratch) / "ledger.sqlite") as ledger:
        backlog.fill(ledger, s3, names.uploads_bucket, names.results_bucket, context["params"]["prefix"] or "")
        for part in parts:
            objects = read_json(s3, names.results_bucket, part["manifest"])["objects"]
            ledger.add_wanted(item["key"] for item in objects)
        started, expect = datetime.fromisoformat(parts[0]["started"]), parts[0]["expect_sha256"]
        missing = sum(1 for _ in ledger.missing())
        rewritten = ledger.rewritten(started)
        found = list(difference.changes(difference.read_results(s3, names.results_bucket, rewritten)))
        untouched = difference.read_results(s3, names.results_bucket, ledger.untouched(started)) if expect else ()
        stale = sum(1 for _, result in untouched if result["model"]["sha256"] != expect)
    report = f"reports/{key}/difference.csv"
    s3.put_object(Bucket=names.results_bucket, Key=report, Body=difference.as_csv(found), ContentType="text/csv")
    transitions = difference.transitions(found)
    headline(
        f"{len(found)} films changed status or label: {transitions or 'none'} (s3://{names.results_bucket}/{report})"
    )
    if missing:
        fail(f"{missing} films have no answer; look at the backlog's dead-letter queue (the next run asks again)")
    if stale:
        fail(
            f"{stale} films still have another model's answer; look at the backlog's dead-letter queue and for "
            "model_refused in the function's log, then run this again"
        )
    return {"changed": len(found), "transitions": transitions, "report": report}


classify_backlog()
