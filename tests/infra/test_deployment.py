"""The very files of infra/ are deployed on the local AWS, and every property is compared with what was created."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from infra import stacks as infra_stacks
from infra.config import Config
from infra.plan import rendered
from infra.session import open_session
from infra.settings import airflow_settings
from infra.template import Place
from local_aws.server import ACCOUNT, REGION, LocalAWS

Properties = dict[str, Any]


def plan(config):
    """Both stacks as the local AWS gets them: every type and name is known without it."""
    registry = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    images = {"inference_image": f"{registry}/cxr-inference:local", "training_image": f"{registry}/cxr-training:local"}
    base, service = rendered(Config(**config | images), Place(account=ACCOUNT, region=REGION))
    return base.resources | service.resources


SETTINGS = {"region": REGION, "uploads_concurrency": 2, "backlog_concurrency": 2, "alarm_email": "duty@example.org"}
PLANNED = plan(SETTINGS)


@pytest.fixture(scope="module")
def aws():
    with LocalAWS() as local:
        yield local


@pytest.fixture(scope="module")
def config(aws):
    return Config(**SETTINGS, endpoint_url=aws.endpoint)


@pytest.fixture(scope="module")
def outputs(config):
    return infra_stacks.deploy(open_session(config), config, say=lambda line: None)


# ---------------------------------------------------------------- what was created, in the words of CloudFormation


def bucket(aws, given: Properties) -> Properties:
    s3, name = aws.client("s3"), given["BucketName"]
    encryption = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    announced = s3.get_bucket_notification_configuration(Bucket=name).get("QueueConfigurations", [])
    logging = s3.get_bucket_logging(Bucket=name).get("LoggingEnabled", {})
    return {
        "BucketName": name,
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {"ServerSideEncryptionByDefault": rule["ApplyServerSideEncryptionByDefault"]}
                | ({"BucketKeyEnabled": True} if rule.get("BucketKeyEnabled") else {})
                for rule in encryption
            ]
        },
        "PublicAccessBlockConfiguration": s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
        "OwnershipControls": {"Rules": s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]},
        "VersioningConfiguration": {"Status": s3.get_bucket_versioning(Bucket=name)["Status"]},
        "LoggingConfiguration": {
            "DestinationBucketName": logging.get("TargetBucket"),
            "LogFilePrefix": logging.get("TargetPrefix"),
        },
        "LifecycleConfiguration": {
            "Rules": [lifecycle(r) for r in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]]
        },
        "NotificationConfiguration": {
            "QueueConfigurations": [
                {"Event": event, "Queue": q["QueueArn"]} for q in announced for event in q["Events"]
            ]
        },
    }


def lifecycle(rule: Properties) -> Properties:
    found = {"Id": rule["ID"], "Status": rule["Status"]}
    if rule.get("Filter", {}).get("Prefix"):
        found["Prefix"] = rule["Filter"]["Prefix"]
    if "Expiration" in rule:
        found["ExpirationInDays"] = rule["Expiration"]["Days"]
    return found | {k: rule[k] for k in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload") if k in rule}


def bucket_policy(aws, given: Properties) -> Properties:
    policy = aws.client("s3").get_bucket_policy(Bucket=given["Bucket"])["Policy"]
    return {"Bucket": given["Bucket"], "PolicyDocument": json.loads(policy)}


def queue(aws, given: Properties) -> Properties:
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName=given["QueueName"])["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    for name in ("RedrivePolicy", "RedriveAllowPolicy"):
        if name in found:
            found[name] = json.loads(found[name])
    return found | {"QueueName": given["QueueName"]}


def queue_policy(aws, given: Properties) -> Properties:
    sqs, name = aws.client("sqs"), given["Queues"][0].rpartition("/")[2]
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    return {"Queues": given["Queues"], "PolicyDocument": json.loads(policy)}


def topic(aws, given: Properties) -> Properties:
    sns, arn = aws.client("sns"), f"arn:aws:sns:{REGION}:{ACCOUNT}:{given['TopicName']}"
    subscribed = sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    return {
        "TopicName": given["TopicName"],
        "KmsMasterKeyId": sns.get_topic_attributes(TopicArn=arn)["Attributes"].get("KmsMasterKeyId"),
        "Subscription": [{"Protocol": s["Protocol"], "Endpoint": s["Endpoint"]} for s in subscribed],
    }


def topic_policy(aws, given: Properties) -> Properties:
    (arn,) = given["Topics"]
    policy = aws.client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"]
    return {"Topics": given["Topics"], "PolicyDocument": json.loads(policy)}


def key(aws, given: Properties) -> Properties:
    kms = aws.client("kms")
    (alias,) = [a for a in kms.list_aliases()["Aliases"] if a["AliasName"] == "alias/cxr"]
    identity = alias["TargetKeyId"]
    return {
        "Description": kms.describe_key(KeyId=identity)["KeyMetadata"]["Description"],
        "EnableKeyRotation": kms.get_key_rotation_status(KeyId=identity)["KeyRotationEnabled"],
        "KeyPolicy": json.loads(kms.get_key_policy(KeyId=identity, PolicyName="default")["Policy"]),
        "PendingWindowInDays": given["PendingWindowInDays"],  # counts only when the key is deleted
    }


def alias(aws, given: Properties) -> Properties:
    (found,) = [a for a in aws.client("kms").list_aliases()["Aliases"] if a["AliasName"] == given["AliasName"]]
    return {"AliasName": found["AliasName"], "TargetKeyId": "<Key>" if found["TargetKeyId"] else None}


def repository(aws, given: Properties) -> Properties:
    ecr, name = aws.client("ecr"), given["RepositoryName"]
    (found,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    result = {
        "RepositoryName": name,
        "ImageTagMutability": found["imageTagMutability"],
        "ImageScanningConfiguration": {"ScanOnPush": found["imageScanningConfiguration"].get("scanOnPush")},
        "EncryptionConfiguration": {
            "EncryptionType": found["encryptionConfiguration"].get("encryptionType"),
            "KmsKey": found["encryptionConfiguration"].get("kmsKey"),
        },
        "LifecyclePolicy": {
            "LifecyclePolicyText": ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]
        },
    }
    if "RepositoryPolicyText" in given:
        result["RepositoryPolicyText"] = json.loads(ecr.get_repository_policy(repositoryName=name)["policyText"])
    return result


def group(aws, given: Properties) -> Properties:
    return aws.client("sagemaker").describe_model_package_group(ModelPackageGroupName=given["ModelPackageGroupName"])


def role(aws, given: Properties) -> Properties:
    iam, name = aws.client("iam"), given["RoleName"]
    policies = [
        {"PolicyName": p, "PolicyDocument": iam.get_role_policy(RoleName=name, PolicyName=p)["PolicyDocument"]}
        for p in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    return {"RoleName": name, "AssumeRolePolicyDocument": trust, "Policies": policies}


def log_group(aws, given: Properties) -> Properties:
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix=given["LogGroupName"])["logGroups"]
    (found,) = [g for g in groups if g["logGroupName"] == given["LogGroupName"]]
    return {
        "LogGroupName": found["logGroupName"],
        "RetentionInDays": found["retentionInDays"],
        "KmsKeyId": found.get("kmsKeyId"),
    }


def function(aws, given: Properties) -> Properties:
    client = aws.client("lambda")
    found = client.get_function(FunctionName=given["FunctionName"])
    return found["Configuration"] | {
        "Code": {"ImageUri": found["Code"]["ImageUri"]},
        "KmsKeyArn": found["Configuration"].get("KMSKeyArn"),
        "ReservedConcurrentExecutions": found["Concurrency"]["ReservedConcurrentExecutions"],
    }


def event_source(aws, given: Properties) -> Properties:
    found = aws.client("lambda").list_event_source_mappings(EventSourceArn=given["EventSourceArn"])
    (mapping,) = found["EventSourceMappings"]
    return mapping | {"FunctionName": mapping["FunctionArn"].rpartition(":")[2]}


def alarm(aws, given: Properties) -> Properties:
    (found,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[given["AlarmName"]])["MetricAlarms"]
    return found


def dashboard(aws, given: Properties) -> Properties:
    found = aws.client("cloudwatch").get_dashboard(DashboardName=given["DashboardName"])
    return {"DashboardName": found["DashboardName"], "DashboardBody": found["DashboardBody"]}


CREATED: dict[str, Callable[[LocalAWS, Properties], Properties]] = {
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::CloudWatch::Dashboard": dashboard,
    "AWS::ECR::Repository": repository,
    "AWS::IAM::Role": role,
    "AWS::KMS::Alias": alias,
    "AWS::KMS::Key": key,
    "AWS::Lambda::EventSourceMapping": event_source,
    "AWS::Lambda::Function": function,
    "AWS::Logs::LogGroup": log_group,
    "AWS::S3::Bucket": bucket,
    "AWS::S3::BucketPolicy": bucket_policy,
    "AWS::SNS::Topic": topic,
    "AWS::SNS::TopicPolicy": topic_policy,
    "AWS::SQS::Queue": queue,
    "AWS::SQS::QueuePolicy": queue_policy,
    "AWS::SageMaker::ModelPackageGroup": group,
}

# Properties that moto does not keep. They are checked on the template alone (test_templates.py).
NOT_KEPT = {
    ("AWS::ECR::Repository", "EncryptionConfiguration"),
    ("AWS::ECR::Repository", "ImageScanningConfiguration"),
    ("AWS::Lambda::Function", "KmsKeyArn"),
    ("AWS::Logs::LogGroup", "KmsKeyId"),
    ("AWS::SQS::Queue", "RedriveAllowPolicy"),
}


def plain(value: Any) -> Any:
    """A value in which numbers and flags are texts, as template parameters are."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_type_of_resource_is_covered():
    assert {resource["Type"] for resource in PLANNED.values()} == set(CREATED)


@pytest.mark.parametrize("name", PLANNED)
def test_what_was_created_is_what_the_template_says(aws, outputs, name):
    kind, wanted = PLANNED[name]["Type"], PLANNED[name].get("Properties", {})
    wanted = json.loads(json.dumps(wanted).replace(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/<Key>", outputs["KeyArn"]))
    found = CREATED[kind](aws, wanted)
    for field, value in wanted.items():
        if (kind, field) not in NOT_KEPT:
            assert plain(found.get(field)) == plain(value), field


@pytest.mark.parametrize(("kind", "field"), sorted(NOT_KEPT))
def test_an_exception_from_the_comparison_is_still_needed(aws, outputs, kind, field):
    given = [r["Properties"] for r in PLANNED.values() if r["Type"] == kind and field in r["Properties"]]
    assert given
    wanted = json.loads(json.dumps(given[0]).replace(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/<Key>", outputs["KeyArn"]))
    assert plain(CREATED[kind](aws, wanted).get(field)) != plain(wanted[field])


def test_the_outputs_of_a_deployment_are_the_planned_ones(outputs):
    base, service = rendered(Config(**SETTINGS), Place(account=ACCOUNT, region=REGION))
    for name, value in (base.outputs | service.outputs).items():
        if not name.endswith(("Url", "ImageUri", "KeyArn")):
            assert outputs[name] == value


def test_deploying_again_changes_nothing(aws, config, outputs):
    said: list[str] = []
    assert infra_stacks.deploy(open_session(config), config, said.append) == outputs
    assert said == ["cxr-base: nothing to change", "cxr-service: nothing to change"]


def test_the_airflow_settings_name_every_resource(outputs):
    settings = airflow_settings(outputs)
    assert settings["uploads_bucket"] == f"cxr-uploads-{ACCOUNT}-{REGION}"
    assert settings["training_image"].endswith("/cxr-training:local")
    assert all(settings.values())
