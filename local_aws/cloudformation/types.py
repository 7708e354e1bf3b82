"""Resource types that moto lacks or applies in part, by CloudFormation's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_aws.cloudformation.compute import (
    Alias,
    EventInvokeConfig,
    Function,
    Key,
    ModelPackageGroup,
    Repository,
    Role,
)
from local_aws.cloudformation.monitoring import Alarm, LogGroup, MetricFilter
from local_aws.cloudformation.resource_type import Type
from local_aws.cloudformation.stores import Bucket, BucketPolicy, Queue, QueuePolicy, TopicPolicy

TYPES: dict[str, Callable[[Callable[[str], Any]], Type]] = {
    "AWS::CloudWatch::Alarm": Alarm,
    "AWS::ECR::Repository": Repository,
    "AWS::IAM::Role": Role,
    "AWS::KMS::Key": Key,
    "AWS::Lambda::Alias": Alias,
    "AWS::Lambda::EventInvokeConfig": EventInvokeConfig,
    "AWS::Lambda::Function": Function,
    "AWS::Logs::LogGroup": LogGroup,
    "AWS::Logs::MetricFilter": MetricFilter,
    "AWS::S3::Bucket": Bucket,
    "AWS::S3::BucketPolicy": BucketPolicy,
    "AWS::SNS::TopicPolicy": TopicPolicy,
    "AWS::SQS::Queue": Queue,
    "AWS::SQS::QueuePolicy": QueuePolicy,
    "AWS::SageMaker::ModelPackageGroup": ModelPackageGroup,
}
