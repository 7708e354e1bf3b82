"""When ``retrain`` runs: the Variable ``retrain_schedule``, the one thing that a DAG file reads while it is parsed."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Variable

DEFAULT = "@weekly"


def retrain_schedule() -> Any:
    """Return the schedule: a cron expression or preset, or None for ``none``; weekly where no Variable can be read."""
    try:
        chosen = str(Variable.get("retrain_schedule", default=DEFAULT)).strip()
    except Exception:  # a parser without a database must show the same DAG
        chosen = DEFAULT
    return None if chosen.lower() in ("", "none", "null") else chosen
