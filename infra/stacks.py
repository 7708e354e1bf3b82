"""Deploying twice is the same as deploying once: an unchanged stack is left alone, a failed one says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import ClientError, WaiterError

from infra import images, template, terminal
from infra.config import Config
from infra.errors import Fault
from infra.session import client, is_local

Say = Callable[[str], None]
_SETTLED_BADLY = ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED", "DELETE_FAILED")
FROM_BASE = (
    "FunctionRoleArn",
    "KeyArn",
    "UploadsBucket",
    "ResultsBucket",
    "ModelsBucket",
    "UploadsQueueArn",
    "BacklogQueueArn",
    "AlarmTopicArn",
)  # outputs of the base stack that the service stack takes


KEPT_UNRESERVED = 100  # Lambda keeps so much of an account's concurrency for functions without a reservation
LONGEST_WAIT = 1800  # seconds for one operation on a stack
MOST_REASONS = 20  # in one message


class Operation(NamedTuple):
    """What is done to a stack as a whole."""

    done: str  # as a participle
    began: str  # the stack's own first event of it
    waiter: str


CREATION = Operation("created", "CREATE_IN_PROGRESS", "stack_create_complete")
UPDATE = Operation("updated", "UPDATE_IN_PROGRESS", "stack_update_complete")
DELETION = Operation("deleted", "DELETE_IN_PROGRESS", "stack_delete_complete")


@dataclass(frozen=True)
class Stack:
    """A stack as it is to be. project: its tag; protect: against deletion."""

    name: str
    template: Path
    parameters: Mapping[str, str]
    project: str
    protect: bool = False


class StackError(Fault):
    """CloudFormation refused or rolled back; the message carries its reasons."""


def names(config: Config) -> tuple[str, str]:
    """Names of the base and the service stack."""
    return f"{config.project}-base", f"{config.project}-service"


def deploy(session: boto3.Session, config: Config, say: Say = terminal.say) -> dict[str, str]:
    """Creates or updates both stacks and returns their outputs in one dict. Safe to repeat.

    Raises:
        StackError: CloudFormation failed; nothing is half done, it rolls back.
        ImageMissing: the base stack stands, but the image of these sources has not been pushed.
    """
    base = deploy_base(session, config, say)
    return base | deploy_service(session, config, base, say)


def deploy_base(session: boto3.Session, config: Config, say: Say = terminal.say) -> dict[str, str]:
    """Creates or updates the base stack, protects it against deletion, and returns its outputs."""
    cloudformation = client(session, config, "cloudformation")
    name, _ = names(config)
    stack = Stack(name, template.BASE, config.parameters("base"), config.project, protect=not is_local(config))
    return _apply(cloudformation, stack, say)


def deploy_service(
    session: boto3.Session, config: Config, base: Mapping[str, str], say: Say = terminal.say
) -> dict[str, str]:
    """Creates or updates the service stack on top of the base stack's outputs, and returns its own."""
    parameters = config.parameters("service") | {name: base[name] for name in FROM_BASE}
    for image, configured in ((images.INFERENCE, config.inference_image), (images.TRAINING, config.training_image)):
        repository = base[f"{image.kind}RepositoryUri"]
        parameters[f"{image.kind}ImageUri"] = configured or images.current(session, config, image, repository)
    stack = Stack(names(config)[1], template.SERVICE, parameters, config.project)
    return _apply(client(session, config, "cloudformation"), stack, say)


def check_concurrency(session: boto3.Session, config: Config) -> None:
    """Lambda refuses a reservation that leaves the account less than 100; CloudFormation says so only at the end.

    Raises:
        StackError: the account cannot spare what the configuration reserves.
    """
    if is_local(config):
        return
    functions = client(session, config, "lambda")
    limits = functions.get_account_settings()["AccountLimit"]
    try:
        found = functions.get_function_concurrency(FunctionName=f"{config.project}-classify")
        held = found.get("ReservedConcurrentExecutions", 0)
    except functions.exceptions.ResourceNotFoundException:
        held = 0
    free = limits["UnreservedConcurrentExecutions"] + held - KEPT_UNRESERVED
    if config.reserved_concurrency > free:
        raise StackError(
            f"The function needs a concurrency of {config.reserved_concurrency}, but this account can spare "
            f"{max(0, free)} (its limit is {limits['ConcurrentExecutions']}, {KEPT_UNRESERVED} stay unreserved). "
            "Ask for a higher limit in "
            "Service Quotas (Lambda, concurrent executions), or lower uploads_concurrency and backlog_concurrency"
        )


def outputs(session: boto3.Session, config: Config) -> dict[str, str]:
    """Outputs of both stacks as they stand.

    Raises:
        StackError: one of them does not exist, or has come to nothing.
    """
    return base_outputs(session, config) | _standing(session, config, names(config)[1])


def base_outputs(session: boto3.Session, config: Config) -> dict[str, str]:
    """Outputs of the base stack as it stands.

    Raises:
        StackError: it does not exist, or has come to nothing.
    """
    return _standing(session, config, names(config)[0])


def _standing(session: boto3.Session, config: Config, name: str) -> dict[str, str]:
    cloudformation = client(session, config, "cloudformation")
    stack = describe(cloudformation, name)
    if stack is None:
        raise StackError(
            f"There is no stack {name} in {cloudformation.meta.region_name}; run `python -m infra deploy`"
            f"{' --base' if name.endswith('-base') else ''}, or correct project and region"
        )
    if not has_outputs(stack):
        raise StackError(
            f"Stack {name} is {stack['StackStatus']} and has no outputs; wait until it has settled, or run "
            "`python -m infra deploy` again"
        )
    return _outputs(stack)


def describe(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """CloudFormation's description of a stack, or None if there is none."""
    try:
        return cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def has_outputs(stack: Mapping[str, Any]) -> bool:
    """Whether a stack was ever created as a whole; both of ours have outputs then."""
    return bool(stack.get("Outputs"))


def _outputs(stack: Mapping[str, Any]) -> dict[str, str]:
    return {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}


def _apply(cloudformation: Any, wanted: Stack, say: Say) -> dict[str, str]:
    name = wanted.name
    stack = describe(cloudformation, name)
    status = stack["StackStatus"] if stack else ""
    if status.endswith("_IN_PROGRESS") and status not in _SETTLED_BADLY:
        raise StackError(f"Stack {name} is busy ({status}); wait until it has settled and run the command again")
    if status == "UPDATE_ROLLBACK_FAILED":
        raise StackError(
            f"Stack {name} is stuck in {status}; choose `Continue update rollback` in the CloudFormation "
            "console, then run the command again"
        )
    if status in _SETTLED_BADLY:
        say(f"{name}: removing what is left of it ({status})")
        delete(cloudformation, name)
        stack = None
    request: dict[str, Any] = {
        "StackName": name,
        "TemplateBody": wanted.template.read_text(encoding="utf-8"),
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in sorted(wanted.parameters.items())
        ],
        "Tags": [{"Key": "project", "Value": wanted.project}],
    }
    if stack is None:
        say(f"{name}: creating")
        cloudformation.create_stack(**request)
        _wait(cloudformation, name, CREATION)
    elif _update(cloudformation, request):
        say(f"{name}: updating")
        _wait(cloudformation, name, UPDATE)
    else:
        say(f"{name}: nothing to change")
    stack = describe(cloudformation, name) or {}
    # Only what stands is protected: a failed creation must be deleted before the next try, and AWS would refuse.
    if wanted.protect and not stack.get("EnableTerminationProtection"):
        cloudformation.update_termination_protection(EnableTerminationProtection=True, StackName=name)
        say(f"{name}: protected against deletion")
    return _outputs(stack)


def _update(cloudformation: Any, request: Mapping[str, Any]) -> bool:
    """Starts the update; False if there is nothing to update."""
    try:
        cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" in str(error):
            return False
        raise
    return True


def _wait(cloudformation: Any, name: str, operation: Operation) -> None:
    pace = {"Delay": 5, "MaxAttempts": LONGEST_WAIT // 5}
    try:
        cloudformation.get_waiter(operation.waiter).wait(StackName=name, WaiterConfig=pace)
    except WaiterError as error:
        found = error.last_response.get("Stacks")
        if not found:
            raise StackError(f"Stack {name} was not {operation.done}: {error}; run the command again") from error
        status = found[0]["StackStatus"]
        if status.endswith("_IN_PROGRESS"):
            raise StackError(
                f"Stack {name} is still {status} after {LONGEST_WAIT // 60} minutes. CloudFormation goes on without "
                "this command; run it again when the stack has settled (`python -m infra status`)"
            ) from error
        raise StackError(
            f"Stack {name} was not {operation.done} and is {status} now:\n"
            f"{_reasons(cloudformation, name, operation)}\n"
            "Mend the first reason and run the command again; docs/deploy.md explains the usual ones"
        ) from error


def _reasons(cloudformation: Any, name: str, operation: Operation) -> str:
    """What failed since the operation began, the first cause first: it fails before what it draws with it."""
    failed: list[Mapping[str, Any]] = []
    for event in _latest_events(cloudformation, name):
        of_stack = event.get("PhysicalResourceId") == event["StackId"]
        if of_stack and event["ResourceStatus"] == operation.began:
            break
        if event["ResourceStatus"].endswith(("_FAILED", "ROLLBACK_IN_PROGRESS")):
            failed.append(event)
    return (
        "\n".join(
            f"  - {e['LogicalResourceId']} ({e['ResourceType']}): {e.get('ResourceStatusReason', 'no reason')}"
            for e in failed[::-1][:MOST_REASONS]
        )
        or "  - CloudFormation gives no reason"
    )


def _latest_events(cloudformation: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """A stack's events, the latest first, page by page as they are asked for."""
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=name):
        yield from page["StackEvents"]


def delete(cloudformation: Any, name: str) -> None:
    """Deletes a stack and waits until it is gone; a stack that does not exist is fine."""
    cloudformation.delete_stack(StackName=name)
    _wait(cloudformation, name, DELETION)
