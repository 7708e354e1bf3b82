"""A model waits for a person in the registry, not in Airflow: whoever may approve there needs no Airflow account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator

from cxr_pipeline import registry
from cxr_pipeline.clients import client
from cxr_pipeline.outcome import fail, headline

# Beyond the longest wait of the form (720 h); Airflow's own default would end a sensor after a week.
LONGEST = timedelta(days=31)


class ApprovalSensor(BaseSensorOperator):
    """Ends when the model package ``package_arn`` is approved; fails where it is refused or nobody decides in time.

    With the run's parameter ``approval`` = automatic it approves the package itself. The clock of
    ``approval_timeout_hours`` starts at ``pending_since`` (ISO 8601), so that it survives a restarted worker.
    """

    template_fields = ("package_arn", "pending_since")

    def __init__(self, *, package_arn: Any, pending_since: Any, **kwargs: Any) -> None:
        super().__init__(mode="reschedule", timeout=LONGEST.total_seconds(), **kwargs)
        self.package_arn = package_arn
        self.pending_since = pending_since

    def execute(self, context: Any) -> Any:
        self.poke_interval = float(context["params"]["check_interval"])
        return super().execute(context)

    def poke(self, context: Any) -> bool:
        params, sagemaker = context["params"], client("sagemaker")
        version = registry.version(self.package_arn)
        decision, reason = registry.status(sagemaker, self.package_arn)
        if decision == "Approved":
            headline(f"model package {version} is approved: {reason or 'no reason given'}")
            return True
        if decision == "Rejected":
            fail(f"model package {version} was refused: {reason or 'no reason given'}")
        if params["approval"] == "automatic":
            registry.decide(sagemaker, self.package_arn, "Approved", f"approved by the gate in run {context['run_id']}")
            return True
        hours = float(params["approval_timeout_hours"])
        if datetime.now(UTC) > datetime.fromisoformat(self.pending_since) + timedelta(hours=hours):
            fail(
                f"nobody approved model package {version} within {hours:g} h; it stays pending: approve it in the "
                "registry and trigger the run again (no GPU is paid for twice)"
            )
        self.log.info("model package %s waits for approval: %s", version, self.package_arn)
        return False
