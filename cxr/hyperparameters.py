"""Every hyperparameter of a training job, once: its default, what may be given, and what a person must know of it.

The job reads its settings by this table, and the form of the DAG `retrain` is made from it. An unknown or out-of-range
one is refused by name, with the allowed range, before any data is read. SageMaker hands over strings, and some clients
encode them as JSON once more: both are understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cxr.bundle import HEADS, SIDE, SIDES

WEIGHT_SOURCES = ("imagenet", "channel", "random")

# The platform's own keys (script mode of the SageMaker toolkit); they are not ours to judge.
PLATFORM_PREFIX = "sagemaker_"


class BadHyperparameter(ValueError):
    """A hyperparameter that does not exist, cannot be read or lies outside its range."""


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    title: str
    text: str
    default: str
    allowed: tuple[str, ...]

    @property
    def form_default(self) -> str:
        return self.default

    def read(self, text: str) -> str:
        """The value that a text means. Raises ValueError."""
        if text.lower() not in self.allowed:
            raise ValueError
        return text.lower()

    def json_schema(self) -> dict[str, Any]:
        """What the form accepts, with title and description."""
        return {"type": "string", "enum": list(self.allowed), "title": self.title, "description": self.text}

    def __str__(self) -> str:
        return "one of " + ", ".join(self.allowed)


@dataclass(frozen=True)
class Number:
    """A number in a closed range. `of_head`, where it is not empty, has the default of each head; `default` is None.

    step: what it is a multiple of; 0 for any number.
    """

    title: str
    text: str
    kind: type[int] | type[float]
    default: float | int | None
    low: float
    high: float
    of_head: Mapping[str, float | int] = field(default_factory=dict)
    step: int = 0

    @property
    def form_default(self) -> float | int | None:
        return self.default

    def read(self, text: str) -> float | int:
        """The value that a text means. Raises ValueError, OverflowError."""
        value = float(text)
        if self.kind is int and value != int(value):
            raise ValueError
        if not self.low <= value <= self.high or (self.step and value % self.step):
            raise ValueError
        return self.kind(value)

    def json_schema(self) -> dict[str, Any]:
        """What the form accepts, with title and description; nothing (null) where the head decides."""
        kind = "integer" if self.kind is int else "number"
        empty = ", ".join(f"{value} for {head}" for head, value in self.of_head.items())
        return {
            "type": kind if self.default is not None else [kind, "null"],
            "minimum": self.low,
            "maximum": self.high,
            **({"multipleOf": self.step} if self.step else {}),
            "title": self.title,
            "description": f"{self.text} Empty: {empty}." if empty else self.text,
        }

    def __str__(self) -> str:
        steps = f" in steps of {self.step}" if self.step else ""
        return f"a{'n integer' if self.kind is int else ' number'} from {self.low} to {self.high}{steps}"


@dataclass(frozen=True)
class Switch:
    """true or false. `in_form` is what the form proposes: production's, where the job itself assumes the least."""

    title: str
    text: str
    default: bool
    in_form: bool

    @property
    def form_default(self) -> bool:
        return self.in_form

    def read(self, text: str) -> bool:
        """The value that a text means. Raises ValueError."""
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"

    def json_schema(self) -> dict[str, Any]:
        """What the form accepts, with title and description."""
        return {"type": "boolean", "title": self.title, "description": self.text}

    def __str__(self) -> str:
        return "true or false"


Specification = Choice | Number | Switch


def _as(specification: Specification) -> Any:
    """A field of Hyperparameters with this meaning; where the head decides, the default is the first head's."""
    default = specification.default
    if isinstance(specification, Number) and specification.of_head:
        default = specification.of_head[HEADS[0]]
    return field(default=default, metadata={"is": specification})


@dataclass(frozen=True)
class Hyperparameters:
    """The settings of a job, resolved."""

    head: str = _as(
        Choice(
            "Head",
            "end_to_end: all of VGG16 trained on small films; gap, flatten: the two source systems, VGG16 frozen.",
            "gap",
            HEADS,
        )
    )
    weights: str = _as(
        Choice(
            "Start weights",
            "imagenet: downloaded by the job; channel: from S3, no network needed; random: only for smoke tests.",
            "imagenet",
            WEIGHT_SOURCES,
        )
    )
    # The flatten system's source trained for one pass over the data; the gap head costs seconds and stops early.
    epochs: int = _as(
        Number(
            "Epochs",
            "Upper bound of the head's training; of end_to_end exactly so many.",
            int,
            None,
            1,
            500,
            {"gap": 30, "flatten": 1, "end_to_end": 4},
        )
    )
    side: int = _as(
        Number(
            "Side",
            "Pixels a side of the square film that the model takes; half the side costs a quarter.",
            int,
            None,
            SIDES.start,
            SIDES[-1],
            {"gap": SIDE, "flatten": SIDE, "end_to_end": 112},
            SIDES.step,
        )
    )
    learning_rate: float = _as(
        Number(
            "Learning rate",
            "Of the head; of end_to_end that of the convolutions, whose head learns at ten times this rate.",
            float,
            None,
            1e-7,
            1.0,
            {"gap": 1e-3, "flatten": 1e-3, "end_to_end": 1e-4},
        )
    )
    batch_size: int = _as(Number("Batch size", "Films per step.", int, 32, 1, 1024))
    dense_units: int = _as(Number("Dense units", "Width of the hidden layer of the gap head.", int, 256, 1, 4096))
    patience: int = _as(
        Number("Patience", "Epochs without a better tune loss before the training ends.", int, 8, 1, 500)
    )
    augment_copies: int = _as(Number("Augmented copies", "Random copies of each train film.", int, 1, 0, 20))
    fine_tune_blocks: int = _as(
        Number(
            "Fine-tune blocks",
            "Last VGG16 blocks trained after the head (GPU); from 3 on every epoch begins at the film.",
            int,
            0,
            0,
            5,
        )
    )
    fine_tune_epochs: int = _as(Number("Fine-tune epochs", "Upper bound of the fine-tuning.", int, 8, 1, 500))
    fine_tune_learning_rate: float = _as(
        Number("Fine-tune rate", "Learning rate of the fine-tuning.", float, 1e-5, 1e-8, 1e-2)
    )
    alpha: float = _as(Number("Alpha", "Share of a class that the conformal set may miss.", float, 0.05, 0.001, 0.5))
    sensitivity_floor: float = _as(
        Number("Sensitivity sought", "The threshold is chosen on held-out films to reach it.", float, 0.95, 0.0, 1.0)
    )
    seed: int = _as(Number("Seed", "Same seed, same data, same model.", int, 0, 0, 2**31 - 1))
    feature_engine: str = _as(
        Choice("Feature engine", "What computes the features of the frozen part.", "auto", ("auto", "keras", "int8"))
    )
    precision: str = _as(Choice("Precision", "auto: int8 where it changes no answer.", "auto", ("auto", "float16")))
    require_gpu: bool = _as(
        Switch(
            "Require a GPU",
            "The job fails at once if no GPU is visible. Off for CPU instances and on a laptop.",
            default=False,
            in_form=True,
        )
    )
    mixed_precision: str = _as(
        Choice(
            "Mixed precision", "Of the fine-tuning. auto: on GPUs, but for flatten.", "auto", ("auto", "true", "false")
        )
    )

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


SPECIFICATIONS: dict[str, Specification] = {one.name: one.metadata["is"] for one in fields(Hyperparameters)}
"""{name: what it is}, in the order of the form."""


def read_hyperparameters(raw: Mapping[str, object]) -> Hyperparameters:
    """The job's hyperparameters from SageMaker's mapping of strings (JSON-encoded strings too).

    Raises BadHyperparameter naming each offender, its value and the allowed range.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in sorted(raw.items()):
        if name.startswith(PLATFORM_PREFIX):
            continue
        known = name.strip().replace("-", "_")
        specification = SPECIFICATIONS.get(known)
        if specification is None:
            problems.append(f"{name}={value!r} is not a hyperparameter; known: {', '.join(SPECIFICATIONS)}")
            continue
        if known in values:
            problems.append(f"{name}={value!r} is given twice, with - and with _; give it once")
            continue
        try:
            values[known] = specification.read(_plain(value))
        except (ValueError, OverflowError):
            problems.append(f"{name}={value!r} is not allowed; give {specification}")
    if (values.get("head"), values.get("mixed_precision")) == ("flatten", "true"):
        problems.append(
            "mixed_precision='true' is not allowed with head='flatten', whose films move the features by less than "
            "float16 keeps; give auto or false"
        )
    if problems:
        raise BadHyperparameter("; ".join(problems))
    head = values.get("head", HEADS[0])
    for name, specification in SPECIFICATIONS.items():
        if isinstance(specification, Number) and specification.of_head:
            values.setdefault(name, specification.of_head[head])
    return Hyperparameters(**values)


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
