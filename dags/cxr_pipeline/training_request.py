"""The whole request that SageMaker gets, as data: what is wrong with it is said before anything is paid for."""

from __future__ import annotations

import re
from typing import Any, NotRequired, TypedDict

from cxr.metric_definitions import METRIC_DEFINITIONS, Metric
from cxr_pipeline.outcome import fail
from cxr_pipeline.retrain_form import hyperparameters
from cxr_pipeline.settings import Settings

JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
# Instances whose local NVMe is encrypted by hardware; SageMaker refuses a volume key for them.
LOCAL_STORAGE = re.compile(r"ml\.(g4dn|g5|g6|g6e|gr6|p3dn|p4d|p4de|p5|p5e|p5en|trn1|trn1n|[a-z0-9]+d)\.")


class Algorithm(TypedDict):
    TrainingImage: str
    TrainingInputMode: str
    MetricDefinitions: list[Metric]


class S3Source(TypedDict):
    S3DataType: str
    S3Uri: str
    S3DataDistributionType: str


class Channel(TypedDict):
    ChannelName: str
    InputMode: str
    DataSource: dict[str, S3Source]


class Output(TypedDict):
    S3OutputPath: str
    KmsKeyId: NotRequired[str]


class Resources(TypedDict):
    InstanceType: str
    InstanceCount: int
    VolumeSizeInGB: int
    VolumeKmsKeyId: NotRequired[str]


class Stopping(TypedDict):
    MaxRuntimeInSeconds: int
    MaxWaitTimeInSeconds: NotRequired[int]


class TrainingRequest(TypedDict):
    """The arguments of CreateTrainingJob."""

    TrainingJobName: str
    AlgorithmSpecification: Algorithm
    RoleArn: str
    HyperParameters: dict[str, str]
    InputDataConfig: list[Channel]
    OutputDataConfig: Output
    CheckpointConfig: dict[str, str]
    ResourceConfig: Resources
    StoppingCondition: Stopping
    EnableManagedSpotTraining: bool
    EnableNetworkIsolation: bool
    Tags: list[dict[str, str]]


def training_request(
    job: str, names: Settings, params: dict[str, Any], channels: dict[str, str | None]
) -> TrainingRequest:
    """Return the request of training job ``job``; ends the task where SageMaker would refuse its name.

    ``channels`` maps a channel's name to the s3:// address whose objects the job finds there, or to None for a channel
    that it does without.
    """
    if not JOB_NAME.fullmatch(job):
        fail(f"{job!r} is no training job name: at most 63 letters, digits and single dashes")
    training = f"s3://{names.models_bucket}/training/"
    output: Output = {"S3OutputPath": training}
    resources: Resources = {
        "InstanceType": params["instance_type"],
        "InstanceCount": 1,
        "VolumeSizeInGB": params["volume_gb"],
    }
    if names.kms_key_arn:
        output["KmsKeyId"] = names.kms_key_arn
        if not LOCAL_STORAGE.match(params["instance_type"]):
            resources["VolumeKmsKeyId"] = names.kms_key_arn
    stopping: Stopping = {"MaxRuntimeInSeconds": 60 * params["max_runtime_minutes"]}
    if params["spot"]:
        stopping["MaxWaitTimeInSeconds"] = 120 * params["max_runtime_minutes"]
    return {
        "TrainingJobName": job,
        "AlgorithmSpecification": {
            "TrainingImage": names.training_image,
            "TrainingInputMode": "File",
            "MetricDefinitions": METRIC_DEFINITIONS,
        },
        "RoleArn": names.training_role_arn,
        "HyperParameters": hyperparameters(params),
        "InputDataConfig": [_channel(name, uri) for name, uri in channels.items() if uri],
        "OutputDataConfig": output,
        "CheckpointConfig": {"S3Uri": f"{training}{job}/checkpoints/"},
        "ResourceConfig": resources,
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": params["spot"],
        "EnableNetworkIsolation": params["weights"] != "imagenet",
        "Tags": [{"Key": "airflow-dag", "Value": "retrain"}, {"Key": "project", "Value": names.project}],
    }


def _channel(name: str, uri: str) -> Channel:
    source: S3Source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "InputMode": "File", "DataSource": {"S3DataSource": source}}
