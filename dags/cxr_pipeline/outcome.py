"""How a task tells its outcome: one headline in its log, and no retry where a retry cannot help."""

from __future__ import annotations

from typing import Any, NoReturn

try:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # Airflow 3.0
    from airflow.exceptions import AirflowFailException, AirflowSkipException  # type: ignore[no-redef,assignment]

__all__ = ["AirflowFailException", "AirflowSkipException", "fail", "headline", "skip", "state_of"]


def headline(text: str) -> None:
    """Print the one line of a task's log that an operator should read."""
    print(f"headline: {text}")


def fail(text: str) -> NoReturn:
    """End the task as failed, without a retry."""
    headline(text)
    raise AirflowFailException(text)


def skip(text: str) -> NoReturn:
    """End the task as skipped, and with it what depends on it."""
    headline(text)
    raise AirflowSkipException(text)


def state_of(context: Any, task_id: str) -> str | None:
    """Return the state of another task of this run. A cleared run keeps what its earlier tries have returned."""
    run_id = context["run_id"]
    states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, task_ids=[task_id], run_ids=[run_id])
    found: str | None = states.get(run_id, {}).get(task_id)
    return found
