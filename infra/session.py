"""One way to reach AWS, the same for the real one and the local one: a session, and clients that know the endpoint."""

from __future__ import annotations

import os
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config as ClientConfig

from infra.config import Config
from infra.errors import Fault

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def endpoint(config: Config) -> str:
    """The endpoint other than AWS itself that calls go to, or an empty text."""
    return config.endpoint_url or os.environ.get("AWS_ENDPOINT_URL", "")


def is_local(config: Config) -> bool:
    """Whether calls go to the local AWS on this machine."""
    return urlsplit(endpoint(config)).hostname in _LOOPBACK


def open_session(config: Config) -> boto3.Session:
    """A session with a region and credentials; the local AWS takes any.

    Raises:
        Fault: no region, no such profile, or no credentials.
    """
    from botocore.exceptions import ProfileNotFound

    try:
        session = boto3.Session(profile_name=config.profile or None, region_name=config.region or None)
    except ProfileNotFound as error:
        raise Fault(f"{error}; see `aws configure list-profiles`, or correct `profile`") from error
    if is_local(config):
        region = session.region_name or "us-east-1"
        if session.get_credentials() is None:
            return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region)
        return (
            session if session.region_name else boto3.Session(profile_name=config.profile or None, region_name=region)
        )
    if not session.region_name:
        raise Fault("No AWS region is set; set `region` in infra.toml, pass --region, or export AWS_DEFAULT_REGION")
    if session.get_credentials() is None:
        raise Fault(
            "No AWS credentials were found; run `aws configure` or `aws sso login`, or set `profile`. "
            "For the local AWS pass --endpoint-url http://127.0.0.1:PORT"
        )
    return session


def client(session: boto3.Session, config: Config, service: str) -> Any:
    """The session's client of `service` at the configured endpoint; made once, safe to share between threads."""
    return _client(session, service, endpoint(config), 1 if is_local(config) else 5)


@cache
def _client(session: boto3.Session, service: str, endpoint_url: str, attempts: int) -> Any:
    tries = ClientConfig(retries={"mode": "standard", "max_attempts": attempts}, max_pool_connections=32)
    return session.client(service, endpoint_url=endpoint_url or None, config=tries)
