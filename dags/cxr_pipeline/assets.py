"""What one DAG tells another."""

from __future__ import annotations

from airflow.sdk import Asset

DRIFT = Asset(name="cxr-drift", uri="cxr://oversight/alarm")
"""The oversight figures left their limits; ``retrain`` starts on it where ``retrain_schedule`` says so."""
