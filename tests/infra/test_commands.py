"""What the commands say before any call is made, and when one fails."""

from __future__ import annotations

import re
from unittest.mock import Mock

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError

from infra import __main__ as command_line
from infra import operate, source, stacks
from infra.__main__ import main
from infra.config import Config
from infra.stacks import StackError


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_calls(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a call was made")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", forbidden)


def test_a_plan_names_every_resource_without_a_call(no_calls, capsys):
    assert main(["plan", "--project", "lung"]) == 0
    said = capsys.readouterr().out
    for text in ("stack lung-base", "stack lung-service", "lung-uploads-<account>-<region>", "lung-classify",
                 "alias/lung", "ReservedConcurrency = 100", "<digest of these sources>"):  # fmt: skip
        assert text in said


def test_the_configuration_is_checked_before_the_first_call(no_calls, capsys, tmp_path):
    (tmp_path / "infra.toml").write_text("memory_size = 64\n")
    assert main(["deploy"]) == 1
    assert "memory_size = 64 is outside 512 to 10240" in capsys.readouterr().err


def test_a_data_set_is_checked_before_the_first_call(no_calls, capsys, tmp_path):
    (tmp_path / "films").mkdir()
    assert main(["upload-dataset", "films"]) == 1
    assert "has no film in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["promote", "newest", "--reason", "x"], "'newest' is neither the version of a model package, such as 7, nor"),
        (["promote", "arn:aws:iam::123456789012:role/x", "--reason", "x"], "nor its ARN"),
        (
            ["upload-dataset", "kaggle", "--name", "a//b"],
            "'a//b' cannot name a dataset: 'datasets/a//b/' does not fit",
        ),
        (["deploy"], "inference_image = 'cxr-inference' does not fit"),
    ],
)
def test_an_argument_or_image_that_cannot_be_meant_is_refused_before_the_first_call(
    no_calls, monkeypatch, capsys, tmp_path, command, says
):
    monkeypatch.setattr(source, "_download", lambda: pytest.fail("1.2 GB were fetched first"))
    if command == ["deploy"]:
        (tmp_path / "infra.toml").write_text('inference_image = "cxr-inference"\n')
    assert main(command) == 1
    assert says in capsys.readouterr().err


def test_missing_region_and_credentials_say_what_to_do(no_calls, capsys, monkeypatch):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert main(["status"]) == 1
    assert "No AWS region is set" in capsys.readouterr().err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert main(["status", "--region", "eu-west-1"]) == 1
    assert "No AWS credentials were found" in capsys.readouterr().err
    assert main(["status", "--profile", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err


@pytest.mark.parametrize("held", [(), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")])
def test_the_local_aws_needs_neither_credentials_nor_a_region(monkeypatch, held):
    from infra.session import open_session

    for name in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"} - set(held):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    session = open_session(Config(endpoint_url="http://127.0.0.1:5000"))
    assert session.region_name == "us-east-1" and session.get_credentials()


def test_an_unreachable_endpoint_is_a_sentence_and_no_traceback(capsys):
    assert main(["status", "--endpoint-url", "http://127.0.0.1:9"]) == 1
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9 does not answer" in said and "python -m local_aws up" in said


def test_the_printed_configuration_is_one_that_is_accepted(capsys, tmp_path):
    assert main(["config"]) == 0
    printed = capsys.readouterr().out
    assert main(["config", "--output", "infra.toml"]) == 0
    assert (tmp_path / "infra.toml").read_text() == printed
    assert main(["plan"]) == 0


def test_a_configuration_is_never_overwritten(capsys, tmp_path):
    settings = tmp_path / "infra.toml"
    settings.write_text('project = "lung"\n')
    assert main(["config", "--output", "infra.toml"]) == 1
    assert "infra.toml exists and stays as it is" in capsys.readouterr().err
    assert settings.read_text() == 'project = "lung"\n'
    assert main(["config", "--output", "nowhere/infra.toml"]) == 1
    assert "nowhere/infra.toml cannot be written (No such file or directory)" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "deploy", "images", "upload-dataset", "promote", "rollback", "status",
                                     "redrive", "destroy", "settings", "config"])  # fmt: skip
def test_every_command_explains_itself_and_takes_an_endpoint(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert done.value.code == 0
    assert "--endpoint-url" in said and "--config" in said


def refused(message, call):
    return ClientError({"Error": {"Code": "ValidationError", "Message": message}}, call)


def event(status, logical="cxr-base", reason=None, stack="arn:stack"):
    kind = "AWS::CloudFormation::Stack" if logical == "cxr-base" else "AWS::S3::Bucket"
    physical = stack if logical == "cxr-base" else f"physical-{logical}"
    return {"StackId": stack, "LogicalResourceId": logical, "PhysicalResourceId": physical, "ResourceType": kind,
            "ResourceStatus": status} | ({"ResourceStatusReason": reason} if reason else {})  # fmt: skip


class CloudFormation:
    """One stack as AWS keeps it; `fails_with` is the status in which its next operation ends."""

    def __init__(self, status=None, pages=(), fails_with=None, protected=False, changes=False):
        self.status, self.pages, self.fails_with, self.changes = status, pages, fails_with, changes
        self.protected, self.done, self.read = protected, [], 0
        self.meta = boto3.client("cloudformation", region_name="us-east-1").meta

    def describe_stacks(self, StackName):
        if self.status is None:
            raise refused("Stack with id cxr-base does not exist", "DescribeStacks")
        return {"Stacks": [{"StackStatus": self.status, "EnableTerminationProtection": self.protected, "Outputs": []}]}

    def create_stack(self, EnableTerminationProtection=False, **_):
        self.done.append("create")
        self.status, self.protected = self.fails_with or "CREATE_COMPLETE", EnableTerminationProtection

    def update_stack(self, **_):
        if not self.changes:
            raise refused("No updates are to be performed.", "UpdateStack")
        self.done.append("update")
        self.status = self.fails_with or "UPDATE_COMPLETE"

    def delete_stack(self, StackName):
        if self.protected:
            raise refused("Stack [cxr-base] cannot be deleted while TerminationProtection is enabled", "DeleteStack")
        self.done.append("delete")
        self.status = self.fails_with

    def update_termination_protection(self, EnableTerminationProtection, StackName):
        self.done.append("protect" if EnableTerminationProtection else "unprotect")
        self.protected = EnableTerminationProtection

    def get_waiter(self, name):
        return self

    def wait(self, StackName, WaiterConfig):
        if self.fails_with:
            raise WaiterError("waiter", "failed", {"Stacks": [{"StackStatus": self.fails_with}]})

    def get_paginator(self, name):
        return self

    def paginate(self, StackName):
        for page in self.pages:
            self.read += 1
            yield {"StackEvents": page}


def deploy_base(monkeypatch, cloudformation):
    monkeypatch.setattr(stacks, "client", lambda *_: cloudformation)
    said: list[str] = []
    stacks.deploy_base(boto3.Session(region_name="us-east-1"), Config(), said.append)
    return said


def test_the_remains_of_a_failed_creation_are_removed_first(monkeypatch):
    cloudformation = CloudFormation("ROLLBACK_COMPLETE")
    said = deploy_base(monkeypatch, cloudformation)
    assert cloudformation.done == ["delete", "create", "protect"]
    assert said[0] == "cxr-base: removing what is left of it (ROLLBACK_COMPLETE)"


def test_a_creation_that_failed_can_be_repeated(monkeypatch):
    cloudformation = CloudFormation(fails_with="ROLLBACK_COMPLETE")
    with pytest.raises(StackError):
        deploy_base(monkeypatch, cloudformation)
    cloudformation.fails_with = None
    deploy_base(monkeypatch, cloudformation)
    assert (cloudformation.status, cloudformation.protected) == ("CREATE_COMPLETE", True)


def test_a_base_stack_that_stands_unprotected_is_protected_by_the_next_deployment(monkeypatch):
    cloudformation = CloudFormation("CREATE_COMPLETE")
    said = deploy_base(monkeypatch, cloudformation)
    assert cloudformation.protected and said == ["cxr-base: nothing to change", "cxr-base: protected against deletion"]


def test_a_stack_without_changes_is_left_alone(monkeypatch):
    cloudformation = CloudFormation("UPDATE_COMPLETE", protected=True)
    assert deploy_base(monkeypatch, cloudformation) == ["cxr-base: nothing to change"]
    assert cloudformation.done == []


@pytest.mark.parametrize(
    ("status", "says"),
    [("UPDATE_IN_PROGRESS", "is busy"), ("UPDATE_ROLLBACK_FAILED", "Continue update rollback")],
)
def test_a_stack_that_cannot_be_deployed_now_says_what_to_do(monkeypatch, status, says):
    with pytest.raises(StackError, match=says):
        deploy_base(monkeypatch, CloudFormation(status))


def test_a_failed_deployment_gives_cloudformations_reasons_first_cause_first(monkeypatch):
    pages = [[event("ROLLBACK_COMPLETE"), event("ROLLBACK_IN_PROGRESS", reason="The following resource(s) failed")],
             [event("CREATE_FAILED", f"Bucket{n}", "Resource creation cancelled") for n in range(30)],
             [event("CREATE_FAILED", "Key", "AccessDenied"), event("CREATE_IN_PROGRESS", "Key")],
             [event("CREATE_IN_PROGRESS", reason="User Initiated")]]  # fmt: skip
    with pytest.raises(StackError) as caught:
        deploy_base(monkeypatch, CloudFormation(pages=pages, fails_with="ROLLBACK_COMPLETE"))
    first, *others = [line for line in str(caught.value).splitlines() if line.startswith("  - ")]
    assert first == "  - Key (AWS::S3::Bucket): AccessDenied"
    assert len(others) == stacks.MOST_REASONS - 1


def test_a_failure_of_an_earlier_operation_is_never_named(monkeypatch):
    pages = [[event("UPDATE_ROLLBACK_COMPLETE"), event("UPDATE_FAILED", "Queue", "new"), event("UPDATE_IN_PROGRESS")],
             [event("UPDATE_FAILED", "Queue", "old")]]  # fmt: skip
    cloudformation = CloudFormation("UPDATE_COMPLETE", pages, "UPDATE_ROLLBACK_COMPLETE", changes=True)
    with pytest.raises(StackError) as caught:
        deploy_base(monkeypatch, cloudformation)
    assert "new" in str(caught.value) and "old" not in str(caught.value)
    assert cloudformation.read == 1, "older pages are not even asked for"


def test_a_rollback_without_a_failed_resource_gives_the_stacks_own_reason(monkeypatch):
    pages = [[event("ROLLBACK_IN_PROGRESS", reason="Parameter validation failed"), event("CREATE_IN_PROGRESS")]]
    with pytest.raises(StackError, match="Parameter validation failed"):
        deploy_base(monkeypatch, CloudFormation(pages=pages, fails_with="ROLLBACK_COMPLETE"))


@pytest.mark.parametrize(
    ("stands", "fails_with", "says"),
    [
        (None, "ROLLBACK_COMPLETE", "Stack cxr-base was not created and is ROLLBACK_COMPLETE now"),
        ("CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "was not updated and is UPDATE_ROLLBACK_COMPLETE now"),
        ("ROLLBACK_COMPLETE", "DELETE_FAILED", "was not deleted and is DELETE_FAILED now"),
        (None, "CREATE_IN_PROGRESS", "is still CREATE_IN_PROGRESS after 30 minutes"),
    ],
)
def test_a_failure_is_worded_by_the_operation_that_failed(monkeypatch, stands, fails_with, says):
    with pytest.raises(StackError, match=says):
        deploy_base(monkeypatch, CloudFormation(stands, fails_with=fails_with, changes=True))


def test_a_stack_that_nobody_can_describe_any_more_says_why(monkeypatch):
    cloudformation = CloudFormation()
    gone = WaiterError("StackCreateComplete", "Stack with id cxr-base does not exist", {"Error": {}})
    monkeypatch.setattr(cloudformation, "wait", Mock(side_effect=gone))
    with pytest.raises(StackError, match=r"was not created: .*does not exist; run the command again"):
        deploy_base(monkeypatch, cloudformation)


def test_the_document_s_table_of_commands_names_every_option(repo):
    rows = re.findall(r"^\| (`.+?`) \|", (repo / "docs/deploy.md").read_text(), re.MULTILINE)
    named = {
        name: set(re.findall(r"--[a-z-]+", rest))
        for row in rows
        for name, rest in re.findall(r"`([a-z-]+)([^`]*)`", row)
    }
    parser = command_line._parser()
    (commands,) = [action.choices for action in parser._actions if action.dest == "command"]
    of_all = {"-h", "--help", "--config", "--project", "--region", "--profile", "--endpoint-url"}
    for name, command in commands.items():
        own = {option for action in command._actions for option in action.option_strings} - of_all
        assert own == named[name], name


@pytest.fixture
def service(monkeypatch):
    """What the service stack is created with when this configuration is deployed."""
    sent: dict[str, str] = {}

    def take(self, Parameters, **_):
        sent.update({p["ParameterKey"]: p["ParameterValue"] for p in Parameters})
        self.status = "CREATE_COMPLETE"

    def deploy(config):
        base = {name: name for name in (*stacks.FROM_BASE, "InferenceRepositoryUri", "TrainingRepositoryUri")}
        stacks.deploy_service(boto3.Session(region_name="us-east-1"), config, base, lambda line: None)
        return sent

    monkeypatch.setattr(CloudFormation, "create_stack", take)
    monkeypatch.setattr(stacks, "client", lambda *_: CloudFormation())
    return deploy


def test_the_service_runs_the_images_of_these_sources_unless_others_are_named(service, monkeypatch):
    monkeypatch.setattr(stacks.images, "current", lambda session, config, image, uri: f"{uri}@{image.kind}")
    named = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cxr-inference:5f3c9e0d1b2a4c6e"
    sent = service(Config())
    assert sent["InferenceImageUri"] == "InferenceRepositoryUri@Inference"
    assert sent["TrainingImageUri"] == "TrainingRepositoryUri@Training"
    assert service(Config(inference_image=named))["InferenceImageUri"] == named


class Lambda:
    """An account with a concurrency limit, and the function's own reservation in it."""

    class exceptions:
        class ResourceNotFoundException(Exception):
            pass

    def __init__(self, limit, held=None):
        self.limit, self.held = limit, held

    def get_account_settings(self):
        free = self.limit - (self.held or 0)
        return {"AccountLimit": {"ConcurrentExecutions": self.limit, "UnreservedConcurrentExecutions": free}}

    def get_function_concurrency(self, FunctionName):
        if self.held is None:
            raise self.exceptions.ResourceNotFoundException
        return {"ReservedConcurrentExecutions": self.held}


@pytest.mark.parametrize(("limit", "held", "enough"), [(1000, None, True), (200, None, True), (200, 100, True),
                                                       (199, None, False), (10, None, False)])  # fmt: skip
@pytest.mark.parametrize("command", [["deploy"], ["deploy", "--base"]])
def test_a_concurrency_that_the_account_cannot_spare_is_refused_before_anything_is_changed(
    monkeypatch, capsys, limit, held, enough, command
):
    asked = []

    def client(session, config, service):
        asked.append(service)
        return {"lambda": Lambda(limit, held), "cloudformation": CloudFormation("UPDATE_IN_PROGRESS")}[service]

    monkeypatch.setattr(stacks, "client", client)
    assert main([*command, "--region", "us-east-1"]) == 1
    said = capsys.readouterr().err
    if enough:
        assert asked == ["lambda", "cloudformation"] and "is busy" in said
    else:
        assert asked == ["lambda"]
        assert f"needs a concurrency of 100, but this account can spare {max(0, limit - 100)}" in said


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "CREATE_IN_PROGRESS"])
def test_a_stack_that_came_to_nothing_is_named_with_its_status(monkeypatch, capsys, status):
    monkeypatch.setattr(stacks, "client", lambda *_: CloudFormation(status))
    assert main(["settings", "--region", "us-east-1"]) == 1
    assert f"Stack cxr-base is {status} and has no outputs" in capsys.readouterr().err
    monkeypatch.setattr(operate, "client", lambda *_: CloudFormation(status))
    assert main(["status", "--region", "us-east-1"]) == 0
    assert f"cxr-service: {status}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AccessDenied", "rights"),
        ("ExpiredToken", "log in again"),
        ("ThrottlingException", "again in a minute"),
        ("ValidationError", "AWS's own"),
    ],
)
def test_the_remedy_fits_the_answer(monkeypatch, capsys, code, remedy):
    def answer(*_):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeStacks")

    monkeypatch.setattr(stacks, "client", answer)
    assert main(["settings", "--region", "us-east-1"]) == 1
    said = capsys.readouterr().err
    assert remedy in said and code in said


@pytest.mark.parametrize(
    ("subscribed", "says"),
    [
        ([], "nobody hears an alarm; set alarm_email"),
        (["PendingConfirmation"], "until the subscription that SNS has sent by mail is confirmed"),
        (["PendingConfirmation", "arn:aws:sns:us-east-1:123456789012:cxr-alarms:1"], ""),
    ],
)
def test_an_alarm_that_would_reach_nobody_is_said(monkeypatch, subscribed, says):
    class Sns:
        get_paginator = lambda self, name: self  # noqa: E731
        paginate = lambda self, TopicArn: [{"Subscriptions": [{"SubscriptionArn": arn} for arn in subscribed]}]  # noqa: E731

    monkeypatch.setattr(operate, "client", lambda *_: Sns())
    found = operate.subscribers(boto3.Session(region_name="us-east-1"), Config(), "arn:topic")
    assert says in operate.why_nobody_hears(found) and bool(operate.why_nobody_hears(found)) == bool(says)
