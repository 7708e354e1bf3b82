"""Turn a radiologist's corrections into a new dataset version, ready for the next retraining.

`new_version` copies the dataset to its next version (`datasets/x/` -> `datasets/x-v2/`) and adds the corrected films to
its train split. The test split stays; an upload that is a test film is left out; a film that was in the other class
leaves it. When it fails, the message names the lines that cannot be used, and nothing was written; an interrupted
run is completed by another one with the same corrections. Full guide: docs/airflow.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from cxr_pipeline import corrections, dataset
from cxr_pipeline.clients import client
from cxr_pipeline.corrected_version import make_version
from cxr_pipeline.corrections import CorrectionsRefused
from cxr_pipeline.objects import find_bytes, split_uri
from cxr_pipeline.outcome import fail, headline
from cxr_pipeline.settings import settings

from cxr.dataset import PREFIX_OR_NONE

FORM = {
    "corrections": Param(
        "key,label\n", type="string", title="Corrections", format="multiline",
        description="CSV with the columns key and label (NORMAL or PNEUMONIA), pasted here; or its s3:// address.",
    ),
    "dataset": Param(
        None, type=["string", "null"], pattern=PREFIX_OR_NONE, title="Dataset to correct",
        description="Prefix with a slash at the end. Empty: the current one.",
    ),
    "use_it": Param(
        True, type="boolean", title="Retrain with it",
        description="Make the new version the current one, which `retrain` takes where its form names none.",
    ),
}  # fmt: skip


@dag(
    dag_id="correct_labels",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    params=FORM,
    default_args={"owner": "imaging", "retries": 0, "retry_delay": timedelta(seconds=30)},
    tags=["cxr", "training"],
)
def correct_labels() -> None:
    """Copy the dataset, add the corrected films to its train split."""
    new_version()


@task
def new_version() -> dict[str, Any]:
    """Write the next version of the dataset; nothing is written where a line of the corrections is wrong."""
    names, params, s3 = settings(), get_current_context()["params"], client("s3")
    base = params["dataset"] or dataset.current(s3, names.datasets_bucket)
    try:
        made = make_version(s3, names, base, corrections.read(_content(s3, params["corrections"])))
    except CorrectionsRefused as refused:
        fail(f"no new dataset version: {refused}")
    if params["use_it"]:
        dataset.make_current(s3, names.datasets_bucket, made.prefix)
    decision = made.decision
    moved = f"; moved out of the other class: {len(decision.moved)}" if decision.moved else ""
    there = f"; there from an interrupted run: {made.there}" if made.there else ""
    headline(
        f"{made.prefix}: {made.copied} films of {base} and {made.added} corrected ones{moved}{there}"
        f"{decision.left_out()}"
    )
    return {
        "prefix": made.prefix,
        "copied": made.copied,
        "added": made.added,
        "moved": len(decision.moved),
        "test_lines": list(decision.test_lines),
        "known_lines": list(decision.known_lines),
    }


def _content(s3: Any, given: str) -> bytes:
    """Return the CSV that was pasted, or that lies at the s3:// address that was given."""
    address = given.strip()
    if not address.startswith("s3://"):
        return given.encode()
    try:
        content = find_bytes(s3, *split_uri(address))
    except ValueError:
        content = None
    if content is None:
        raise CorrectionsRefused("there is no object at the s3:// address that was given")
    return content


correct_labels()
