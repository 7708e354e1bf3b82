"""Where data and messages lie: buckets, queues, topics and who may use them."""

from __future__ import annotations

import json
import logging
from typing import Any

from local_aws.cloudformation.bucket import configure_bucket
from local_aws.cloudformation.resource_type import Made, Own, Properties, Type

log = logging.getLogger(__name__)


class Bucket(Type):
    def apply(self, made: Any, properties: Properties) -> None:
        configure_bucket(self.client, made.name, properties)
        logging_to = properties.get("LoggingConfiguration") or {}
        made.logging = (
            {
                "TargetBucket": logging_to.get("DestinationBucketName", made.name),
                "TargetPrefix": logging_to.get("LogFilePrefix", ""),
            }
            if logging_to
            else {}
        )


class BucketPolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        self.client("s3").put_bucket_policy(
            Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"])
        )
        return Made(properties["Bucket"])

    def remove(self, ref: str, properties: Properties) -> None:
        self.client("s3").delete_bucket_policy(Bucket=ref)


class Queue(Type):
    """Ref is the address at which the local AWS serves the queue; every attribute can be updated."""

    ATTRIBUTES = (
        "DelaySeconds",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "ReceiveMessageWaitTimeSeconds",
        "VisibilityTimeout",
        "KmsMasterKeyId",
        "RedrivePolicy",
    )

    def apply(self, made: Any, properties: Properties) -> None:
        values = {name: properties[name] for name in self.ATTRIBUTES if name in properties}
        texts = {name: json.dumps(v) if isinstance(v, dict) else str(v) for name, v in values.items()}
        if texts:
            self.client("sqs").set_queue_attributes(QueueUrl=made.physical_resource_id, Attributes=texts)


class QueuePolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        for url in properties["Queues"]:
            self.client("sqs").set_queue_attributes(
                QueueUrl=url, Attributes={"Policy": json.dumps(properties["PolicyDocument"])}
            )
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        for url in properties["Queues"]:
            self.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})


class TopicPolicy(Own):
    def put(self, name: str, properties: Properties) -> Made:
        for arn in properties["Topics"]:
            self.client("sns").set_topic_attributes(
                TopicArn=arn, AttributeName="Policy", AttributeValue=json.dumps(properties["PolicyDocument"])
            )
        return Made(name)

    def remove(self, ref: str, properties: Properties) -> None:
        log.debug("topic policies go with their topics")
