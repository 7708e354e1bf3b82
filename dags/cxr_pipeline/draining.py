"""Waiting for a queue holds no worker and says how far it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator

from cxr_pipeline import submission
from cxr_pipeline.clients import client
from cxr_pipeline.outcome import fail
from cxr_pipeline.settings import settings

# Beyond the longest wait of the form (168 h); Airflow's own default would end a sensor after a week.
LONGEST = timedelta(days=8)


class DrainSensor(BaseSensorOperator):
    """Ends when the backlog queue is empty; fails ``wait_hours`` (a parameter) after the run's start.

    SQS' counts are approximate until about a minute after the last message was sent: an empty queue is believed only
    ``settle_seconds`` (a parameter) after the first look.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(mode="reschedule", timeout=LONGEST.total_seconds(), **kwargs)

    def execute(self, context: Any) -> Any:
        self.poke_interval = float(context["params"]["check_interval"])
        return super().execute(context)

    def poke(self, context: Any) -> bool:
        params = context["params"]
        if params["mode"] == "direct":
            return True
        left = submission.waiting(client("sqs"), settings().backlog_queue_url)
        self.log.info("headline: the backlog queue holds about %d messages", left)
        if left and datetime.now(UTC) > context["dag_run"].start_date + timedelta(hours=params["wait_hours"]):
            fail(f"the backlog queue still holds {left} messages after {params['wait_hours']:g} h")
        if left or not params["settle_seconds"]:
            return left == 0
        first = context["ti"].get_first_reschedule_date(context)
        return first is not None and datetime.now(UTC) >= first + timedelta(seconds=params["settle_seconds"])
