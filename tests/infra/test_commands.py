"""What the commands say before any call is made, and when one fails."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError

from infra import stacks
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
                 "alias/lung", "ReservedConcurrency = 100", "<newest digest>"):  # fmt: skip
        assert text in said


def test_the_configuration_is_checked_before_the_first_call(no_calls, capsys, tmp_path):
    (tmp_path / "infra.toml").write_text("memory_size = 64\n")
    assert main(["deploy"]) == 1
    assert "memory_size = 64 is outside 512 to 10240" in capsys.readouterr().err


def test_a_data_set_is_checked_before_the_first_call(no_calls, capsys, tmp_path):
    (tmp_path / "films").mkdir()
    assert main(["upload-dataset", "films"]) == 1
    assert "has no film in" in capsys.readouterr().err


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
    (tmp_path / "infra.toml").write_text(capsys.readouterr().out)
    assert main(["plan"]) == 0


@pytest.mark.parametrize("command", ["plan", "deploy", "images", "upload-dataset", "promote", "rollback", "status",
                                     "redrive", "destroy", "settings", "config"])  # fmt: skip
def test_every_command_explains_itself_and_takes_an_endpoint(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert done.value.code == 0
    assert "--endpoint-url" in said and "--config" in said


class CloudFormation:
    """Answers with one stack status; records what it is told to do."""

    def __init__(self, status, events=()):
        self.status, self.events, self.done = status, events, []
        self.meta = boto3.client("cloudformation", region_name="us-east-1").meta

    def describe_stacks(self, StackName):
        if self.status is None:
            raise ClientError(
                {"Error": {"Code": "ValidationError", "Message": "Stack does not exist"}}, "DescribeStacks"
            )
        return {"Stacks": [{"StackStatus": self.status, "Outputs": []}]}

    def __getattr__(self, name):
        def call(**arguments):
            self.done.append(name)
            if name == "update_stack":
                message = "No updates are to be performed."
                raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "UpdateStack")
            if name == "delete_stack":
                self.status = None
            if name == "create_stack":
                self.status = "CREATE_COMPLETE"
            return {"StackEvents": self.events}

        return call

    def get_waiter(self, name):
        self.done.append(name)

        class Waiter:
            def wait(_, **arguments):
                if self.events:
                    from botocore.exceptions import WaiterError

                    raise WaiterError(name, "failed", {})

        return Waiter()


def deploy_base(monkeypatch, cloudformation):
    monkeypatch.setattr(stacks, "client", lambda *_: cloudformation)
    said: list[str] = []
    stacks.deploy_base(boto3.Session(region_name="us-east-1"), Config(), said.append)
    return said


def test_the_remains_of_a_failed_creation_are_removed_first(monkeypatch):
    cloudformation = CloudFormation("ROLLBACK_COMPLETE")
    said = deploy_base(monkeypatch, cloudformation)
    assert cloudformation.done == ["delete_stack", "stack_delete_complete", "create_stack", "stack_create_complete"]
    assert said[0] == "cxr-base: removing the remains of a failed creation (ROLLBACK_COMPLETE)"


def test_a_stack_without_changes_is_left_alone(monkeypatch):
    assert deploy_base(monkeypatch, CloudFormation("UPDATE_COMPLETE")) == ["cxr-base: nothing to change"]


@pytest.mark.parametrize(
    ("status", "says"),
    [("UPDATE_IN_PROGRESS", "is busy"), ("UPDATE_ROLLBACK_FAILED", "Continue update rollback")],
)
def test_a_stack_that_cannot_be_deployed_now_says_what_to_do(monkeypatch, status, says):
    with pytest.raises(StackError, match=says):
        deploy_base(monkeypatch, CloudFormation(status))


def test_a_failed_deployment_gives_cloudformations_reasons_first_cause_first(monkeypatch):
    events = [
        {"LogicalResourceId": "UploadsBucket", "ResourceType": "AWS::S3::Bucket", "ResourceStatus": "CREATE_FAILED",
         "ResourceStatusReason": "Resource creation cancelled"},
        {"LogicalResourceId": "Key", "ResourceType": "AWS::KMS::Key", "ResourceStatus": "CREATE_FAILED",
         "ResourceStatusReason": "AccessDenied"},
    ]  # fmt: skip
    with pytest.raises(StackError) as caught:
        deploy_base(monkeypatch, CloudFormation(None, events))
    said = str(caught.value)
    assert said.index("Key (AWS::KMS::Key): AccessDenied") < said.index("UploadsBucket")


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
def test_a_concurrency_that_the_account_cannot_spare_is_refused_before_anything_is_changed(
    monkeypatch, limit, held, enough
):
    monkeypatch.setattr(stacks, "client", lambda *_: Lambda(limit, held))
    check = lambda: stacks._check_concurrency(boto3.Session(region_name="us-east-1"), Config())  # noqa: E731
    if enough:
        check()
    else:
        with pytest.raises(
            StackError, match=f"needs a concurrency of 100, but this account can spare {max(0, limit - 100)}"
        ):
            check()
