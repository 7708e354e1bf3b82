"""How a task tells its outcome: one headline in its log, and no retry where a retry cannot help."""

from __future__ import annotations

from typing import NoReturn

try:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # Airflow 3.0
    from airflow.exceptions import AirflowFailException, AirflowSkipException

__all__ = ["AirflowFailException", "AirflowSkipException", "fail", "headline", "skip"]


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
