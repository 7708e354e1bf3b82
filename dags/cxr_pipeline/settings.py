"""The Airflow Variable ``cxr`` says where everything is; it is read when a task runs, never when a DAG is parsed."""

from __future__ import annotations

from dataclasses import dataclass, fields

from airflow.sdk import Variable

from cxr_pipeline.outcome import fail


@dataclass(frozen=True)
class Settings:
    """Names of the deployed resources, as ``infra.settings.airflow_settings`` writes them."""

    datasets_bucket: str
    uploads_bucket: str
    results_bucket: str
    models_bucket: str
    training_role_arn: str
    training_image: str
    inference_image: str
    model_package_group: str
    function_name: str
    uploads_queue_url: str
    backlog_queue_url: str
    alarm_topic_arn: str
    kms_key_arn: str = ""
    promote_role_arn: str = ""
    project: str = "cxr"


def settings() -> Settings:
    """Read the Variable ``cxr``; raise AirflowFailException that names what is missing."""
    values = Variable.get("cxr", default={}, deserialize_json=True)
    known = {field.name for field in fields(Settings)}
    missing = sorted(known - set(values) - {"kms_key_arn", "promote_role_arn"})
    if missing:
        fail(
            f"the Airflow Variable `cxr` lacks {', '.join(missing)}; write it with `python -m infra settings` "
            "(docs/airflow.md)"
        )
    return Settings(**{name: value or "" for name, value in values.items() if name in known})
