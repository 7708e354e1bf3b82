"""How policies are written: no wildcard that is not needed, nothing that AWS does not know, nobody who is not named."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

from infra import template


def listed(value):
    return value if isinstance(value, list) else [value]


def statements(stacks):
    """(role, statement) of what the roles may do, with lists of actions and resources however they are written."""
    for name, role in stacks.of_type("AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                lists = {key: listed(statement[key]) for key in ("Action", "Resource")}
                yield name, statement | lists


def has_a_comment(statement):
    return re.search(rf"#[^\n]+\n\s+- Sid: {statement['Sid']}\n", template.BASE.read_text())


def test_no_action_of_a_role_holds_a_wildcard(stacks):
    for name, statement in statements(stacks):
        assert not [a for a in statement["Action"] if "*" in a], (name, statement["Sid"])


# Its one resource type is a data set of CloudWatch's own; a metric has no ARN.
WITHOUT_ARN = ("cloudwatch:PutMetricData",)


def test_the_resource_star_occurs_only_for_actions_without_resources_with_a_condition_and_a_comment(stacks):
    for name, statement in statements(stacks):
        if "*" in statement["Resource"]:
            assert statement["Resource"] == ["*"], (name, statement["Sid"])
            assert statement.get("Condition"), (name, statement["Sid"])
            assert has_a_comment(statement), f"no comment above {statement['Sid']}"
            for action in statement["Action"]:
                assert action in WITHOUT_ARN or not arn_forms(action), f"{action} accepts a resource"


def test_a_wildcard_in_a_resource_comes_after_a_fixed_prefix_of_this_project(stacks):
    for name, statement in statements(stacks):
        for resource in statement["Resource"]:
            if "*" in resource and resource != "*":
                fixed = resource.partition("*")[0]
                assert "cxr" in fixed or "/aws/sagemaker/TrainingJobs" in fixed, (name, resource)


@cache
def authorization_reference():
    """AWS's service authorization reference, as cfn-lint carries it."""
    return json.loads(files("cfnlint.data.AdditionalSpecs").joinpath("Policies.json").read_text())


def arn_forms(action):
    """Patterns of the ARNs that an action accepts; KeyError if AWS has no such action."""
    name, _, operation = action.lower().partition(":")
    service = authorization_reference()[name]
    kinds = service["Actions"][operation].get("Resources", [])
    forms = [form for kind in kinds for form in service["Resources"][kind]["ARNFormats"]]
    return [re.sub(r"\$\{[A-Za-z]+\}", ".*", form) for form in forms]


def test_every_action_exists_and_fits_its_resources(stacks):
    for name, statement in statements(stacks):
        given = statement["Resource"]
        if given == ["*"]:
            continue
        accepted = {a: {r for r in given for f in arn_forms(a) if re.fullmatch(f, r)} for a in statement["Action"]}
        assert all(accepted.values()), f"{name} {statement['Sid']}: {accepted}"
        assert set(given) == set().union(*accepted.values()), (
            f"{name} {statement['Sid']}: no action takes some resource"
        )


def test_object_actions_name_objects_and_bucket_actions_name_buckets(stacks):
    for name, statement in statements(stacks):
        for action in statement["Action"]:
            if action.startswith("s3:"):
                for resource in statement["Resource"]:
                    assert ("/" in resource) == ("Object" in action or "Multipart" in action), (name, action, resource)


# ---------------------------------------------------------------- policies that hang on a resource

POLICY_FIELDS = {
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::S3::BucketPolicy": "PolicyDocument",
    "AWS::SQS::QueuePolicy": "PolicyDocument",
    "AWS::SNS::TopicPolicy": "PolicyDocument",
    "AWS::ECR::Repository": "RepositoryPolicyText",
}


def resource_statements(stacks):
    """(resource, statement, principals) of every policy that hangs on a key, bucket, queue, topic or repository."""
    for kind, field in POLICY_FIELDS.items():
        for name, properties in stacks.of_type(kind).items():
            for statement in properties.get(field, {"Statement": []})["Statement"]:
                principal = statement["Principal"]
                principals = (
                    [principal] if principal == "*" else [p for given in principal.values() for p in listed(given)]
                )
                yield name, statement, principals


def test_every_resource_that_can_let_others_in_has_a_policy(stacks):
    found = {name for name, _, _ in resource_statements(stacks)}
    assert {"Key", "InferenceRepository", "AlarmTopicPolicy"} <= found
    assert len(found) == 2 + 5 + 4 + 1, "key, repository, buckets, queues, topic"


def test_only_a_denial_speaks_of_everybody_and_it_has_a_condition(stacks):
    for name, statement, principals in resource_statements(stacks):
        assert ("*" in principals) == (statement["Effect"] == "Deny"), (name, statement["Sid"])
        assert statement["Effect"] == "Allow" or statement["Condition"], (name, statement["Sid"])


def test_the_account_alone_is_let_in_without_a_condition_and_only_to_administer_the_key(stacks):
    """The star of a key's policy is the key itself; the statement is AWS's default one, and its comment says why."""
    open_doors = [
        (name, statement, principals)
        for name, statement, principals in resource_statements(stacks)
        if statement["Effect"] == "Allow" and not statement.get("Condition")
    ]
    ((name, statement, principals),) = open_doors
    assert (name, statement["Sid"], principals) == (
        "Key", "AccountAdministersTheKey", ["arn:aws:iam::123456789012:root"])  # fmt: skip
    assert has_a_comment(statement)


def test_a_service_is_let_in_by_named_actions_of_this_account_only(stacks):
    for name, statement, principals in resource_statements(stacks):
        if statement["Effect"] == "Allow" and statement["Sid"] != "AccountAdministersTheKey":
            assert all(p.endswith(".amazonaws.com") for p in principals), (name, principals)
            assert not [a for a in listed(statement["Action"]) if "*" in a], (name, statement["Sid"])
            sources = [v for keys in statement["Condition"].values() for v in keys.values()]
            assert any("123456789012" in source for source in sources), (name, statement["Sid"])
            for resource in listed(statement.get("Resource", [])):
                assert resource != "*" or name == "Key", (name, statement["Sid"])


def trusted(stacks):
    """Principals that may become each role."""
    for name, role in stacks.of_type("AWS::IAM::Role").items():
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            for kind, given in statement["Principal"].items():
                for principal in listed(given):
                    yield name, kind, principal


def test_the_account_as_a_whole_is_trusted_with_no_role_but_airflow_s_and_with_none_if_airflow_is_named(render_with):
    root, worker = "arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:role/airflow-worker"
    default, named = set(trusted(render_with())), set(trusted(render_with(airflow_principal_arn=worker)))
    assert default - named == {("AirflowRole", "AWS", root)}
    assert named - default == {("AirflowRole", "AWS", worker)}
    assert named & default == {
        ("TrainingRole", "Service", "sagemaker.amazonaws.com"),
        ("FunctionRole", "Service", "lambda.amazonaws.com"),
        ("PromoteRole", "AWS", "arn:aws:iam::123456789012:role/cxr-airflow-eu-central-1"),
    }
