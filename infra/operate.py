"""What an operator does by hand: look, promote, roll back, and send dead letters round again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
from botocore.exceptions import ClientError

from cxr.pointer import Move, Pointer, PointerStore
from infra import promotion, stacks
from infra.config import Config
from infra.errors import Fault
from infra.session import client

QUEUES = ("uploads", "backlog")
_PACKAGE = r"[1-9][0-9]*|arn:[a-z-]+:sagemaker:[a-z0-9-]+:[0-9]{12}:model-package/[A-Za-z0-9-]+/[1-9][0-9]*"
MOVE_POLL_SECONDS = 1.0


def check_package(package: str) -> None:
    """Raises Fault unless it is the version or the ARN of a model package."""
    if not re.fullmatch(_PACKAGE, package):
        raise Fault(
            f"{package!r} is neither the version of a model package, such as 7, nor its ARN; the registry lists them"
        )


def promote(session: boto3.Session, config: Config, outputs: Mapping[str, str], package: str, reason: str) -> Pointer:
    """Makes an approved package (its version or ARN) the model that answers, as the promote role."""
    s3, sagemaker = _promoting(session, config, outputs, "s3", "sagemaker")
    move = Move(_caller(session, config), reason)
    return promotion.promote(s3, sagemaker, outputs["ModelsBucket"], _package_arn(outputs, session, package), move)


def roll_back(session: boto3.Session, config: Config, outputs: Mapping[str, str], reason: str) -> Pointer:
    """Makes the model that answered before answer again, as the promote role."""
    (s3,) = _promoting(session, config, outputs, "s3")
    return promotion.roll_back(s3, outputs["ModelsBucket"], Move(_caller(session, config), reason))


def redrive(
    session: boto3.Session,
    config: Config,
    outputs: Mapping[str, str],
    queue: str,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Lets SQS move the dead letters of `uploads` or `backlog` back to their queue; returns how many.

    Raises:
        Fault: SQS refused or gave up; what was not moved stays a dead letter.
    """
    sqs = client(session, config, "sqs")
    url = outputs[f"{queue.capitalize()}DeadLetterQueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    try:
        sqs.start_message_move_task(SourceArn=arn)
    except sqs.exceptions.UnsupportedOperation as error:
        raise Fault(f"SQS does not move the dead letters of {arn}: {error}; is another redrive under way?") from error
    while True:
        task = sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]
        moved, total = task["ApproximateNumberOfMessagesMoved"], task.get("ApproximateNumberOfMessagesToMove", 0)
        if progress and total:
            progress(moved, max(moved, total))
        if task["Status"] == "COMPLETED":
            return moved
        if task["Status"] not in ("RUNNING", "CANCELLING"):
            why = task.get("FailureReason", "SQS gives no reason")
            raise Fault(f"The redrive of {arn} is {task['Status']} after {moved} messages ({why}); run it again")
        time.sleep(MOVE_POLL_SECONDS)


def status(session: boto3.Session, config: Config) -> dict[str, Any]:
    """What stands and what answers: stacks, model, function, queues, alarms that are not OK."""
    cloudformation = client(session, config, "cloudformation")
    found = {name: stacks.describe(cloudformation, name) for name in stacks.names(config)}
    report: dict[str, Any] = {"stacks": {name: s["StackStatus"] if s else "absent" for name, s in found.items()}}
    if not all(stack and stacks.has_outputs(stack) for stack in found.values()):
        return report
    outputs = stacks.outputs(session, config)
    current = PointerStore(client(session, config, "s3"), outputs["ModelsBucket"]).read()
    report["model"] = current.pointer.as_json() if current else None
    function = client(session, config, "lambda").get_function(FunctionName=outputs["FunctionName"])
    report["function"] = {
        "state": function["Configuration"].get("State", "Active"),
        "image": function["Code"].get("ImageUri", ""),
        "memory_mb": function["Configuration"]["MemorySize"],
        "reserved_concurrency": function.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
    }
    sqs = client(session, config, "sqs")
    report["queues"] = {
        queue: _depth(sqs, outputs[f"{queue.capitalize()}QueueUrl"])
        | {"dead": _depth(sqs, outputs[f"{queue.capitalize()}DeadLetterQueueUrl"])["waiting"]}
        for queue in QUEUES
    }
    report["alarms"] = sorted(_alarms(client(session, config, "cloudwatch"), config.project))
    report["alarm_subscribers"] = subscribers(session, config, outputs["AlarmTopicArn"])
    return report


def subscribers(session: boto3.Session, config: Config, topic: str) -> dict[str, int]:
    """How many receive what is published to the topic, and how many have not confirmed that they want to."""
    pages = client(session, config, "sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    arns = [subscription["SubscriptionArn"] for page in pages for subscription in page["Subscriptions"]]
    confirmed = sum(arn.startswith("arn:") for arn in arns)
    return {"confirmed": confirmed, "pending": len(arns) - confirmed}


def why_nobody_hears(subscribed: Mapping[str, int]) -> str:
    """Why an alarm would reach nobody; empty if it reaches somebody."""
    if subscribed["confirmed"]:
        return ""
    if subscribed["pending"]:
        return "nobody hears an alarm until the subscription that SNS has sent by mail is confirmed"
    return "nobody hears an alarm; set alarm_email and deploy, or subscribe something to the alarm topic"


def _promoting(session: boto3.Session, config: Config, outputs: Mapping[str, str], *services: str) -> Iterator[Any]:
    role = outputs["PromoteRoleArn"]
    try:
        answer = client(session, config, "sts").assume_role(RoleArn=role, RoleSessionName="python-m-infra")
    except ClientError as error:
        raise Fault(
            f"You may not assume {role}, the only role that moves the pointer ({error.response['Error']['Code']}). "
            "Set operator_principal_arn to your role or user and deploy again, or promote through the `retrain` DAG"
        ) from error
    c = answer["Credentials"]
    assumed = boto3.Session(
        aws_access_key_id=c["AccessKeyId"],
        aws_secret_access_key=c["SecretAccessKey"],
        aws_session_token=c["SessionToken"],
        region_name=session.region_name,
    )
    return (client(assumed, config, service) for service in services)


def _caller(session: boto3.Session, config: Config) -> str:
    return f"python -m infra by {client(session, config, 'sts').get_caller_identity()['Arn']}"


def _package_arn(outputs: Mapping[str, str], session: boto3.Session, package: str) -> str:
    if package.startswith("arn:"):
        return package
    _, partition, _, _, account, _ = outputs["PromoteRoleArn"].split(":", 5)
    group = outputs["ModelPackageGroupName"]
    return f"arn:{partition}:sagemaker:{session.region_name}:{account}:model-package/{group}/{package}"


def _depth(sqs: Any, url: str) -> dict[str, int]:
    names = {"waiting": "ApproximateNumberOfMessages", "in_flight": "ApproximateNumberOfMessagesNotVisible"}
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names.values()))["Attributes"]
    return {ours: int(found[theirs]) for ours, theirs in names.items()}


def _alarms(cloudwatch: Any, project: str) -> Iterator[str]:
    pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{project}-")
    for page in pages:
        for alarm in page["MetricAlarms"]:
            if alarm["StateValue"] == "ALARM":
                yield alarm["AlarmName"]


def as_text(report: Mapping[str, Any]) -> str:
    """The status for people."""
    lines = [f"stack     {name}: {state}" for name, state in report["stacks"].items()]
    if "model" not in report:
        return "\n".join([*lines, "Run `python -m infra deploy` once nothing is in progress."])
    model = report["model"]
    if model:
        before = model["previous"]
        lines += [
            f"model     version {model['version']}, serial {model['serial']}, since {model['promoted_at']}",
            f"          by {model['actor']}: {model['reason']}",
            f"          before: {'version ' + before['version'] if before else 'none'}",
        ]
    else:
        lines.append("model     none: no film is classified until one is promoted")
    function = report["function"]
    lines.append(
        f"function  {function['state']}, {function['memory_mb']} MB, reserved concurrency "
        f"{function['reserved_concurrency']}, {function['image']}"
    )
    lines += [
        f"queue     {name}: {q['waiting']} waiting, {q['in_flight']} in flight, {q['dead']} dead"
        for name, q in report["queues"].items()
    ]
    deaf = why_nobody_hears(report["alarm_subscribers"])
    lines.append(f"alarms    {', '.join(report['alarms']) or 'none'}{f'; {deaf}' if deaf else ''}")
    return "\n".join(lines)


def as_json(report: Mapping[str, Any]) -> str:
    """The status for programs."""
    return json.dumps(report, indent=2, default=str)
