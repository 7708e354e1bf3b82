"""results/<upload key>.json: the answer for one upload, what its S3 metadata say, and its row in a worklist.

A result names the exact bytes and the exact model behind it, and never claims more certainty than the verdict. Its form
is cxr/result.schema.json; readers take it as input like any other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from cxr.labels import CLASSES, INTENDED_USE, LIMITATIONS, PRIORITIES, STATUSES, Label, Priority, Status
from cxr.verdict import Verdict

SCHEMA_VERSION = 1
CONTENT_TYPE = "application/json"
RESULTS, HEATMAPS = "results/", "heatmaps/"
STEPS = ("read", "decode", "infer", "heatmap")
COLUMNS = (
    *("key", "priority", "status", "label", "probability", "confidence", "threshold", "ood_distance", "reasons"),
    *("model_version", "classified_at"),
)
"""Of a worklist in CSV; the names are those of Row."""
_NONE = "none"


class ResultError(Exception):
    """The result is of another form; the message names the field and quotes nothing."""


def key_of(upload_key: str) -> str:
    """The key of an upload's result in the results bucket."""
    return f"{RESULTS}{upload_key}.json"


def heatmap_key(upload_key: str, upload_sha256: str, model_sha256: str) -> str:
    """The key of a heat map in the results bucket; it depends on the content, so that nobody's is overwritten."""
    return f"{HEATMAPS}{upload_key}/{upload_sha256[:16]}-{model_sha256[:16]}.png"


@dataclass(frozen=True)
class Image:
    """What was read. bucket, version_id, etag: None for a local file; key: then its name as given. sha256: None for an
    object too large to be fetched; format, width, height (px): None if unreadable.
    """

    bucket: str | None
    key: str | None
    version_id: str | None
    etag: str | None
    sha256: str | None
    bytes: int
    format: str | None
    width: int | None
    height: int | None


@dataclass(frozen=True)
class Answerer:
    """The model that answered. version: of the model package, as text."""

    version: str
    sha256: str
    package_arn: str | None = None


@dataclass(frozen=True)
class Measured:
    """ood: {"distance", "limit"} if the model ran; durations_ms: per step; heatmap: {"bucket", "key"} of the PNG, both
    None where none was written, and "grid" (cxr.grid).
    """

    ood: Mapping[str, float] | None = None
    durations_ms: Mapping[str, float] = field(default_factory=dict)
    heatmap: Mapping[str, str | None] | None = None


@dataclass(frozen=True)
class Mark:
    """A result's S3 metadata: what decides whether it is current, without reading it. serial: the pointer's."""

    upload_version: str
    upload_etag: str
    model_sha256: str
    serial: int
    status: str
    label: str | None
    probability: float | None

    def as_metadata(self) -> dict[str, str]:
        return {name.replace("_", "-"): _NONE if value is None else str(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Mark | None:
        """None for metadata that no result has."""
        said = {name.replace("-", "_"): None if value == _NONE else value for name, value in metadata.items()}
        try:
            texts = {name: str(said[name]) for name in ("upload_version", "upload_etag", "model_sha256", "status")}
            probability = said["probability"]
            return cls(
                **texts,
                serial=int(said["serial"] or -1),
                label=said["label"],
                probability=None if probability is None else float(probability),
            )
        except (KeyError, ValueError):
            return None

    def superseded(self) -> dict[str, Any]:
        """What a result of the same upload by another model says about this one."""
        return {"model_sha256": self.model_sha256, "status": self.status, "label": self.label}


def build(
    image: Image, model: Answerer, verdict: Verdict, measured: Measured, supersedes: Mark | None = None
) -> dict[str, Any]:
    """The document. supersedes: the answer for the same upload by another model."""
    ood = measured.ood
    return {
        "schema_version": SCHEMA_VERSION,
        "image": asdict(image),
        "model": asdict(model),
        "status": verdict.status,
        "invalid": verdict.invalid,
        "reasons": [why.as_json() for why in verdict.reasons],
        "label": verdict.label,
        "probability": _rounded(verdict.probability),
        "confidence": _rounded(verdict.confidence),
        "threshold": verdict.threshold,
        "conformal_set": list(verdict.conformal_set),
        "priority": verdict.priority,
        "ood": {"distance": _rounded(ood["distance"], 3), "limit": ood["limit"]} if ood else None,
        "heatmap": dict(measured.heatmap) if measured.heatmap else None,
        "classified_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration_ms": {step: round(measured.durations_ms.get(step, 0.0), 1) for step in STEPS},
        "supersedes": supersedes.superseded() if supersedes else None,
        "intended_use": INTENDED_USE,
        "limitations": list(LIMITATIONS),
    }


def mark(result: Mapping[str, Any], serial: int) -> Mark:
    """The metadata of a document that was built under the pointer's `serial`."""
    image = result["image"]
    return Mark(
        image["version_id"], image["etag"], result["model"]["sha256"], serial,
        result["status"], result["label"], result["probability"],
    )  # fmt: skip


def to_bytes(result: Mapping[str, Any]) -> bytes:
    """utf-8 JSON, indented for people; NaN cannot be written."""
    return json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


@dataclass(frozen=True)
class Row:
    """What a result says of one film, as worklists and oversight read it."""

    key: str
    status: Status
    label: Label | None
    probability: float | None
    confidence: float | None
    threshold: float | None
    priority: Priority
    ood_distance: float | None
    reasons: tuple[str, ...]
    heatmap: str | None
    grid: str | None
    model_version: str
    model_sha256: str
    classified_at: str

    @classmethod
    def of(cls, key: str, result: Any) -> Row:
        """The row of an upload's result. Raises ResultError."""
        if not isinstance(result, Mapping) or result.get("schema_version") != SCHEMA_VERSION:
            raise ResultError(f"the result's schema_version is not {SCHEMA_VERSION}; update what reads it")
        ood, heatmap, model = (_part(result, name) for name in ("ood", "heatmap", "model"))
        probability, confidence, threshold = (
            _number(result, name, 1.0) for name in ("probability", "confidence", "threshold")
        )
        return cls(
            key=key,
            status=cast(Status, _one_of(result, "status", STATUSES)),
            label=cast("Label | None", _one_of(result, "label", (*CLASSES, None))),
            probability=probability,
            confidence=confidence,
            threshold=threshold,
            priority=cast(Priority, _one_of(result, "priority", PRIORITIES)),
            ood_distance=_number(ood, "distance", math.inf),
            reasons=_reasons(result.get("reasons")),
            heatmap=_text_or_none(heatmap, "key"),
            grid=_text_or_none(heatmap, "grid"),
            model_version=_text(model, "version"),
            model_sha256=_text(model, "sha256"),
            classified_at=_text(result, "classified_at"),
        )


def _part(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = result.get(name)
    if not isinstance(part, (Mapping, type(None))):
        raise ResultError(f"the result's {name} is no object")
    return part or {}


def _text(part: Mapping[str, Any], name: str) -> str:
    if not isinstance(value := part.get(name), str):
        raise ResultError(f"the result's {name} is no text")
    return value


def _text_or_none(part: Mapping[str, Any], name: str) -> str | None:
    return None if part.get(name) is None else _text(part, name)


def _one_of(result: Mapping[str, Any], name: str, values: tuple[str | None, ...]) -> str | None:
    if (value := result.get(name)) not in values:
        raise ResultError(f"the result's {name} is none of {', '.join(map(str, values))}")
    return value


def _number(part: Mapping[str, Any], name: str, most: float) -> float | None:
    value = part.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise ResultError(f"the result's {name} is no number from 0" + (f" to {most:g}" if most < math.inf else ""))
    return value


def _reasons(reasons: Any) -> tuple[str, ...]:
    if not isinstance(reasons, list) or not all(isinstance(reason, Mapping) for reason in reasons):
        raise ResultError("the result's reasons are no list of objects")
    return tuple(f"{_text(reason, 'code')}: {_text(reason, 'sentence')}" for reason in reasons)


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
