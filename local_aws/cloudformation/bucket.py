"""The properties of AWS::S3::Bucket, in the words of S3's API.

As by S3, a notification to a queue whose policy does not let S3 send is refused: the queue's policy must come first
(DependsOn).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)
Client = Callable[[str], Any]
HANDLED_ELSEWHERE = {"BucketName", "Tags", "LoggingConfiguration"}


class DestinationRefused(ValueError):
    """A queue that S3 may not send to."""


def configure_bucket(client: Client, name: str, properties: Mapping[str, Any]) -> None:
    """Apply every property but name, tags and access logging to an existing bucket. Raises DestinationRefused."""
    for key, value in properties.items():
        if key in APPLY:
            APPLY[key](client, name, value)
        elif key not in HANDLED_ELSEWHERE:
            log.warning("AWS::S3::Bucket %s: property %s is not applied locally", name, key)


def _versioning(client: Client, name: str, value: Mapping[str, Any]) -> None:
    client("s3").put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": value["Status"]})


def _public_access(client: Client, name: str, value: Mapping[str, Any]) -> None:
    flags = {key: _flag(item) for key, item in value.items()}
    client("s3").put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=flags)


def _ownership(client: Client, name: str, value: Mapping[str, Any]) -> None:
    client("s3").put_bucket_ownership_controls(Bucket=name, OwnershipControls={"Rules": list(value["Rules"])})


def _encryption(client: Client, name: str, value: Mapping[str, Any]) -> None:
    rules = [
        {
            "ApplyServerSideEncryptionByDefault": dict(rule["ServerSideEncryptionByDefault"]),
            "BucketKeyEnabled": _flag(rule.get("BucketKeyEnabled", False)),
        }
        for rule in value["ServerSideEncryptionConfiguration"]
    ]
    client("s3").put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})


def _lifecycle(client: Client, name: str, value: Mapping[str, Any]) -> None:
    rules = [lifecycle_rule(rule) for rule in value["Rules"]]
    client("s3").put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})


def lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """One lifecycle rule of a template as PutBucketLifecycleConfiguration wants it."""
    out: dict[str, Any] = {"Status": rule["Status"], "Filter": _filter(rule)}
    if "Id" in rule:
        out["ID"] = rule["Id"]
    expiration: dict[str, Any] = {}
    if "ExpirationInDays" in rule:
        expiration["Days"] = int(rule["ExpirationInDays"])
    if "ExpirationDate" in rule:
        expiration["Date"] = rule["ExpirationDate"]
    if "ExpiredObjectDeleteMarker" in rule:
        expiration["ExpiredObjectDeleteMarker"] = _flag(rule["ExpiredObjectDeleteMarker"])
    if expiration:
        out["Expiration"] = expiration
    if "NoncurrentVersionExpiration" in rule:
        out["NoncurrentVersionExpiration"] = _whole(rule["NoncurrentVersionExpiration"])
    if "AbortIncompleteMultipartUpload" in rule:
        out["AbortIncompleteMultipartUpload"] = _whole(rule["AbortIncompleteMultipartUpload"])
    if "Transitions" in rule:
        out["Transitions"] = [
            {"Days": int(t["TransitionInDays"]), "StorageClass": t["StorageClass"]} for t in rule["Transitions"]
        ]
    if "NoncurrentVersionTransitions" in rule:
        out["NoncurrentVersionTransitions"] = [
            {"NoncurrentDays": int(t["TransitionInDays"]), "StorageClass": t["StorageClass"]}
            for t in rule["NoncurrentVersionTransitions"]
        ]
    return out


def _filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in rule.get("TagFilters") or []]
    prefix = rule.get("Prefix")
    if not tags:
        return {"Prefix": prefix or ""}
    if len(tags) == 1 and prefix is None:
        return {"Tag": tags[0]}
    return {"And": {**({"Prefix": prefix} if prefix is not None else {}), "Tags": tags}}


def _notification(client: Client, name: str, value: Mapping[str, Any]) -> None:
    configuration: dict[str, Any] = {}
    for theirs, ours, target, arn in (
        ("QueueConfigurations", "QueueConfigurations", "Queue", "QueueArn"),
        ("TopicConfigurations", "TopicConfigurations", "Topic", "TopicArn"),
        ("LambdaConfigurations", "LambdaFunctionConfigurations", "Function", "LambdaFunctionArn"),
    ):
        entries = value.get(theirs) or []
        if entries:
            configuration[ours] = [
                {arn: entry[target], "Events": [entry["Event"]], **_key_filter(entry)} for entry in entries
            ]
    for entry in value.get("QueueConfigurations") or []:
        _check_queue(client, entry["Queue"])
    if "EventBridgeConfiguration" in value:
        configuration["EventBridgeConfiguration"] = {}
    client("s3").put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)


def _key_filter(entry: Mapping[str, Any]) -> dict[str, Any]:
    rules = ((entry.get("Filter") or {}).get("S3Key") or {}).get("Rules") or []
    if not rules:
        return {}
    return {"Filter": {"Key": {"FilterRules": [{"Name": r["Name"], "Value": r["Value"]} for r in rules]}}}


def _check_queue(client: Client, arn: str) -> None:
    """S3 sends a test message when a notification is set, and refuses it where that fails."""
    sqs, queue = client("sqs"), arn.rsplit(":", 1)[-1]
    try:
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        raise DestinationRefused(
            f"Unable to validate the following destination configurations: queue {arn} does not exist"
        ) from None
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes") or {}
    statements = json.loads(attributes.get("Policy") or "{}").get("Statement", [])
    if not any(_lets_s3_send(statement) for statement in statements):
        raise DestinationRefused(
            f"Unable to validate the following destination configurations: the policy of {arn} does not let "
            "s3.amazonaws.com send messages; give the bucket a DependsOn the queue's policy"
        )


def _lets_s3_send(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal")
    services = principal if isinstance(principal, str) else (principal or {}).get("Service", [])
    services = [services] if isinstance(services, str) else services
    actions = statement.get("Action", [])
    actions = [actions] if isinstance(actions, str) else actions
    return (
        statement.get("Effect") == "Allow"
        and ("s3.amazonaws.com" in services or "*" in services)
        and any(action.lower() in ("sqs:sendmessage", "sqs:*", "*") for action in actions)
    )


def _flag(value: Any) -> bool:
    return str(value).lower() == "true"


def _whole(value: Mapping[str, Any]) -> dict[str, int]:
    return {key: int(item) for key, item in value.items()}


APPLY: dict[str, Callable[[Client, str, Any], None]] = {
    "BucketEncryption": _encryption,
    "LifecycleConfiguration": _lifecycle,
    "NotificationConfiguration": _notification,
    "OwnershipControls": _ownership,
    "PublicAccessBlockConfiguration": _public_access,
    "VersioningConfiguration": _versioning,
}
