"""How the roles' policies are written: no wildcard that is not needed, nothing that AWS does not know."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

from infra import template


def statements(stacks):
    for name, role in stacks.of_type("AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def actions(statement):
    return statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


def test_no_action_of_a_role_holds_a_wildcard(stacks):
    for name, statement in statements(stacks):
        assert not [a for a in actions(statement) if "*" in a], (name, statement["Sid"])


# Its one resource type is a data set of CloudWatch's own; a metric has no ARN.
WITHOUT_ARN = ("cloudwatch:PutMetricData",)


def test_the_resource_star_occurs_only_for_actions_without_resources_with_a_condition_and_a_comment(stacks):
    source = template.BASE.read_text()
    for name, statement in statements(stacks):
        if statement["Resource"] == "*":
            assert statement.get("Condition"), (name, statement["Sid"])
            above = re.search(rf"#[^\n]+\n\s+- Sid: {statement['Sid']}\n", source)
            assert above, f"no comment above {statement['Sid']}"
            for action in actions(statement):
                assert action in WITHOUT_ARN or not arn_forms(action), f"{action} accepts a resource"


def test_a_wildcard_in_a_resource_comes_after_a_fixed_prefix_of_this_project(stacks):
    for name, statement in statements(stacks):
        for resource in statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]:
            if "*" in resource and resource != "*":
                fixed = resource.partition("*")[0]
                assert "cxr" in fixed or "/aws/sagemaker/TrainingJobs" in fixed, (name, resource)


@cache
def authorization_reference():
    """AWS's service authorization reference, as cfn-lint carries it."""
    return json.loads(resources.files("cfnlint.data.AdditionalSpecs").joinpath("Policies.json").read_text())


def arn_forms(action):
    """Patterns of the ARNs that an action accepts; KeyError if AWS has no such action."""
    name, _, operation = action.lower().partition(":")
    service = authorization_reference()[name]
    kinds = service["Actions"][operation].get("Resources", [])
    forms = [form for kind in kinds for form in service["Resources"][kind]["ARNFormats"]]
    return [re.sub(r"\$\{[A-Za-z]+\}", ".*", form) for form in forms]


def test_every_action_exists_and_fits_its_resources(stacks):
    for name, statement in statements(stacks):
        given = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if given == ["*"]:
            continue
        accepted = {
            action: {r for r in given for f in arn_forms(action) if re.fullmatch(f, r)} for action in actions(statement)
        }
        assert all(accepted.values()), f"{name} {statement['Sid']}: {accepted}"
        assert set(given) == set().union(*accepted.values()), (
            f"{name} {statement['Sid']}: no action takes some resource"
        )


def test_object_actions_name_objects_and_bucket_actions_name_buckets(stacks):
    for name, statement in statements(stacks):
        for action in actions(statement):
            if action.startswith("s3:"):
                given = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
                for resource in given:
                    assert ("/" in resource) == ("Object" in action or "Multipart" in action), (name, action, resource)
