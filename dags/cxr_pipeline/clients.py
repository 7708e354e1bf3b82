"""Every AWS client of the DAGs comes from Airflow's default AWS connection, so that one setting moves them all."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook


def client(service: str, **options: Any) -> Any:
    """Return a boto3 client of ``service`` made by Airflow's ``aws_default`` connection.

    ``options`` are botocore configuration values, for example ``read_timeout=900`` (seconds).
    """
    return AwsBaseHook(client_type=service, config=options or None).get_conn()


def promoting_s3(role_arn: str | None) -> Any:
    """Return an S3 client that may write the model pointer: the promote role's where one is set, else the worker's."""
    if not role_arn:
        return client("s3")
    credentials = client("sts").assume_role(RoleArn=role_arn, RoleSessionName="airflow-promote")["Credentials"]
    return (
        AwsBaseHook(client_type="s3")
        .get_session()
        .client(
            "s3",
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )
    )


def error_code(error: Exception) -> str:
    """Return the AWS error code of a boto3 ``ClientError`` (``PreconditionFailed``, ``412``, ...), or ``""``."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
