"""Every AWS client of the DAGs comes from Airflow's default AWS connection, so that one setting moves them all.

What S3 or the network says of a failure may quote a key, and a key may be a patient's name: errors keep their type,
code and operation, and lose the rest before Airflow logs them.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

UNSAID = "what was said of it is left out, for it may quote a key"


def client(service: str, **options: Any) -> Any:
    """Return a boto3 client of ``service`` made by Airflow's ``aws_default`` connection.

    ``options`` are botocore configuration values, for example ``read_timeout=900`` (seconds).
    """
    return _quiet(AwsBaseHook(client_type=service, config=options or None).get_conn())


def promoting_s3(role_arn: str | None) -> Any:
    """Return an S3 client that may write the model pointer: the promote role's where one is set, else the worker's."""
    if not role_arn:
        return client("s3")
    credentials = client("sts").assume_role(RoleArn=role_arn, RoleSessionName="airflow-promote")["Credentials"]
    return _quiet(
        AwsBaseHook(client_type="s3")
        .get_session()
        .client(
            "s3",
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )
    )


def _quiet(made: Any) -> Any:
    """Let an S3 client's errors quote nothing."""
    if made.meta.service_model.service_name == "s3":
        made.meta.events.register("after-call.s3", _quiet_answer, unique_id="quiet-answer")
        made.meta.events.register("after-call-error.s3", _quiet_fault, unique_id="quiet-fault")
    return made


def _quiet_answer(parsed: dict[str, Any], **_: Any) -> None:
    if "Error" in parsed:
        parsed["Error"] = {"Code": parsed["Error"].get("Code", "unknown"), "Message": UNSAID}


def _quiet_fault(exception: Exception, **_: Any) -> None:
    exception.args = (UNSAID,)
    exception.__cause__ = exception.__context__ = None
