"""When ``retrain`` runs: the Variable ``retrain_schedule``, the one thing that a DAG file reads while it is parsed."""

from __future__ import annotations

from typing import Any, cast

from airflow.sdk import Variable
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

from cxr_pipeline.assets import DRIFT

DEFAULT = "@weekly"
ON_DRIFT = "drift"


def retrain_schedule() -> Any:
    """Return the schedule that the Variable asks for; weekly where no Variable can be read.

    ``none``: by hand only. ``drift``: when the report raises an alarm. A cron expression or preset, alone or followed
    by ``or drift``: then, and when the report raises an alarm.
    """
    try:
        chosen = str(Variable.get("retrain_schedule", default=DEFAULT)).strip()
    except Exception:  # a parser without a database must show the same DAG
        chosen = DEFAULT
    return schedule_of(chosen)


def schedule_of(text: str) -> Any:
    """Turn the Variable's text into what ``@dag(schedule=...)`` takes."""
    time, _, asset = text.partition(" or ")
    if text.lower() in ("", "none", "null"):
        return None
    if text == ON_DRIFT:
        return [DRIFT]
    if not asset:
        return time
    if asset.strip() != ON_DRIFT:
        raise ValueError(f"retrain_schedule is {text!r}; after `or` only `{ON_DRIFT}` is known")
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(time.strip(), timezone="UTC"), assets=[cast(Any, DRIFT)])
