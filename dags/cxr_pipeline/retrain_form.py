"""What an operator may choose when starting ``retrain``; the defaults are production's, and every floor is visible."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from airflow.sdk import Param

# Sent to the training job as they are; the names are those of training_job.
HYPERPARAMETERS = (
    "head", "weights", "epochs", "patience", "learning_rate", "batch_size", "dense_units", "augment_copies",
    "fine_tune_blocks", "fine_tune_epochs", "fine_tune_learning_rate", "alpha", "sensitivity_floor", "seed",
    "feature_engine", "precision", "mixed_precision", "require_gpu",
)  # fmt: skip


def _number(default: float, low: float, high: float, title: str, text: str, section: str) -> Param:
    return Param(default, type="number", minimum=low, maximum=high, title=title, description=text, section=section)


def _whole(default: int, low: int, high: int, title: str, text: str, section: str) -> Param:
    return Param(default, type="integer", minimum=low, maximum=high, title=title, description=text, section=section)


def _choice(default: str, values: list[str], title: str, text: str, section: str) -> Param:
    return Param(default, type="string", enum=values, title=title, description=text, section=section)


DATA, MODEL, COMPUTE, GATE, DECISION = "1 Data", "2 Model", "3 Compute", "4 Quality gate", "5 Decision"

FORM: dict[str, Param] = {
    "dataset": Param(
        None, type=["string", "null"], pattern="^(datasets/([^/]+/)+)?$", title="Dataset", section=DATA,
        description="Prefix in the datasets bucket that holds train/ and test/, with a slash at the end. Empty: the "
        "current one (the newest corrected version, at first datasets/chest_xray/).",
    ),
    "min_films": _whole(20, 1, 100000, "Fewest films", "Of each class in each split; fewer stop the run.", DATA),
    "force": Param(
        False, type="boolean", title="Train in any case", section=DATA,
        description="Train again although dataset, image and parameters are those of an earlier run.",
    ),
    "head": _choice("gap", ["gap", "flatten"], "Head", "gap: one probability; flatten: a two-class softmax.", MODEL),
    "weights": _choice(
        "imagenet", ["imagenet", "channel", "random"], "Start weights",
        "imagenet: downloaded by the job; channel: from S3, no network needed; random: only for smoke tests.", MODEL,
    ),
    "weights_uri": Param(
        None, type=["string", "null"], pattern="^(s3://[^/]+/.+/)?$", title="Weights folder", section=MODEL,
        description="For `channel`: s3://<datasets bucket>/prefix/ with one *.weights.h5. Empty: weights/vgg16/ there.",
    ),
    "epochs": Param(
        None, type=["integer", "null"], minimum=1, maximum=500, title="Epochs", section=MODEL,
        description="Upper bound of the head's training. Empty: 30 for gap, 1 for flatten.",
    ),
    "patience": _whole(8, 1, 500, "Patience", "Epochs without progress before the training ends.", MODEL),
    "learning_rate": _number(0.001, 1e-7, 1.0, "Learning rate", "Of the head.", MODEL),
    "batch_size": _whole(32, 1, 1024, "Batch size", "Films per step.", MODEL),
    "dense_units": _whole(256, 1, 4096, "Dense units", "Width of the head's hidden layer.", MODEL),
    "augment_copies": _whole(1, 0, 20, "Augmented copies", "Shifted and turned copies of each film.", MODEL),
    "fine_tune_blocks": _whole(0, 0, 5, "Fine-tune blocks", "Last VGG16 blocks trained after the head (GPU).", MODEL),
    "fine_tune_epochs": _whole(8, 1, 500, "Fine-tune epochs", "Epochs of the fine-tuning.", MODEL),
    "fine_tune_learning_rate": _number(1e-5, 1e-8, 1e-2, "Fine-tune rate", "Learning rate of the fine-tuning.", MODEL),
    "alpha": _number(0.05, 0.001, 0.5, "Alpha", "Share of a class that the conformal set may miss.", MODEL),
    "sensitivity_floor": _number(
        0.95, 0.0, 1.0, "Sensitivity sought", "The threshold is chosen on held-out films to reach it.", MODEL
    ),
    "seed": _whole(0, 0, 2**31 - 1, "Seed", "Same seed, same data, same model.", MODEL),
    "feature_engine": _choice("auto", ["auto", "keras", "int8"], "Feature engine", "What computes them.", MODEL),
    "precision": _choice("auto", ["auto", "float16"], "Precision", "auto: int8 where it changes no answer.", MODEL),
    "mixed_precision": _choice("auto", ["auto", "true", "false"], "Mixed precision", "auto: on GPUs.", MODEL),
    "instance_type": Param(
        "ml.g5.xlarge", type="string", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", title="Instance", section=COMPUTE,
        description="SageMaker training instance.",
    ),
    "require_gpu": Param(
        True, type="boolean", title="Require a GPU", section=COMPUTE,
        description="The job fails at once if no GPU is visible. Off for CPU instances and on a laptop.",
    ),
    "spot": Param(False, type="boolean", title="Spot", section=COMPUTE, description="Cheaper; may wait or be resumed."),
    "volume_gb": _whole(50, 1, 1000, "Volume (GB)", "Dataset, checkpoints and model must fit.", COMPUTE),
    "max_runtime_minutes": _whole(60, 1, 7200, "Longest run (minutes)", "SageMaker stops the job then.", COMPUTE),
    "check_interval": _whole(30, 1, 600, "Check every (s)", "Between two looks at the job or the approval.", COMPUTE),
    "min_sensitivity": _number(0.93, 0, 1, "Sensitivity at least", "A missed pneumonia is the costly error.", GATE),
    "min_specificity": _number(0.70, 0, 1, "Specificity at least", "False alarms cost a reader's time.", GATE),
    "min_auroc": _number(0.93, 0, 1, "AUROC at least", "On the frozen test split.", GATE),
    "max_ece": _number(0.10, 0, 1, "Calibration error at most", "Expected calibration error (15 bins).", GATE),
    "max_parity_auroc_drop": _number(0.005, 0, 1, "AUROC lost by export at most", ".keras against .tflite.", GATE),
    "max_parity_label_flips": _number(0.02, 0, 1, "Labels changed by export at most", "Share of tune films.", GATE),
    "max_parity_status_flips": _number(0.02, 0, 1, "Statuses changed by export at most", "Share of tune films.", GATE),
    "margin_auroc": _number(
        -0.01, -1, 0, "AUROC margin", "Lower bound of challenger minus champion must lie above it.", GATE
    ),
    "margin_balanced_accuracy": _number(-0.02, -1, 0, "Balanced accuracy margin", "Same, for the labels.", GATE),
    "approval": _choice(
        "automatic", ["automatic", "manual"], "Approval",
        "manual: the run waits until somebody approves or refuses the package in the registry.", DECISION,
    ),
    "approval_timeout_hours": _number(72, 0, 720, "Wait at most (hours)", "For the manual approval.", DECISION),
    "smoke_films": _whole(4, 1, 50, "Golden films", "Test films sent through the Lambda afterwards.", DECISION),
    "smoke_tolerance": _number(
        0.02, 0, 1, "Golden tolerance", "Largest difference of probability; CPUs round int8 differently.", DECISION
    ),
}  # fmt: skip


def with_defaults(form: dict[str, Param], defaults: dict[str, Any]) -> dict[str, Param]:
    """Return the form with other defaults, for an installation where production's make no sense (a laptop)."""
    unknown = sorted(set(defaults) - set(form))
    if unknown:
        raise ValueError(f"CXR_RETRAIN_DEFAULTS names unknown parameters: {', '.join(unknown)}")
    changed = {name: Param(value, form[name].description, **form[name].schema) for name, value in defaults.items()}
    return {**form, **changed}


FORM = with_defaults(FORM, json.loads(os.environ.get("CXR_RETRAIN_DEFAULTS", "{}")))


def hyperparameters(params: dict[str, Any]) -> dict[str, str]:
    """Return the training job's hyperparameters as SageMaker wants them: strings, booleans in lower case."""
    return {name: str(params[name]).lower() for name in HYPERPARAMETERS if params[name] is not None}


def fingerprint(dataset_digest: str, weights_digest: str, image: str, params: dict[str, Any]) -> str:
    """Name everything that decides what a training job makes: same fingerprint, same model, no second GPU hour."""
    facts = [dataset_digest, weights_digest, image, hyperparameters(params)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
