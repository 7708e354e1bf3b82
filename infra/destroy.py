"""Nothing that holds data goes without being told twice: the base stack stays unless its data is to be deleted too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import boto3
from botocore.exceptions import ClientError

from infra import plan, stacks, terminal
from infra.config import Config
from infra.errors import Fault
from infra.session import client, is_local
from infra.stacks import Say
from infra.template import Place
from infra.versions import delete, versions

ATTEMPTS = 5  # to delete a bucket that is still written to
KEY_PENDING_DAYS = 30  # in which the key, and with it every backup of the data, can still be saved


def service(session: boto3.Session, config: Config, say: Say = terminal.say) -> None:
    """Deletes the service stack: nothing is classified any more, everything is kept, a deployment brings it back."""
    _, name = stacks.names(config)
    cloudformation = client(session, config, "cloudformation")
    if stacks.describe(cloudformation, name) is None:
        say(f"{name}: there is none")
        return
    say(f"{name}: deleting")
    stacks.delete(cloudformation, name)


def everything(session: boto3.Session, config: Config, say: Say = terminal.say) -> None:
    """Deletes both stacks and all data: films, results, models, data sets, images, logs; the key after 30 days.

    Raises:
        Fault: something could not be deleted; the command can be run again.
    """
    base, _ = stacks.names(config)
    cloudformation = client(session, config, "cloudformation")
    held = _held(session, config)
    service(session, config, say)
    _empty_group(session, config, held, say)
    for bucket in held["AWS::S3::Bucket"]:
        _empty_bucket(client(session, config, "s3"), bucket, say)
    if stacks.describe(cloudformation, base) is None:
        say(f"{base}: there is none")
    else:
        say(f"{base}: deleting")
        if not is_local(config):  # which protects nothing
            cloudformation.update_termination_protection(EnableTerminationProtection=False, StackName=base)
        stacks.delete(cloudformation, base)
    _remove_retained(session, config, held, say)


def _held(session: boto3.Session, config: Config) -> dict[str, list[str]]:
    """Names of what outlives the base stack, by type: read off the template, for the stack may be gone already."""
    account = client(session, config, "sts").get_caller_identity()["Account"]
    stack, _ = plan.rendered(config, Place(account=account, region=session.region_name))
    held: dict[str, list[str]] = {}
    for logical, resource in stack.resources.items():
        if "DeletionPolicy" in resource:
            held.setdefault(resource["Type"], []).append(stack.name(logical))
    described = {r["Properties"]["Description"] for r in stack.resources.values() if r["Type"] == "AWS::KMS::Key"}
    return held | {"AWS::KMS::Key": list(_keys(client(session, config, "kms"), described))}


def _keys(kms: Any, described: set[str]) -> Iterator[str]:
    """Keys with such a description, which AWS names by chance, that are not being deleted already."""
    for page in kms.get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            try:
                found = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "AccessDeniedException":
                    raise
                continue  # somebody else's: ours lets the account's administrators describe it
            if found.get("Description") in described and found["KeyState"] != "PendingDeletion":
                yield key["KeyId"]


def _remove_bucket(s3: Any, bucket: str, say: Say) -> None:
    """Deletes a bucket, and what has arrived since it was emptied."""
    for _ in range(ATTEMPTS):
        try:
            _gone(s3.delete_bucket, Bucket=bucket)
            return
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketNotEmpty":
                raise
        _empty_bucket(s3, bucket, say)
    raise Fault(
        f"s3://{bucket} was filled again {ATTEMPTS} times while it was being deleted; stop whoever writes there and "
        "run the command again"
    )


def _empty_bucket(s3: Any, bucket: str, say: Say) -> None:
    """Deletes every version in a bucket. The policy goes first: it would not let anybody delete the pointer."""
    _gone(s3.delete_bucket_policy, Bucket=bucket)
    try:
        deleted = delete(s3, bucket, versions(s3, bucket))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise
        return
    say(f"  s3://{bucket}: {deleted} object versions deleted")


def _empty_group(session: boto3.Session, config: Config, held: Mapping[str, list[str]], say: Say) -> None:
    """A model package group can be deleted only without packages."""
    sagemaker = client(session, config, "sagemaker")
    for group in held["AWS::SageMaker::ModelPackageGroup"]:
        pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group)
        try:
            packages = [p["ModelPackageArn"] for page in pages for p in page["ModelPackageSummaryList"]]
        except ClientError as error:
            if error.response["Error"]["Code"] not in _ABSENT:
                raise
            continue
        for package in packages:
            sagemaker.delete_model_package(ModelPackageName=package)
        say(f"  {group}: {len(packages)} model packages deleted")


def _remove_retained(session: boto3.Session, config: Config, held: Mapping[str, list[str]], say: Say) -> None:
    s3, ecr, logs = (client(session, config, service) for service in ("s3", "ecr", "logs"))
    for bucket in held["AWS::S3::Bucket"]:
        _remove_bucket(s3, bucket, say)
    for repository in held["AWS::ECR::Repository"]:
        _gone(ecr.delete_repository, repositoryName=repository, force=True)
    for group in held["AWS::SageMaker::ModelPackageGroup"]:
        _gone(client(session, config, "sagemaker").delete_model_package_group, ModelPackageGroupName=group)
    for log_group in held["AWS::Logs::LogGroup"]:
        _gone(logs.delete_log_group, logGroupName=log_group)
    for key in held["AWS::KMS::Key"]:
        _gone(client(session, config, "kms").schedule_key_deletion, KeyId=key, PendingWindowInDays=KEY_PENDING_DAYS)
        say(f"  key {key}: deleted in {KEY_PENDING_DAYS} days (`aws kms cancel-key-deletion --key-id {key}` saves it)")
    say("done: buckets, repositories, model registry group and log are gone")


_ABSENT = (
    "NoSuchBucket",
    "NoSuchBucketPolicy",
    "RepositoryNotFoundException",
    "ResourceNotFoundException",
    "ResourceNotFound",
    "NotFoundException",
    "ValidationException",
    "KMSInvalidStateException",
)


def _gone(call: Any, **arguments: Any) -> None:
    """Calls a deletion; that the thing is gone already is fine."""
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABSENT:
            raise
