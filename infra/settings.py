"""The stacks' outputs are the only source of what the DAGs are told: the Airflow Variable `cxr`."""

from __future__ import annotations

from collections.abc import Mapping

_SOURCES = {
    "project": "Project",
    "datasets_bucket": "DatasetsBucket",
    "uploads_bucket": "UploadsBucket",
    "results_bucket": "ResultsBucket",
    "models_bucket": "ModelsBucket",
    "training_role_arn": "TrainingRoleArn",
    "promote_role_arn": "PromoteRoleArn",
    "training_image": "TrainingImageUri",
    "inference_image": "InferenceImageUri",
    "model_package_group": "ModelPackageGroupName",
    "function_name": "FunctionName",
    "uploads_queue_url": "UploadsQueueUrl",
    "backlog_queue_url": "BacklogQueueUrl",
    "alarm_topic_arn": "AlarmTopicArn",
    "kms_key_arn": "KeyArn",
}


def airflow_settings(outputs: Mapping[str, str]) -> dict[str, str]:
    """The Airflow Variable `cxr` from the outputs of both stacks (`stacks.deploy` or `stacks.outputs`)."""
    return {name: outputs[source] for name, source in _SOURCES.items()}
