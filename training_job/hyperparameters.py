"""Every hyperparameter, its range and its default; nothing else decides how a job trains.

Rule: an unknown or out-of-range hyperparameter is refused by name, with the allowed range, before any data is read.
SageMaker hands over strings, some clients JSON-encode them once more: both are understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

HEADS = ("gap", "flatten")
WEIGHT_SOURCES = ("imagenet", "channel", "random")

# The platform's own keys (script mode of the SageMaker toolkit); they are not ours to judge.
PLATFORM_PREFIX = "sagemaker_"


class BadHyperparameter(ValueError):
    """A hyperparameter that does not exist, cannot be read or lies outside its range."""


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    default: str
    allowed: tuple[str, ...]

    def read(self, text: str) -> str:
        if text.lower() not in self.allowed:
            raise ValueError
        return text.lower()

    def __str__(self) -> str:
        return "one of " + ", ".join(self.allowed)


@dataclass(frozen=True)
class Number:
    """A number in a closed range; `default` None means that the head decides (see `resolve`)."""

    kind: type
    default: float | int | None
    low: float
    high: float

    def read(self, text: str) -> float | int:
        value = float(text)
        if self.kind is int and value != int(value):
            raise ValueError
        if not self.low <= value <= self.high:
            raise ValueError
        return self.kind(value)

    def __str__(self) -> str:
        return f"a{'n integer' if self.kind is int else ' number'} from {self.low} to {self.high}"


@dataclass(frozen=True)
class Switch:
    """true or false."""

    default: bool

    def read(self, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"

    def __str__(self) -> str:
        return "true or false"


SPECIFICATIONS: dict[str, Choice | Number | Switch] = {
    "head": Choice("gap", HEADS),
    "weights": Choice("imagenet", WEIGHT_SOURCES),
    "epochs": Number(int, None, 1, 500),
    "learning_rate": Number(float, 1e-3, 1e-7, 1.0),
    "batch_size": Number(int, 32, 1, 1024),
    "dense_units": Number(int, 256, 1, 4096),
    "patience": Number(int, 8, 1, 500),
    "augment_copies": Number(int, 1, 0, 20),
    "fine_tune_blocks": Number(int, 0, 0, 5),
    "fine_tune_epochs": Number(int, 8, 1, 500),
    "fine_tune_learning_rate": Number(float, 1e-5, 1e-8, 1e-2),
    "alpha": Number(float, 0.05, 0.001, 0.5),
    "sensitivity_floor": Number(float, 0.95, 0.0, 1.0),
    "seed": Number(int, 0, 0, 2**31 - 1),
    "feature_engine": Choice("auto", ("auto", "keras", "int8")),
    "precision": Choice("auto", ("auto", "float16")),
    "require_gpu": Switch(False),
    "mixed_precision": Choice("auto", ("auto", "true", "false")),
}

# The flatten system's source trained for one pass over the data; the gap head costs seconds and stops early.
EPOCHS_OF_HEAD = {"gap": 30, "flatten": 1}


@dataclass(frozen=True)
class Hyperparameters:
    """The resolved values; see SPECIFICATIONS for meaning and range."""

    head: str = "gap"
    weights: str = "imagenet"
    epochs: int = EPOCHS_OF_HEAD["gap"]
    learning_rate: float = 1e-3
    batch_size: int = 32
    dense_units: int = 256
    patience: int = 8
    augment_copies: int = 1
    fine_tune_blocks: int = 0
    fine_tune_epochs: int = 8
    fine_tune_learning_rate: float = 1e-5
    alpha: float = 0.05
    sensitivity_floor: float = 0.95
    seed: int = 0
    feature_engine: str = "auto"
    precision: str = "auto"
    require_gpu: bool = False
    mixed_precision: str = "auto"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def read_hyperparameters(raw: Mapping[str, object]) -> Hyperparameters:
    """The job's hyperparameters from SageMaker's mapping of strings (JSON-encoded strings too).

    Raises BadHyperparameter naming each offender, its value and the allowed range.
    """
    problems, values = [], {}
    for name, value in sorted(raw.items()):
        if name.startswith(PLATFORM_PREFIX):
            continue
        field = name.strip().replace("-", "_")
        specification = SPECIFICATIONS.get(field)
        if specification is None:
            problems.append(f"{name}={value!r} is not a hyperparameter; known: {', '.join(SPECIFICATIONS)}")
            continue
        if field in values:
            problems.append(f"{name}={value!r} is given twice, with - and with _; give it once")
            continue
        try:
            values[field] = specification.read(_plain(value))
        except (ValueError, OverflowError):
            problems.append(f"{name}={value!r} is not allowed; give {specification}")
    if (values.get("head"), values.get("mixed_precision")) == ("flatten", "true"):
        problems.append(
            "mixed_precision='true' is not allowed with head='flatten', whose films move the features by less than "
            "float16 keeps; give auto or false"
        )
    if problems:
        raise BadHyperparameter("; ".join(problems))
    values.setdefault("epochs", EPOCHS_OF_HEAD[str(values.get("head", "gap"))])
    return Hyperparameters(**values)  # type: ignore[arg-type]


def _plain(value: object) -> str:
    """`"\\"gap\\""`, `"gap"`, `3` and `true` all as plain text."""
    if isinstance(value, str):
        try:
            decoded = json.loads(value)
        except ValueError:
            return value.strip()
        return _plain(decoded) if isinstance(decoded, str) else _plain_scalar(decoded, value)
    return _plain_scalar(value, str(value))


def _plain_scalar(value: object, original: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else original.strip()
