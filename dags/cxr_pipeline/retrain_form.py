"""What an operator may choose when starting ``retrain``; the defaults are production's, and every floor is visible.

What belongs to the training job is said by cxr.hyperparameters, names, defaults, ranges and sentences.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from airflow.sdk import Param

from cxr.dataset import PREFIX_OR_NONE
from cxr.hyperparameters import SPECIFICATIONS


def _number(default: float, low: float, high: float, title: str, text: str, section: str) -> Param:
    return Param(default, type="number", minimum=low, maximum=high, title=title, description=text, section=section)


def _whole(default: int, low: int, high: int, title: str, text: str, section: str) -> Param:
    return Param(default, type="integer", minimum=low, maximum=high, title=title, description=text, section=section)


def _choice(default: str, values: list[str], title: str, text: str, section: str) -> Param:
    return Param(default, type="string", enum=values, title=title, description=text, section=section)


DATA, MODEL, COMPUTE, GATE, DECISION = "1 Data", "2 Model", "3 Compute", "4 Quality gate", "5 Decision"

FORM: dict[str, Param] = {
    "dataset": Param(
        None, type=["string", "null"], pattern=PREFIX_OR_NONE, title="Dataset", section=DATA,
        description="Prefix in the datasets bucket that holds train/ and test/, with a slash at the end. Empty: the "
        "current one (the newest corrected version, at first datasets/chest_xray/).",
    ),
    "min_films": _whole(20, 1, 100000, "Fewest films", "Of each class in each split; fewer stop the run.", DATA),
    "force": Param(
        False, type="boolean", title="Train in any case", section=DATA,
        description="Train again although dataset, image and parameters are those of an earlier run.",
    ),
    **{
        name: Param(one.form_default, section=COMPUTE if name == "require_gpu" else MODEL, **one.json_schema())
        for name, one in SPECIFICATIONS.items()
    },
    "weights_uri": Param(
        None, type=["string", "null"], pattern="^(s3://[^/]+/.+/)?$", title="Weights folder", section=MODEL,
        description="For `channel`: s3://<datasets bucket>/prefix/ with one *.weights.h5. Empty: weights/vgg16/ there.",
    ),
    "instance_type": Param(
        "ml.g5.xlarge", type="string", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", title="Instance", section=COMPUTE,
        description="SageMaker training instance.",
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
    return {name: str(params[name]).lower() for name in SPECIFICATIONS if params[name] is not None}


def fingerprint(dataset_digest: str, weights_digest: str, image: str, params: dict[str, Any]) -> str:
    """Name everything that decides what a training job makes: same fingerprint, same model, no second GPU hour."""
    facts = [dataset_digest, weights_digest, image, hyperparameters(params)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
