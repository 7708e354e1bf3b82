"""The rendered templates, and an evaluator of the policies in them.

The evaluator follows AWS's rules as far as the templates use them: an explicit deny wins; within one account the
identity's own policy or the resource's may allow; a key's policy must let the account's policies count at all; a
condition on a key that the request lacks is false, except for negated operators and `Null`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from infra.config import Config
from infra.plan import rendered
from infra.template import Place, Rendered

ACCOUNT, REGION = "123456789012", "eu-central-1"


@dataclass(frozen=True)
class Stacks:
    """Both stacks, rendered with one configuration."""

    base: Rendered
    service: Rendered

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties by logical name of every resource of a type in either stack."""
        both = self.base.resources | self.service.resources
        return {name: r.get("Properties", {}) for name, r in both.items() if r["Type"] == kind}

    def role(self, logical: str) -> str:
        return self.base.arn(logical)


def render(**settings: Any) -> Stacks:
    return Stacks(*rendered(Config(region=REGION, **settings), Place(account=ACCOUNT, region=REGION)))


@pytest.fixture(scope="session")
def stacks() -> Stacks:
    """The stacks with the default configuration."""
    return render()


@pytest.fixture(scope="session")
def render_with() -> Any:
    """Renders both stacks with other settings."""
    return render


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def matches(pattern: str, value: str) -> bool:
    """IAM's wildcards: * and ?, and nothing else is special."""
    literal = re.sub(r"([\[\]])", r"[\1]", pattern)
    return fnmatch.fnmatchcase(value, literal)


_OPERATORS = {
    "StringEquals": lambda wanted, given: wanted == given,
    "StringLike": matches,
    "ArnEquals": matches,
    "ArnLike": matches,
    "Bool": lambda wanted, given: wanted.lower() == given.lower(),
}


def condition_holds(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    return all(
        _holds(operator, key, [str(v) for v in listed(wanted)], context)
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _holds(operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
    given = context.get(key)
    if operator == "Null":
        return (given is None) == (wanted[0].lower() == "true")
    if operator.endswith("IfExists"):
        return given is None or _holds(operator.removesuffix("IfExists"), key, wanted, context)
    negated = "Not" in operator
    compare = _OPERATORS[operator.replace("Not", "")]
    if given is None:
        return negated
    return any(compare(w, given) for w in wanted) != negated


class Evaluator:
    """Decides whether a principal may do an action on a resource."""

    def __init__(self, stacks: Stacks) -> None:
        self._identity = {
            stacks.role(name): [s for p in properties["Policies"] for s in p["PolicyDocument"]["Statement"]]
            for name, properties in stacks.of_type("AWS::IAM::Role").items()
        }
        self._resource = list(self._resource_statements(stacks))
        self._root = f"arn:aws:iam::{ACCOUNT}:root"

    @staticmethod
    def _resource_statements(stacks: Stacks) -> Iterator[tuple[str, dict[str, Any]]]:
        """(kind, statement) of every policy that hangs on a resource, each with its resource written out."""
        for kind, field in (
            ("AWS::S3::BucketPolicy", "PolicyDocument"),
            ("AWS::SQS::QueuePolicy", "PolicyDocument"),
            ("AWS::SNS::TopicPolicy", "PolicyDocument"),
        ):
            for properties in stacks.of_type(kind).values():
                for statement in properties[field]["Statement"]:
                    yield kind, statement
        for name, properties in stacks.of_type("AWS::KMS::Key").items():
            for statement in properties["KeyPolicy"]["Statement"]:
                yield "key", statement | {"Resource": stacks.base.arn(name)}
        for name, properties in stacks.of_type("AWS::IAM::Role").items():
            for statement in properties["AssumeRolePolicyDocument"]["Statement"]:
                yield "trust", statement | {"Resource": stacks.role(name)}

    def may(self, principal: str, action: str, resource: str, **context: str) -> bool:
        """`principal` is a role's ARN or a service such as s3.amazonaws.com."""
        facts = {"aws:SecureTransport": "true"} | {k.replace("__", ":"): v for k, v in context.items()}
        is_service = not principal.startswith("arn:")
        if not is_service:
            facts |= {"aws:PrincipalArn": principal, "aws:RequestedRegion": REGION} | facts
        allowed = False
        on_resource = [
            (s, self._names(s, principal)) for _, s in self._resource if self._applies(s, action, resource, facts)
        ]
        for statement, named in on_resource:
            if named and statement["Effect"] == "Deny":
                return False
            allowed |= named and statement["Effect"] == "Allow"
        for statement in self._identity.get(principal, []):
            if self._applies(statement, action, resource, facts):
                if statement["Effect"] == "Deny":
                    return False
                if action == "sts:AssumeRole":
                    continue  # the trust policy alone decided above; both must agree, see `both`
                if action.startswith("kms:") and not self._key_delegates(resource):
                    continue
                allowed = True
        if action == "sts:AssumeRole":
            own = any(self._applies(s, action, resource, facts) for s in self._identity.get(principal, []))
            return allowed and (own or principal not in self._identity)
        return allowed

    def _names(self, statement: Mapping[str, Any], principal: str) -> bool:
        who = statement["Principal"]
        if who == "*":
            return True
        return principal in listed(who.get("AWS", [])) + listed(who.get("Service", []))

    def _key_delegates(self, key: str) -> bool:
        return any(
            s["Resource"] == key and s["Effect"] == "Allow" and self._root in listed(s["Principal"].get("AWS", []))
            for kind, s in self._resource
            if kind == "key"
        )

    @staticmethod
    def _applies(statement: Mapping[str, Any], action: str, resource: str, facts: Mapping[str, str]) -> bool:
        return (
            any(matches(a.lower(), action.lower()) for a in listed(statement["Action"]))
            and any(matches(r, resource) for r in listed(statement["Resource"]))
            and condition_holds(statement.get("Condition", {}), facts)
        )


@pytest.fixture(scope="session")
def iam(stacks: Stacks) -> Evaluator:
    """The evaluator over the default stacks."""
    return Evaluator(stacks)


@pytest.fixture(scope="session")
def evaluator() -> type[Evaluator]:
    return Evaluator


@pytest.fixture(scope="session")
def holds() -> Any:
    return condition_holds
