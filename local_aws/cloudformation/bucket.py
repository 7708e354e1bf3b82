"""The properties of AWS::S3::Bucket, in the words of S3's API.

As by S3, a notification to a queue whose policy does not let S3 send is refused: the queue's policy must come first
(DependsOn).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from local_aws.cloudformation.resource_type import call

log = logging.getLogger(__name__)
Client = Callable[[str], Any]
HANDLED_ELSEWHERE = {"BucketName", "Tags", "LoggingConfiguration"}
EXPIRATION = {
    "ExpirationInDays": "Days",
    "ExpirationDate": "Date",
    "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker",
}


class DestinationRefused(ValueError):
    """A queue that S3 may not send to."""


def configure_bucket(client: Client, name: str, properties: Mapping[str, Any]) -> None:
    """Apply every property but name, tags and access logging to an existing bucket. Raises DestinationRefused."""
    for key, value in properties.items():
        if key in APPLIED:
            operation, argument, translated = APPLIED[key]
            if key == "NotificationConfiguration":
                for entry in value.get("QueueConfigurations") or []:
                    _check_queue(client("sqs"), entry["Queue"])
            call(client("s3"), operation, Bucket=name, **{argument: translated(value)})
        elif key not in HANDLED_ELSEWHERE:
            log.warning("AWS::S3::Bucket %s: property %s is not applied locally", name, key)


def _encryption(value: Mapping[str, Any]) -> dict[str, Any]:
    wanted = [dict(rule) for rule in value["ServerSideEncryptionConfiguration"]]
    return {
        "Rules": [
            {"ApplyServerSideEncryptionByDefault": rule.pop("ServerSideEncryptionByDefault"), **rule} for rule in wanted
        ]
    }


def _lifecycle(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"Rules": [_lifecycle_rule(rule) for rule in value["Rules"]]}


def _lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("Status", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    out = {name: rule[name] for name in kept if name in rule} | {"Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        out["ID"] = rule["Id"]
    expiration = {theirs: rule[name] for name, theirs in EXPIRATION.items() if name in rule}
    return out | ({"Expiration": expiration} if expiration else {})


def _notification(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "QueueConfigurations": [
            {"QueueArn": entry["Queue"], "Events": [entry["Event"]], **_key_filter(entry)}
            for entry in value.get("QueueConfigurations") or []
        ]
    }


def _key_filter(entry: Mapping[str, Any]) -> dict[str, Any]:
    rules = ((entry.get("Filter") or {}).get("S3Key") or {}).get("Rules") or []
    return {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}


def _check_queue(sqs: Any, arn: str) -> None:
    """S3 sends a test message when a notification is set, and refuses it where that fails."""
    refused = "Unable to validate the following destination configurations"
    try:
        url = sqs.get_queue_url(QueueName=arn.rsplit(":", 1)[-1])["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        raise DestinationRefused(f"{refused}: queue {arn} does not exist") from None
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes") or {}
    statements = json.loads(attributes.get("Policy") or "{}").get("Statement", [])
    if not any(_lets_s3_send(statement) for statement in statements):
        raise DestinationRefused(
            f"{refused}: the policy of {arn} does not let s3.amazonaws.com send messages; give the bucket a DependsOn "
            "the queue's policy"
        )


def _lets_s3_send(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal")
    services = _listed(principal if isinstance(principal, str) else (principal or {}).get("Service", []))
    return (
        statement.get("Effect") == "Allow"
        and ("s3.amazonaws.com" in services or "*" in services)
        and any(action.lower() in ("sqs:sendmessage", "sqs:*", "*") for action in _listed(statement.get("Action", [])))
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _same(value: Any) -> Any:
    return value


APPLIED: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "BucketEncryption": ("put_bucket_encryption", "ServerSideEncryptionConfiguration", _encryption),
    "LifecycleConfiguration": ("put_bucket_lifecycle_configuration", "LifecycleConfiguration", _lifecycle),
    "NotificationConfiguration": (
        "put_bucket_notification_configuration",
        "NotificationConfiguration",
        _notification,
    ),
    "OwnershipControls": ("put_bucket_ownership_controls", "OwnershipControls", _same),
    "PublicAccessBlockConfiguration": ("put_public_access_block", "PublicAccessBlockConfiguration", _same),
    "VersioningConfiguration": ("put_bucket_versioning", "VersioningConfiguration", _same),
}
"""Operation, name of its argument, and what a property becomes for it."""
