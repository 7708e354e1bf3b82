"""The model registry keeps what an update does not name, and never gives a version twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.server import LocalAWS


@pytest.fixture
def group(local_aws: LocalAWS, unique: str) -> str:
    local_aws.client("sagemaker").create_model_package_group(ModelPackageGroupName=unique)
    return unique


@pytest.fixture
def register(local_aws: LocalAWS, group: str) -> Callable[..., str]:
    """Registers a package in the group and returns its ARN."""

    def create(**settings: Any) -> str:
        made = local_aws.client("sagemaker").create_model_package(ModelPackageGroupName=group, **settings)
        return made["ModelPackageArn"]

    return create


def describe(aws: LocalAWS, arn: str) -> dict[str, Any]:
    return aws.client("sagemaker").describe_model_package(ModelPackageName=arn)


def test_a_package_waits_for_approval_unless_it_says_otherwise(local_aws, register) -> None:
    assert describe(local_aws, register())["ModelApprovalStatus"] == "PendingManualApproval"
    assert describe(local_aws, register(ModelApprovalStatus="Rejected"))["ModelApprovalStatus"] == "Rejected"


def test_an_approval_keeps_the_metadata_and_a_metadata_update_keeps_the_approval(local_aws, register) -> None:
    client, arn = local_aws.client("sagemaker"), register(CustomerMetadataProperties={"sha256": "abc"})
    client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="good")
    client.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties={"gate": "passed"})
    found = describe(local_aws, arn)
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Approved", "good")
    assert found["CustomerMetadataProperties"] == {"sha256": "abc", "gate": "passed"}
    client.update_model_package(ModelPackageArn=arn, CustomerMetadataPropertiesToRemove=["sha256"])
    assert describe(local_aws, arn)["CustomerMetadataProperties"] == {"gate": "passed"}


def test_a_group_is_created_once(local_aws, group) -> None:
    with pytest.raises(ClientError, match="already exists"):
        local_aws.client("sagemaker").create_model_package_group(ModelPackageGroupName=group)


def test_a_deleted_version_is_gone_and_leaves_the_others(local_aws, register) -> None:
    first, second = register(), register()
    assert [arn.rsplit("/", 1)[1] for arn in (first, second)] == ["1", "2"]
    local_aws.client("sagemaker").delete_model_package(ModelPackageName=first)
    assert describe(local_aws, second)["ModelPackageVersion"] == 2
    with pytest.raises(ClientError):
        describe(local_aws, first)


def test_a_group_goes_only_when_it_is_empty(local_aws, group, register) -> None:
    client, arn = local_aws.client("sagemaker"), register()
    with pytest.raises(ClientError, match="still holds 1 model packages"):
        client.delete_model_package_group(ModelPackageGroupName=group)
    client.delete_model_package(ModelPackageName=arn)
    client.delete_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(ClientError):
        client.describe_model_package_group(ModelPackageGroupName=group)
