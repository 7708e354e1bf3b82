"""What runs, from which images and models, with which rights and keys."""

from __future__ import annotations

from typing import Any

from moto.awslambda.models import ImageConfig

from local_aws.cloudformation.resource_type import Made, Own, Properties, Type, text_of


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


class Repository(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        client = self.client("ecr")
        lifecycle = (properties.get("LifecyclePolicy") or {}).get("LifecyclePolicyText")
        if lifecycle:
            client.put_lifecycle_policy(repositoryName=made.name, lifecyclePolicyText=text_of(lifecycle))
        if "RepositoryPolicyText" in properties:
            client.set_repository_policy(
                repositoryName=made.name, policyText=text_of(properties["RepositoryPolicyText"])
            )


class Role(Type):
    """Policies and the trust policy follow an update; deletion detaches what would block it."""

    def apply(self, made: Any, properties: Properties) -> None:
        client, name = self.client("iam"), made.name
        client.update_assume_role_policy(RoleName=name, PolicyDocument=text_of(properties["AssumeRolePolicyDocument"]))
        wanted = {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies") or []}
        for stale in set(client.list_role_policies(RoleName=name)["PolicyNames"]) - set(wanted):
            client.delete_role_policy(RoleName=name, PolicyName=stale)
        for policy, document in wanted.items():
            client.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text_of(document))

    def delete(self, name: str, resource: dict[str, Any], account: str, region: str) -> None:
        client = self.client("iam")
        for attached in client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            client.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
        super().delete(name, resource, account, region)


class Key(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        client = self.client("kms")
        client.put_key_policy(KeyId=made.id, PolicyName="default", Policy=text_of(properties["KeyPolicy"]))
