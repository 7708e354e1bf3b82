"""A template applies as written, or its stack fails and says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from local_aws.cloudformation.stacks import references
from local_aws.server import LocalAWS

TEMPLATE = Path(__file__).with_name("small.yaml").read_text()


def create(aws: LocalAWS, name: str, template: str = TEMPLATE, **parameters: str) -> dict[str, str]:
    """Create a stack, wait, and return its outputs."""
    client = aws.client("cloudformation")
    listed = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    client.create_stack(StackName=name, TemplateBody=template, Parameters=listed)
    client.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    stack = client.describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


@pytest.fixture(scope="module")
def stack(local_aws: LocalAWS) -> Iterator[dict[str, str]]:
    yield create(local_aws, "small")


def test_a_bucket_gets_every_property_of_its_template(local_aws: LocalAWS, stack: dict[str, str]) -> None:
    s3, bucket = local_aws.client("s3"), {"Bucket": "tiny-uploads-bucket"}
    assert s3.get_bucket_versioning(**bucket)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values())
    rule = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["BucketKeyEnabled"] is True
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": stack["KeyArn"]}
    ownership = s3.get_bucket_ownership_controls(**bucket)["OwnershipControls"]["Rules"]
    assert ownership == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(**bucket)["Rules"]}
    assert rules["old"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rules["old"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["tmp"]["Expiration"]["Days"] == 3 and rules["tmp"]["Filter"]["Prefix"] == "tmp/"
    queues = s3.get_bucket_notification_configuration(**bucket)["QueueConfigurations"]
    assert queues[0]["Events"] == ["s3:ObjectCreated:*"]
    assert [r["Value"] for r in queues[0]["Filter"]["Key"]["FilterRules"]] == ["in/"]
    assert "aws:SecureTransport" in s3.get_bucket_policy(**bucket)["Policy"]
    logging = s3.get_bucket_logging(**bucket)["LoggingEnabled"]
    assert (logging["TargetBucket"], logging["TargetPrefix"]) == ("tiny-uploads-bucket", "log/")


def test_a_condition_of_a_bucket_policy_does_not_lock_everybody_out(local_aws: LocalAWS, stack: dict[str, str]) -> None:
    s3 = local_aws.client("s3")
    version = s3.put_object(Bucket="tiny-uploads-bucket", Key="elsewhere.txt", Body=b"text")["VersionId"]
    assert s3.get_object(Bucket="tiny-uploads-bucket", Key="elsewhere.txt")["VersionId"] == version


def test_an_upload_reaches_the_function_through_the_queue(
    local_aws: LocalAWS, stack: dict[str, str], eventually: Callable[..., Any]
) -> None:
    local_aws.client("s3").put_object(Bucket="tiny-uploads-bucket", Key="in/a film+1.jpeg", Body=b"film")
    logs = local_aws.client("logs")

    def saw() -> list[str]:
        events = logs.filter_log_events(logGroupName="/aws/lambda/tiny-classify")["events"]
        return [e["message"] for e in events if e["message"].startswith("saw") and "messageId" in e["message"]]

    assert eventually(saw)


def test_a_function_is_what_its_template_says(local_aws: LocalAWS, stack: dict[str, str]) -> None:
    client = local_aws.client("lambda")
    found = client.get_function(FunctionName="tiny-classify")
    configuration = found["Configuration"]
    assert configuration["PackageType"] == "Image"
    assert configuration["EphemeralStorage"] == {"Size": 1024}
    assert configuration["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": "/aws/lambda/tiny-classify"}
    assert (configuration["MemorySize"], configuration["Timeout"]) == (1769, 11)
    assert found["Concurrency"]["ReservedConcurrentExecutions"] == 7
    answer = client.invoke(FunctionName="tiny-classify", Payload=b"{}")
    assert json.loads(answer["Payload"].read())["colour"] == "tiny"


def test_policies_alarms_and_groups_exist(local_aws: LocalAWS, stack: dict[str, str]) -> None:
    attributes = local_aws.client("sqs").get_queue_attributes(QueueUrl=stack["QueueUrl"], AttributeNames=["All"])
    assert "s3.amazonaws.com" in attributes["Attributes"]["Policy"]
    assert attributes["Attributes"]["MessageRetentionPeriod"] == "345600"
    alarm = local_aws.client("cloudwatch").describe_alarms(AlarmNames=["tiny-dead-letters"])["MetricAlarms"][0]
    assert (alarm["Threshold"], alarm["TreatMissingData"], len(alarm["AlarmActions"])) == (0.0, "notBreaching", 1)
    topic = alarm["AlarmActions"][0]
    attributes = local_aws.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    assert "cloudwatch.amazonaws.com" in attributes["Policy"]
    group = local_aws.client("sagemaker").describe_model_package_group(ModelPackageGroupName="tiny-pneumonia")
    assert group["ModelPackageGroupArn"] == stack["GroupName"]
    policy = local_aws.client("kms").get_key_policy(KeyId=stack["KeyArn"], PolicyName="default")["Policy"]
    assert json.loads(policy)["Statement"][0]["Sid"] == "owner"
    lifecycle = local_aws.client("ecr").get_lifecycle_policy(repositoryName="tiny-inference")["lifecyclePolicyText"]
    assert json.loads(lifecycle)["rules"][0]["selection"]["countNumber"] == 10
    groups = local_aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/tiny-classify")["logGroups"]
    assert groups[0]["retentionInDays"] == 30


def test_queue_addresses_in_outputs_are_the_ones_the_service_answers_with(local_aws, stack) -> None:
    url = local_aws.client("sqs").get_queue_url(QueueName="tiny-uploads")["QueueUrl"]
    assert stack["QueueUrl"] == url and url.startswith(local_aws.endpoint)


def test_an_update_changes_what_a_parameter_reaches(local_aws: LocalAWS, unique: str) -> None:
    create(local_aws, unique, Project=unique)
    client = local_aws.client("cloudformation")
    template = TEMPLATE.replace("RetentionInDays: 30", "RetentionInDays: 90").replace(
        "VisibilityTimeout: 60", "VisibilityTimeout: 90\n      DelaySeconds: 2"
    )
    wanted = {"Project": unique, "Timeout": "22"}
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.items()]
    client.update_stack(StackName=unique, TemplateBody=template, Parameters=parameters)
    client.get_waiter("stack_update_complete").wait(StackName=unique, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    assert local_aws.client("lambda").get_function_configuration(FunctionName=f"{unique}-classify")["Timeout"] == 22
    groups = local_aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{unique}-classify")
    assert groups["logGroups"][0]["retentionInDays"] == 90
    url = local_aws.client("sqs").get_queue_url(QueueName=f"{unique}-uploads")["QueueUrl"]
    attributes = local_aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (attributes["VisibilityTimeout"], attributes["DelaySeconds"]) == ("90", "2")
    assert local_aws.client("s3").get_bucket_versioning(Bucket=f"{unique}-uploads-bucket")["Status"] == "Enabled"


def test_an_update_that_changes_nothing_is_refused_as_by_aws(local_aws: LocalAWS, stack: dict[str, str]) -> None:
    with pytest.raises(ClientError, match=r"No updates are to be performed\."):
        local_aws.client("cloudformation").update_stack(StackName="small", TemplateBody=TEMPLATE, Parameters=[])


def test_a_deleted_stack_leaves_nothing(local_aws: LocalAWS, unique: str) -> None:
    create(local_aws, unique, Project=unique)
    client = local_aws.client("cloudformation")
    client.delete_stack(StackName=unique)
    client.get_waiter("stack_delete_complete").wait(StackName=unique, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    assert not local_aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=unique)["MetricAlarms"]
    assert not local_aws.client("sqs").list_queues(QueueNamePrefix=unique).get("QueueUrls")
    assert f"{unique}-uploads-bucket" not in {b["Name"] for b in local_aws.client("s3").list_buckets()["Buckets"]}
    with pytest.raises(ClientError):
        local_aws.client("sagemaker").describe_model_package_group(ModelPackageGroupName=f"{unique}-pneumonia")


def test_an_unknown_type_is_refused_by_name(local_aws: LocalAWS, unique: str) -> None:
    template = json.dumps({"Resources": {"Film": {"Type": "AWS::Foo::Bar"}}})
    with pytest.raises(ClientError, match=r"Unrecognized resource types: \[AWS::Foo::Bar\]"):
        local_aws.client("cloudformation").create_stack(StackName=unique, TemplateBody=template)
    with pytest.raises(ClientError):
        local_aws.client("cloudformation").describe_stacks(StackName=unique)


def test_a_notification_that_the_queue_does_not_allow_fails_and_rolls_back(local_aws: LocalAWS, unique: str) -> None:
    template = TEMPLATE.replace("Service: s3.amazonaws.com", "Service: sns.amazonaws.com")
    with pytest.raises(WaiterError):
        create(local_aws, unique, template, Project=unique)
    client = local_aws.client("cloudformation")
    events = client.describe_stack_events(StackName=unique)["StackEvents"]
    failed = next(event for event in events if event["ResourceStatus"] == "CREATE_FAILED")
    assert (failed["LogicalResourceId"], failed["ResourceType"]) == ("Uploads", "AWS::S3::Bucket")
    assert "give the bucket a DependsOn" in failed["ResourceStatusReason"]
    assert client.describe_stacks(StackName=unique)["Stacks"][0]["StackStatus"] == "ROLLBACK_COMPLETE"
    assert f"{unique}-uploads-bucket" not in {b["Name"] for b in local_aws.client("s3").list_buckets()["Buckets"]}


def test_references_are_found_in_every_intrinsic() -> None:
    resource = {
        "A": {"Ref": "One"},
        "B": [{"Fn::Sub": "x-${Two}-${Three.Arn}-${!literal}"}, {"Fn::Sub": ["${Four}", {"v": {"Ref": "Five"}}]}],
    }
    assert {"One", "Two", "Three", "Four", "Five"} <= set(references(resource))
