"""Resource types that moto lacks or applies in part, each made through the service's own API.

A type answers moto's calls create, update and delete `_from_cloudformation_json`. `Type` as it stands passes them on
to moto's class; a subclass adds what moto ignores (`extends_moto`) or is the whole resource.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from moto.awslambda.models import ImageConfig
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException, ValidationError

from local_aws.cloudformation_bucket import configure_bucket

log = logging.getLogger(__name__)
Properties = Mapping[str, Any]


class ResourceFailed(ValidationError):
    """A resource of a stack could not be made."""

    def __init__(self, logical_id: str, kind: str, detail: str) -> None:
        super().__init__(message=f"{logical_id} ({kind}): {detail}")
        self.logical_id, self.kind, self.detail = logical_id, kind, detail


class Made:
    """A resource of a type that moto does not have: what Ref and Fn::GetAtt return."""

    def __init__(self, ref: str, attributes: Mapping[str, str] | None = None, name: str | None = None) -> None:
        self.physical_resource_id = ref
        self.name = name or ref
        self.attributes = dict(attributes or {})
        self.cf_resource_type = self.logical_resource_id = ""

    @property
    def type(self) -> str:
        return self.cf_resource_type

    def get_cfn_attribute(self, name: str) -> str:
        if name not in self.attributes:
            raise UnformattedGetAttTemplateException()
        return self.attributes[name]

    def is_created(self) -> bool:
        return True


class Type:
    """A resource type; this one passes everything on to moto's class, and makes its errors name the resource."""

    extends_moto = True
    name_property: str | None = None
    attributes: tuple[str, ...] = ()

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.client = client
        self.moto: Any = None

    def has_cfn_attr(self, name: str) -> bool:
        return name in self.attributes if not self.extends_moto else self.moto.has_cfn_attr(name)

    def create_from_cloudformation_json(
        self, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **kwargs: Any
    ) -> Any:
        try:
            return self.create(resource_name, cloudformation_json, account_id, region_name, kwargs)
        except Exception as error:
            logical, kind = kwargs.get("LogicalId", resource_name), cloudformation_json.get("Type", "")
            detail = getattr(error, "message", None) or str(error) or type(error).__name__
            raise ResourceFailed(logical, kind, detail) from error

    def update_from_cloudformation_json(
        self,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
    ) -> Any:
        return self.update(original_resource, new_resource_name, cloudformation_json, account_id, region_name)

    def delete_from_cloudformation_json(
        self, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str
    ) -> None:
        self.delete(resource_name, cloudformation_json, account_id, region_name)

    def create(self, name: str, resource: dict[str, Any], account: str, region: str, context: dict[str, Any]) -> Any:
        made = self.moto.create_from_cloudformation_json(name, resource, account, region, **context)
        try:
            self.apply(made, resource.get("Properties", {}))
        except Exception:
            self.delete(made.physical_resource_id, resource, account, region)
            raise
        return made

    def update(self, made: Any, new_name: str, resource: dict[str, Any], account: str, region: str) -> Any:
        if hasattr(self.moto.update_from_cloudformation_json, "__isabstractmethod__"):
            log.warning("moto cannot update %s; only what the local AWS adds to it is applied", resource["Type"])
            updated = None
        else:
            updated = self.moto.update_from_cloudformation_json(made, new_name, resource, account, region)
        updated = made if updated is None else updated
        self.apply(updated, resource.get("Properties", {}))
        return updated

    def delete(self, name: str, resource: dict[str, Any], account: str, region: str) -> None:
        if not hasattr(self.moto.delete_from_cloudformation_json, "__isabstractmethod__"):
            self.moto.delete_from_cloudformation_json(name, resource, account, region)

    def apply(self, made: Any, properties: Properties) -> None:
        """Apply what moto ignores to the resource that it made; runs after creation and after an update."""


class Own(Type):
    """A type that moto does not have: `put` creates or updates it, `remove` deletes it.

    moto hands a deletion the template's text, references unresolved; so the properties of what was made are kept.
    """

    extends_moto = False

    def __init__(self, client: Callable[[str], Any]) -> None:
        super().__init__(client)
        self._made: dict[str, Properties] = {}

    def create(self, name: str, resource: dict[str, Any], account: str, region: str, context: dict[str, Any]) -> Any:
        properties = resource.get("Properties", {})
        made = self.put(name, properties)
        self._made[made.physical_resource_id] = properties
        return made

    def update(self, made: Any, new_name: str, resource: dict[str, Any], account: str, region: str) -> Any:
        if self.name_property not in resource.get("Properties", {}):
            new_name = made.name
        updated = self.create(new_name, resource, account, region, {})
        if updated.physical_resource_id != made.physical_resource_id:
            self.delete(made.physical_resource_id, resource, account, region)
        return updated

    def delete(self, name: str, resource: dict[str, Any], account: str, region: str) -> None:
        if name in self._made:
            self.remove(name, self._made.pop(name))

    def put(self, name: str, properties: Properties) -> Made:
        raise NotImplementedError

    def remove(self, ref: str, properties: Properties) -> None:
        raise NotImplementedError


class Bucket(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        configure_bucket(self.client, made.name, properties)
        logging_to = properties.get("LoggingConfiguration") or {}
        made.logging = (
            {
                "TargetBucket": logging_to.get("DestinationBucketName", made.name),
                "TargetPrefix": logging_to.get("LogFilePrefix", ""),
            }
            if logging_to
            else {}
        )


class BucketPolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        self.client("s3").put_bucket_policy(
            Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"])
        )
        return Made(properties["Bucket"])

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
        values = {name: properties[name] for name in self.ATTRIBUTES if name in properties}
        texts = {name: json.dumps(v) if isinstance(v, dict) else str(v) for name, v in values.items()}
        if texts:
            self.client("sqs").set_queue_attributes(QueueUrl=made.physical_resource_id, Attributes=texts)


class QueuePolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        for url in properties["Queues"]:
            self.client("sqs").set_queue_attributes(
                QueueUrl=url, Attributes={"Policy": json.dumps(properties["PolicyDocument"])}
            )
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        for url in properties["Queues"]:
            self.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})


class TopicPolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        for arn in properties["Topics"]:
            self.client("sns").set_topic_attributes(
                TopicArn=arn, AttributeName="Policy", AttributeValue=json.dumps(properties["PolicyDocument"])
            )
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        log.debug("topic policies go with their topics")


class ModelPackageGroup(Own):
    name_property = "ModelPackageGroupName"
    attributes = ("ModelPackageGroupArn", "ModelPackageGroupStatus", "CreationTime")

    def put(self, name: str, properties: Properties) -> Made:
        client = self.client("sagemaker")
        try:
            found = client.describe_model_package_group(ModelPackageGroupName=name)
        except client.exceptions.ClientError:
            description = properties.get("ModelPackageGroupDescription")
            client.create_model_package_group(
                ModelPackageGroupName=name,
                **({"ModelPackageGroupDescription": description} if description else {}),
                **({"Tags": properties["Tags"]} if properties.get("Tags") else {}),
            )
            found = client.describe_model_package_group(ModelPackageGroupName=name)
        arn = found["ModelPackageGroupArn"]
        return Made(
            arn,
            {
                "ModelPackageGroupArn": arn,
                "ModelPackageGroupStatus": found["ModelPackageGroupStatus"],
                "CreationTime": found["CreationTime"].isoformat(),
            },
            name,
        )

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("sagemaker").delete_model_package_group(ModelPackageGroupName=ref.rsplit("/", 1)[-1])


class Alarm(Own):
    name_property = "AlarmName"
    attributes = ("Arn",)
    WHOLE = ("Period", "EvaluationPeriods", "DatapointsToAlarm")

    def put(self, name: str, properties: Properties) -> Made:
        arguments = {**properties, "AlarmName": name}
        arguments.update({key: int(arguments[key]) for key in self.WHOLE if key in arguments})
        if "Threshold" in arguments:
            arguments["Threshold"] = float(arguments["Threshold"])
        client = self.client("cloudwatch")
        client.put_metric_alarm(**arguments)
        found = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return Made(name, {"Arn": found[0]["AlarmArn"]})

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("cloudwatch").delete_alarms(AlarmNames=[ref])


class MetricFilter(Own):
    name_property = "FilterName"

    def put(self, name: str, properties: Properties) -> Made:
        client, group = self.client("logs"), properties["LogGroupName"]
        self._drop(client, group, name)
        client.put_metric_filter(
            logGroupName=group,
            filterName=name,
            filterPattern=properties["FilterPattern"],
            metricTransformations=[_lower_first(t) for t in properties["MetricTransformations"]],
        )
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        self._drop(self.client("logs"), properties["LogGroupName"], ref)

    @staticmethod
    def _drop(client: Any, group: str, name: str) -> None:
        if client.describe_metric_filters(logGroupName=group, filterNamePrefix=name)["metricFilters"]:
            client.delete_metric_filter(logGroupName=group, filterName=name)


class Function(Type):
    """moto takes the code, environment, memory and timeout of a function from a template, and nothing else."""

    def apply(self, made: Any, properties: Properties) -> None:
        made.package_type = properties.get("PackageType", "Zip")
        made.image_config = ImageConfig(properties.get("ImageConfig") or {})
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


class EventInvokeConfig(Own):
    def put(self, name: str, properties: Properties) -> Made:
        arguments = {key: value for key, value in properties.items() if key != "Qualifier"}
        for key in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds"):
            if key in arguments:
                arguments[key] = int(arguments[key])
        self.client("lambda").put_function_event_invoke_config(**arguments)
        return Made(f"EventInvokeConfig|{properties['FunctionName']}|{properties.get('Qualifier', '$LATEST')}")

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("lambda").delete_function_event_invoke_config(FunctionName=properties["FunctionName"])


class Alias(Own):
    name_property = "Name"

    def put(self, name: str, properties: Properties) -> Made:
        client = self.client("lambda")
        arguments = {
            key: properties[key] for key in ("FunctionName", "FunctionVersion", "Description") if key in properties
        }
        try:
            made = client.create_alias(Name=name, **arguments)
        except client.exceptions.ResourceConflictException:
            made = client.update_alias(Name=name, **arguments)
        return Made(made["AliasArn"], name=name)

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("lambda").delete_alias(FunctionName=properties["FunctionName"], Name=ref.rsplit(":", 1)[-1])


class Repository(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        client = self.client("ecr")
        lifecycle = (properties.get("LifecyclePolicy") or {}).get("LifecyclePolicyText")
        if lifecycle:
            client.put_lifecycle_policy(repositoryName=made.name, lifecyclePolicyText=_text(lifecycle))
        if "RepositoryPolicyText" in properties:
            client.set_repository_policy(repositoryName=made.name, policyText=_text(properties["RepositoryPolicyText"]))


class Key(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        client = self.client("kms")
        client.put_key_policy(KeyId=made.id, PolicyName="default", Policy=_text(properties["KeyPolicy"]))


class LogGroup(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        client = self.client("logs")
        if "RetentionInDays" in properties:
            client.put_retention_policy(logGroupName=made.name, retentionInDays=int(properties["RetentionInDays"]))


class Role(Type):
    """Policies and the trust policy follow an update; deletion detaches what would block it."""

    def apply(self, made: Any, properties: Properties) -> None:
        client, name = self.client("iam"), made.name
        client.update_assume_role_policy(RoleName=name, PolicyDocument=_text(properties["AssumeRolePolicyDocument"]))
        wanted = {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies") or []}
        for stale in set(client.list_role_policies(RoleName=name)["PolicyNames"]) - set(wanted):
            client.delete_role_policy(RoleName=name, PolicyName=stale)
        for policy, document in wanted.items():
            client.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=_text(document))

    def delete(self, name: str, resource: dict[str, Any], account: str, region: str) -> None:
        client = self.client("iam")
        for attached in client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            client.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
        super().delete(name, resource, account, region)


TYPES: dict[str, Callable[[Callable[[str], Any]], Type]] = {
    "AWS::CloudWatch::Alarm": Alarm,
    "AWS::ECR::Repository": Repository,
    "AWS::IAM::Role": Role,
    "AWS::KMS::Key": Key,
    "AWS::Lambda::Alias": Alias,
    "AWS::Lambda::EventInvokeConfig": EventInvokeConfig,
    "AWS::Lambda::Function": Function,
    "AWS::Logs::LogGroup": LogGroup,
    "AWS::Logs::MetricFilter": MetricFilter,
    "AWS::S3::Bucket": Bucket,
    "AWS::S3::BucketPolicy": BucketPolicy,
    "AWS::SNS::TopicPolicy": TopicPolicy,
    "AWS::SQS::Queue": Queue,
    "AWS::SQS::QueuePolicy": QueuePolicy,
    "AWS::SageMaker::ModelPackageGroup": ModelPackageGroup,
}


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document, default=str)


def _lower_first(value: Any) -> Any:
    """API spelling (`metricName`) of a CloudFormation structure (`MetricName`)."""
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: item for key, item in value.items()}
    return value
