"""The result JSON (cxr/result.schema.json) and the S3 metadata that say which upload and which model it answers.

The rule defended here: a result names the exact bytes and the exact model behind it, and never more certainty than
the verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cxr.bundle import Bundle
from cxr.labels import INTENDED_USE, LIMITATIONS
from cxr.verdict import Limits
from inference_lambda.examination import Examination
from inference_lambda.store import Stored

SCHEMA_VERSION = 1
CONTENT_TYPE = "application/json"
NONE = "none"


@dataclass(frozen=True)
class Source:
    """Where the image came from; all None for a local file but the key, which is then the file's name as given."""

    bucket: str | None
    key: str | None
    version_id: str | None = None
    etag: str | None = None


def build(
    source: Source,
    examination: Examination,
    bundle: Bundle,
    limits: Limits,
    *,
    version: str,
    package_arn: str | None = None,
    heatmap: Mapping[str, str] | None = None,
    supersedes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document. heatmap: {"bucket", "key"} of the PNG; supersedes: the answer for the same upload by another
    model.
    """
    verdict, film, output = examination.verdict, examination.film, examination.output
    return {
        "schema_version": SCHEMA_VERSION,
        "image": {
            "bucket": source.bucket,
            "key": source.key,
            "version_id": source.version_id,
            "etag": source.etag,
            "sha256": examination.sha256,
            "bytes": examination.size,
            "format": film.format if film else None,
            "width": film.width if film else None,
            "height": film.height if film else None,
        },
        "model": {"version": version, "sha256": bundle.model_sha256, "package_arn": package_arn},
        "status": verdict.status,
        "invalid": verdict.invalid,
        "reasons": [why.as_json() for why in verdict.reasons],
        "label": verdict.label,
        "probability": _rounded(verdict.probability),
        "confidence": _rounded(verdict.confidence),
        "threshold": verdict.threshold,
        "conformal_set": list(verdict.conformal_set),
        "priority": verdict.priority,
        "ood": {"distance": _rounded(output.ood_distance, 3), "limit": limits.ood_limit} if output else None,
        "heatmap": dict(heatmap) if heatmap else None,
        "classified_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration_ms": {
            step: round(examination.durations.get(step, 0.0), 1) for step in ("read", "decode", "infer", "heatmap")
        },
        "supersedes": dict(supersedes) if supersedes else None,
        "intended_use": INTENDED_USE,
        "limitations": list(LIMITATIONS),
    }


def to_bytes(result: Mapping[str, Any]) -> bytes:
    """utf-8 JSON, indented for people; NaN cannot be written."""
    return json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def metadata(upload: Stored, result: Mapping[str, Any], serial: int) -> dict[str, str]:
    """S3 user metadata: what a reader needs to decide whether this answer is current, without reading it."""
    return {
        "upload-version": upload.version_id,
        "upload-etag": upload.etag,
        "model-sha256": result["model"]["sha256"],
        "serial": str(serial),
        "status": result["status"],
        "label": result["label"] or NONE,
        "probability": NONE if result["probability"] is None else str(result["probability"]),
    }


def answers(standing: Stored, upload: Stored) -> bool:
    """Is the standing result about this very version of the upload?"""
    said = standing.metadata
    return said.get("upload-version") == upload.version_id and said.get("upload-etag") == upload.etag


def superseded(standing: Stored) -> dict[str, Any] | None:
    """What the new result says about the standing one, from its metadata; None if those are not ours."""
    said = standing.metadata
    if not {"model-sha256", "status", "label"} <= set(said):
        return None
    label = None if said["label"] == NONE else said["label"]
    return {"model_sha256": said["model-sha256"], "status": said["status"], "label": label}


def serial_of(standing: Stored | None) -> int:
    """The pointer's serial under which the standing result was written; -1 if there is none."""
    try:
        return -1 if standing is None else int(standing.metadata.get("serial", -1))
    except ValueError:
        return -1


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
