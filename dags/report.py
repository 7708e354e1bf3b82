"""Write the worklist for readers and the oversight figures for those who answer for the model.

* `write`: worklist.html, worklist.csv and oversight.json under reports/<run>/ and reports/latest/. *If it fails:*
  clear it.
* `alarm`: tells the alarm topic which figures left their limits, and emits the Asset `cxr-drift`; skipped while all
  are kept. *If it fails:* the topic cannot be reached; clear it.

An alarm on PSI, OOD distance or abstention asks for local recalibration: other devices, projections or ages than
those of the training. Full guide: docs/airflow.md.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from cxr_pipeline import bundle, oversight, results, worklist
from cxr_pipeline.answers import Answers
from cxr_pipeline.assets import DRIFT
from cxr_pipeline.clients import client
from cxr_pipeline.naming import run_key
from cxr_pipeline.objects import find_bytes, listing, read_json, write_json
from cxr_pipeline.outcome import headline, skip
from cxr_pipeline.settings import Settings, settings
from cxr_pipeline.smoke import PREFIX as SMOKE_PREFIX

from cxr.pointer import PointerStore
from cxr.result import HEATMAPS, RESULTS

LATEST = "reports/latest/"
CONTENT_TYPES = {"worklist.html": "text/html; charset=utf-8", "worklist.csv": "text/csv; charset=utf-8"}


def _limit(default: float, title: str, text: str) -> Param:
    return Param(default, type="number", minimum=0, title=title, description=text, section="Limits")


FORM = {
    "days": Param(7, type="number", minimum=0, title="Days", description="Answers of so many days; 0 for all."),
    "prefix": Param(
        None, type=["string", "null"], title="Prefix", description="Only uploads below it, for example ward-3/.",
    ),
    "rows": Param(2000, type="integer", minimum=1, maximum=20000, title="Films on the page",
                  description="The most urgent ones; the CSV has all."),
    "pictures": Param(200, type="integer", minimum=0, maximum=2000, title="Heat maps on the page",
                      description="Of the most urgent films; about 0.1 MB each."),
    "min_films": Param(50, type="integer", minimum=1, title="Fewest films", section="Limits",
                       description="Fewer give no alarm."),
    "max_psi": _limit(0.25, "PSI at most", "Of the probability against the serving model's calibration films."),
    "max_ood_drift": _limit(1.0, "OOD drift at most", "Of the mean distance, in standard deviations."),
    "max_abstention": _limit(0.5, "Abstention at most", "Share uncertain or out of distribution."),
    "max_unreadable": _limit(0.05, "Unreadable at most", "Share of all films."),
    "min_positive_rate": _limit(0.02, "Positive rate at least", "Share labelled PNEUMONIA."),
    "max_positive_rate": _limit(0.95, "Positive rate at most", "Share labelled PNEUMONIA."),
}  # fmt: skip


@dag(
    dag_id="report",
    doc_md=__doc__,
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=FORM,
    default_args={"owner": "imaging", "retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["cxr", "oversight"],
)
def report() -> None:
    """Write the worklist and the figures; raise an alarm where one leaves its limit."""
    written: Any = write()
    alarm(written)


@task
def write() -> dict[str, Any]:
    """Read the answers of the period and write worklist.html, worklist.csv and oversight.json."""
    context, names = get_current_context(), settings()
    params, s3 = context["params"], client("s3")
    model, reference = _serving(s3, names.models_bucket)
    folder = f"reports/{run_key(context['dag_run'])}/"
    with tempfile.TemporaryDirectory() as scratch, Answers(Path(scratch) / "answers.sqlite") as answers:
        found, strange = results.read(s3, names.results_bucket, _keys(s3, names.results_bucket, params)), Counter[str]()
        answers.add(row for row, _ in results.rows(found, strange))
        limits = oversight.Limits.from_params(params)
        counts, figures = oversight.figures(answers, reference, model["sha256"] if model else "", limits)
        pages = {name: Path(scratch) / name for name in CONTENT_TYPES}
        with pages["worklist.csv"].open("wb") as out:
            worklist.write_csv(answers, out)
        with pages["worklist.html"].open("wb") as out:
            heading = worklist.Heading("Chest X-ray worklist", _subtitle(counts, model, params["days"]))
            extent = worklist.Extent(params["rows"], params["pictures"])
            worklist.write_html(
                answers, figures, lambda key: _picture(s3, names.results_bucket, key), out, heading, extent
            )
        _publish(s3, names, folder, pages, oversight.document(counts, figures, model))
    headline(f"{counts['films']} films {counts['statuses']}: s3://{names.results_bucket}/{LATEST}worklist.html")
    for why, number in strange.items():
        headline(f"{number} results are left out: {why}")
    for figure in figures:
        print(oversight.sentence(figure))
    breached = [oversight.sentence(figure) for figure in figures if figure.breached]
    return {"folder": folder, "films": counts["films"], "breached": breached}


def _serving(s3: Any, models_bucket: str) -> tuple[dict[str, str] | None, dict[str, Any] | None]:
    """Return ({"version", "sha256"}, reference) of the serving model, or (None, None)."""
    seen = PointerStore(s3, models_bucket).read()
    if seen is None:
        return None, None
    champion = seen.pointer.current
    metrics = read_json(s3, champion.bucket, champion.beside("metrics.json"))
    return {"version": champion.version, "sha256": bundle.read(s3, champion).model_sha256}, metrics.get("reference")


def _keys(s3: Any, results_bucket: str, params: dict[str, Any]) -> Iterator[str]:
    """Yield the upload keys of the period's results; the golden films of smoke tests are not of patients."""
    since = datetime.now(UTC) - timedelta(days=params["days"]) if params["days"] else None
    for item in listing(s3, results_bucket, RESULTS + (params["prefix"] or "")):
        key = item["Key"].removeprefix(RESULTS)
        recent = since is None or item["LastModified"] >= since
        if recent and key.endswith(".json") and not key.startswith(SMOKE_PREFIX):
            yield key.removesuffix(".json")


def _picture(s3: Any, results_bucket: str, key: str) -> bytes | None:
    """Return a heat map, or None; a result can name no other object of the bucket."""
    return find_bytes(s3, results_bucket, key) if key.startswith(HEATMAPS) else None


def _subtitle(counts: dict[str, Any], model: dict[str, str] | None, days: float) -> str:
    serving = f"model {model['version']} serves" if model else "no model serves"
    period = f"the last {days:g} days" if days else "all time"
    return f"{counts['films']} films of {period}; {serving}; made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _publish(s3: Any, names: Settings, folder: str, pages: dict[str, Path], figures: dict[str, Any]) -> None:
    """Put the pages and figures under the run's folder and, for a bookmark, under reports/latest/."""
    for place in (folder, LATEST):
        for name, path in pages.items():
            extra = {"ContentType": CONTENT_TYPES[name], "CacheControl": "no-store"}
            s3.upload_file(str(path), names.results_bucket, place + name, ExtraArgs=extra)
        write_json(s3, names.results_bucket, f"{place}oversight.json", figures)


@task(outlets=[DRIFT])
def alarm(written: dict[str, Any]) -> list[str]:
    """Tell the alarm topic which figures left their limits; skipped (and nothing is triggered) while all are kept."""
    breached = written["breached"]
    if not breached:
        skip("every figure is within its limit")
    names = settings()
    client("sns").publish(
        TopicArn=names.alarm_topic_arn,
        Subject="Chest X-ray pipeline: oversight figures left their limits",
        Message="\n".join([*breached, f"s3://{names.results_bucket}/{written['folder']}worklist.html"]),
    )
    headline("; ".join(breached))
    return list(breached)


report()
