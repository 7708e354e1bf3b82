"""The resource types that moto lacks or applies in part, by CloudFormation's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_aws.cloudformation.bucket import configure_bucket
from local_aws.cloudformation.resource_type import Made, Own, Properties, Type, call


class Bucket(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        configure_bucket(self.client, made.name, properties)
        target = properties.get("LoggingConfiguration")
        made.logging = target and {
            "TargetBucket": target.get("DestinationBucketName", made.name),
            "TargetPrefix": target.get("LogFilePrefix", ""),
        }


class BucketPolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        bucket = properties["Bucket"]
        call(self.client("s3"), "put_bucket_policy", Bucket=bucket, Policy=properties["PolicyDocument"])
        return Made(bucket)

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("s3").delete_bucket_policy(Bucket=ref)


class Queue(Type):
    """Ref is the address at which the local AWS serves the queue; every attribute can be updated."""

    ATTRIBUTES = (
        "DelaySeconds",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "ReceiveMessageWaitTimeSeconds",
        "VisibilityTimeout",
        "KmsMasterKeyId",
        "RedrivePolicy",
    )

    def apply(self, made: Any, properties: Properties) -> None:
        wanted = {name: properties[name] for name in self.ATTRIBUTES if name in properties}
        if wanted:
            call(self.client("sqs"), "set_queue_attributes", QueueUrl=made.physical_resource_id, Attributes=wanted)


class QueuePolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        self._set(properties, properties["PolicyDocument"])
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        self._set(properties, "")

    def _set(self, properties: Properties, policy: Any) -> None:
        for url in properties["Queues"]:
            call(self.client("sqs"), "set_queue_attributes", QueueUrl=url, Attributes={"Policy": policy})


class TopicPolicy(Own):
    """It goes with its topics."""

    def put(self, name: str, properties: Properties) -> Made:
        policy = {"AttributeName": "Policy", "AttributeValue": properties["PolicyDocument"]}
        for arn in properties["Topics"]:
            call(self.client("sns"), "set_topic_attributes", TopicArn=arn, **policy)
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        pass


class Function(Type):
    """moto takes the code, environment, memory and timeout of a function from a template, and nothing else."""

    def apply(self, made: Any, properties: Properties) -> None:
        made.package_type = properties.get("PackageType", "Zip")
        if "EphemeralStorage" in properties:
            made.ephemeral_storage = int(properties["EphemeralStorage"]["Size"])
        made.architectures = list(properties.get("Architectures") or ["x86_64"])
        made.tracing_config = properties.get("TracingConfig") or {"Mode": "PassThrough"}
        made.reserved_concurrency = properties.get("ReservedConcurrentExecutions")
        made.description = properties.get("Description", "")
        made.timeout = int(properties.get("Timeout", 3))
        made.memory_size = int(properties.get("MemorySize", 128))
        made.tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags") or []}
        made.logging_config = dict(properties.get("LoggingConfig") or {})
        made.logs_group_name = made.logging_config.get("LogGroup", f"/aws/lambda/{made.function_name}")


class LogGroup(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        days = properties.get("RetentionInDays")
        if days:
            call(self.client("logs"), "put_retention_policy", logGroupName=made.name, retentionInDays=days)


class Alarm(Own):
    name_property = "AlarmName"
    attributes = ("Arn",)

    def put(self, name: str, properties: Properties) -> Made:
        client = self.client("cloudwatch")
        call(client, "put_metric_alarm", **{**properties, "AlarmName": name})
        (found,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return Made(name, {"Arn": found["AlarmArn"]})

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("cloudwatch").delete_alarms(AlarmNames=[ref])


class ModelPackageGroup(Own):
    name_property = "ModelPackageGroupName"
    attributes = ("ModelPackageGroupArn", "ModelPackageGroupStatus")

    def put(self, name: str, properties: Properties) -> Made:
        client = self.client("sagemaker")
        groups = client.list_model_package_groups(NameContains=name)["ModelPackageGroupSummaryList"]
        if name not in [group["ModelPackageGroupName"] for group in groups]:
            call(client, "create_model_package_group", **{**properties, "ModelPackageGroupName": name})
        found = client.describe_model_package_group(ModelPackageGroupName=name)
        return Made(found["ModelPackageGroupArn"], {attribute: found[attribute] for attribute in self.attributes}, name)

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("sagemaker").delete_model_package_group(ModelPackageGroupName=ref.rsplit("/", 1)[-1])


class Repository(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        ecr, name = self.client("ecr"), made.name
        lifecycle = (properties.get("LifecyclePolicy") or {}).get("LifecyclePolicyText")
        if lifecycle:
            call(ecr, "put_lifecycle_policy", repositoryName=name, lifecyclePolicyText=lifecycle)
        if "RepositoryPolicyText" in properties:
            policy = properties["RepositoryPolicyText"]
            call(ecr, "set_repository_policy", repositoryName=name, policyText=policy)


class Role(Type):
    """Policies and the trust policy follow an update; deletion detaches what would block it."""

    def apply(self, made: Any, properties: Properties) -> None:
        iam, name = self.client("iam"), made.name
        trust = properties["AssumeRolePolicyDocument"]
        call(iam, "update_assume_role_policy", RoleName=name, PolicyDocument=trust)
        wanted = {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies") or []}
        for stale in set(iam.list_role_policies(RoleName=name)["PolicyNames"]) - set(wanted):
            iam.delete_role_policy(RoleName=name, PolicyName=stale)
        for policy, document in wanted.items():
            call(iam, "put_role_policy", RoleName=name, PolicyName=policy, PolicyDocument=document)

    def delete_from_cloudformation_json(self, name: str, resource: dict[str, Any], account: str, region: str) -> None:
        iam = self.client("iam")
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
        super().delete_from_cloudformation_json(name, resource, account, region)


class Key(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        policy = properties["KeyPolicy"]
        call(self.client("kms"), "put_key_policy", KeyId=made.id, PolicyName="default", Policy=policy)


TYPES: dict[str, Callable[[Callable[[str], Any]], Type]] = {
    "AWS::CloudWatch::Alarm": Alarm,
    "AWS::ECR::Repository": Repository,
    "AWS::IAM::Role": Role,
    "AWS::KMS::Key": Key,
    "AWS::Lambda::Function": Function,
    "AWS::Logs::LogGroup": LogGroup,
    "AWS::S3::Bucket": Bucket,
    "AWS::S3::BucketPolicy": BucketPolicy,
    "AWS::SNS::TopicPolicy": TopicPolicy,
    "AWS::SQS::Queue": Queue,
    "AWS::SQS::QueuePolicy": QueuePolicy,
    "AWS::SageMaker::ModelPackageGroup": ModelPackageGroup,
}
