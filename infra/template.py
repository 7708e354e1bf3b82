"""A template read as data: what a stack would hold, without a call to AWS.

Knows the intrinsic functions that infra/*.yaml use and refuses any other, so that nothing is rendered wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
BASE = FOLDER / "base.yaml"
SERVICE = FOLDER / "service.yaml"
_NO_VALUE = object()

_ARNS = {  # what !GetAtt X.Arn (and !Ref of a topic) gives, from the resource's own name
    "AWS::KMS::Key": "arn:{partition}:kms:{region}:{account}:key/{name}",
    "AWS::S3::Bucket": "arn:{partition}:s3:::{name}",
    "AWS::SQS::Queue": "arn:{partition}:sqs:{region}:{account}:{name}",
    "AWS::SNS::Topic": "arn:{partition}:sns:{region}:{account}:{name}",
    "AWS::ECR::Repository": "arn:{partition}:ecr:{region}:{account}:repository/{name}",
    "AWS::IAM::Role": "arn:{partition}:iam::{account}:role/{name}",
    "AWS::Lambda::Function": "arn:{partition}:lambda:{region}:{account}:function:{name}",
}
NAME_PROPERTIES = {
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::IAM::Role": "RoleName",
    "AWS::KMS::Alias": "AliasName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SageMaker::ModelPackageGroup": "ModelPackageGroupName",
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML with CloudFormation's short tags, read into their long form."""


def _short_tag(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_tag)


@cache
def load(path: Path) -> dict[str, Any]:
    """The template at `path` with its functions in long form (`{"Fn::Sub": ...}`). Read once: do not change it."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # nosec B506 # a SafeLoader


@dataclass(frozen=True)
class Place:
    """Where a stack is: what the AWS::* pseudo parameters give."""

    account: str = "<account>"
    region: str = "<region>"
    partition: str = "aws"
    suffix: str = "amazonaws.com"


class Rendered:
    """A template with its parameters filled in: `resources` (those whose condition holds) and `outputs`."""

    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, str], place: Place | None = None) -> None:
        self.place = place or Place()
        declared = template.get("Parameters", {})
        unknown = set(parameters) - set(declared)
        if unknown:
            raise ValueError(f"the template has no parameter {', '.join(sorted(unknown))}")
        missing = [name for name, spec in declared.items() if name not in parameters and "Default" not in spec]
        if missing:
            raise ValueError(f"no value for parameter {', '.join(missing)}")
        self._lists = {name for name, spec in declared.items() if spec["Type"] == "CommaDelimitedList"}
        self.parameters = {name: str(parameters.get(name, spec.get("Default"))) for name, spec in declared.items()}
        self._conditions = template.get("Conditions", {})
        self._raw = template["Resources"]
        self.resources: dict[str, dict[str, Any]] = {
            logical: self._value(resource)
            for logical, resource in self._raw.items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }
        self.outputs: dict[str, str] = {
            name: self._value(output["Value"]) for name, output in template.get("Outputs", {}).items()
        }

    def name(self, logical: str) -> str:
        """The physical name of a resource, or its logical name in angle brackets if AWS invents one."""
        resource = self._raw[logical]
        given = resource.get("Properties", {}).get(NAME_PROPERTIES.get(resource["Type"], ""))
        return self._value(given) if given is not None else f"<{logical}>"

    def arn(self, logical: str) -> str:
        """The ARN of a resource of one of the known types."""
        p = self.place
        return _ARNS[self._raw[logical]["Type"]].format(
            partition=p.partition, region=p.region, account=p.account, name=self.name(logical)
        )

    def _value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [v for v in (self._value(item) for item in node) if v is not _NO_VALUE]
        if not isinstance(node, Mapping):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref":
                return self._ref(argument)
            if function.startswith("Fn::"):
                return self._function(function, argument)
        return {k: v for k, v in ((k, self._value(v)) for k, v in node.items()) if v is not _NO_VALUE}

    def _function(self, function: str, argument: Any) -> Any:
        if function == "Fn::Sub" and isinstance(argument, str):
            return re.sub(r"\$\{([^!}]+)\}", lambda m: self._substitute(m[1]), argument)
        if function == "Fn::GetAtt" and argument[1] == "Arn":
            return self.arn(argument[0])
        if function == "Fn::If":
            return self._value(argument[1] if self._holds(argument[0]) else argument[2])
        if function == "Fn::Equals":
            left, right = map(self._value, argument)
            return str(left) == str(right)
        if function == "Fn::Not":
            return not self._value(argument[0])
        raise ValueError(f"the renderer does not know {function} {argument!r}; teach it or use another function")

    def _substitute(self, reference: str) -> str:
        logical, _, attribute = reference.partition(".")
        return str(self._function("Fn::GetAtt", [logical, attribute]) if attribute else self._ref(reference))

    def _holds(self, condition: str) -> bool:
        return bool(self._value(self._conditions[condition]))

    def _ref(self, name: str) -> Any:
        p = self.place
        pseudo = {
            "AWS::AccountId": p.account,
            "AWS::Region": p.region,
            "AWS::Partition": p.partition,
            "AWS::URLSuffix": p.suffix,
            "AWS::NoValue": _NO_VALUE,
        }
        if name in pseudo:
            return pseudo[name]
        if name in self.parameters:
            return self.parameters[name].split(",") if name in self._lists else self.parameters[name]
        kind = self._raw[name]["Type"]
        if kind == "AWS::SNS::Topic":
            return self.arn(name)
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{p.region}.{p.suffix}/{p.account}/{self.name(name)}"
        return self.name(name)
