"""Classify what the live path has missed, and on demand what another model should look at again.

* `find`: joins the listings of uploads and results on disk; writes manifests, and reports/<run>/unanswerable.csv where
  keys are too long for a result. *If it fails:* nothing was submitted; clear it.
* `submit`: one mapped task per manifest: messages of ten films, or calls until nothing is unfinished. *If it fails:*
  clear the failed ones: what is answered is skipped.
* `drain`: waits until the backlog queue is empty. *If it fails:* the wait was too short, or the function fails: look
  at its alarms.
* `account`: fails while a film has no answer; writes reports/<run>/difference.csv and deletes the manifests. *If it
  fails:* look at the backlog's dead-letter queue; the next run asks again.

After a promotion set `rescore`. `queue` leaves live uploads their own concurrency; `direct` is for a few hundred films
at once. Full guide: docs/airflow.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from cxr_pipeline import backlog, submission
from cxr_pipeline.backlog import Account, Part
from cxr_pipeline.clients import client
from cxr_pipeline.draining import DrainSensor
from cxr_pipeline.naming import run_key
from cxr_pipeline.objects import read_json
from cxr_pipeline.outcome import headline, skip
from cxr_pipeline.settings import settings

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
    found: Any = find()
    submit.expand(part=found) >> DrainSensor(task_id="drain", retries=0) >> account(found)


@task
def find() -> list[Part]:
    """Join the listings of uploads and results, and write what is to be classified as manifests."""
    context, names, s3 = get_current_context(), settings(), client("s3")
    params = context["params"]
    queued = submission.waiting(client("sqs"), names.backlog_queue_url)
    if params["mode"] == "queue" and queued:
        skip(f"the backlog queue still holds {queued} messages: they are answered first")
    wanted = backlog.again(s3, names.models_bucket, params)
    return backlog.find(s3, names, params, run_key(context["dag_run"]), wanted)


@task(max_active_tis_per_dagrun=4, map_index_template="{{ task.op_kwargs['part']['manifest'] }}")
def submit(part: Part) -> dict[str, int]:
    """Bring one manifest to the function: as messages of ten films, or by calls until nothing is unfinished."""
    names = settings()
    if get_current_context()["params"]["mode"] == "queue":
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
def account(parts: list[Part]) -> Account:
    """Say what became of every film: unanswered ones fail the run, changed ones go into the difference report."""
    context = get_current_context()
    return backlog.account(client("s3"), settings(), context["params"], run_key(context["dag_run"]), list(parts))


classify_backlog()
