"""The rendered templates, and an evaluator of the policies in them.

The evaluator follows AWS's rules as far as the templates use them: an explicit deny wins; within one account the
identity's own policy or the resource's may allow; a key's and a role's policy must let the account's policies count at
all; a condition on a key that the request lacks is false, except for negated operators and `Null`. It is stricter where
a role of the stacks assumes another: both policies must say so.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping
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
    "NumericLessThanEquals": lambda wanted, given: float(given) <= float(wanted),
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
    if operator.startswith("ForAllValues:"):
        plain = operator.removeprefix("ForAllValues:")
        return given is None or all(_holds(plain, key, wanted, {key: value}) for value in given.split(","))
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
    def _resource_statements(stacks: Stacks) -> Iterator[dict[str, Any]]:
        """Every statement that hangs on a resource, with its resource written out."""
        for kind in ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"):
            for properties in stacks.of_type(kind).values():
                yield from properties["PolicyDocument"]["Statement"]
        for name, properties in stacks.of_type("AWS::KMS::Key").items():
            for statement in properties["KeyPolicy"]["Statement"]:
                yield statement | {"Resource": stacks.base.arn(name)}
        for name, properties in stacks.of_type("AWS::IAM::Role").items():
            for statement in properties["AssumeRolePolicyDocument"]["Statement"]:
                yield statement | {"Resource": stacks.role(name)}

    def may(self, principal: str, action: str, resource: str, **context: str) -> bool:
        """`principal` is a role's ARN or a service such as s3.amazonaws.com."""
        facts = {"aws:SecureTransport": "true"} | {k.replace("__", ":"): v for k, v in context.items()}
        is_service = not principal.startswith("arn:")
        if not is_service:
            facts |= {"aws:PrincipalArn": principal, "aws:RequestedRegion": REGION} | facts
        named = delegated = False
        for statement in (s for s in self._resource if self._applies(s, action, resource, facts)):
            principals = self._principals(statement)
            if statement["Effect"] == "Deny" and {principal, "*"} & principals:
                return False
            named |= statement["Effect"] == "Allow" and principal in principals
            delegated |= statement["Effect"] == "Allow" and self._root in principals
        own = False
        for statement in self._identity.get(principal, []):
            if self._applies(statement, action, resource, facts):
                if statement["Effect"] == "Deny":
                    return False
                own = True
        if action == "sts:AssumeRole" and principal in self._identity:
            return own and (named or delegated)
        if action.startswith("kms:"):
            own = own and delegated
        return named or own

    def idle(self, principal: str, needed: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        """Pairs of action and resource that a role's own policy allows and no (action, ARN) of `needed` uses."""
        return [
            (action, resource)
            for statement in self._identity[principal]
            if statement["Effect"] == "Allow"
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
            if not any(action == a and matches(resource, arn) for a, arn in needed)
        ]

    @staticmethod
    def _principals(statement: Mapping[str, Any]) -> set[str]:
        who = statement["Principal"]
        return {who} if who == "*" else {name for given in who.values() for name in listed(given)}

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
