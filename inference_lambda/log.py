"""One JSON object per line on stdout, and the embedded metric format.

Only the fields listed here reach the log. None of them can hold a file name, an object key or
a DICOM tag; an exception is logged as its type, its AWS code and the places it passed, never as its message.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

NAMESPACE = "cxr"
_WORDS = (
    "request_id upload model serial status codes error where why attempts cpu_flags threads memory_mb "
    "read_ms decode_ms infer_ms heatmap_ms total_ms"
)
FIELDS = frozenset(_WORDS.split())
_MAX_METRIC_VALUES = 100
"""Of one array in the embedded metric format."""


def log(level: str, event: str, **fields: Any) -> None:
    """Writes one line. TypeError for a field that is not in FIELDS; None values are left out."""
    if unknown := set(fields) - FIELDS:
        raise TypeError(f"{sorted(unknown)} are not in the list of fields that may be logged: {sorted(FIELDS)}")
    present = {name: value for name, value in fields.items() if value is not None}
    _write({"level": level, "event": event, **present})


def metrics(counts: Mapping[str, int], latencies_ms: Mapping[str, Sequence[float]], function: str) -> None:
    """One line in CloudWatch's embedded metric format: counts, and the values of each latency (ms)."""
    values: dict[str, Any] = dict(counts)
    values.update({name: list(series)[:_MAX_METRIC_VALUES] for name, series in latencies_ms.items() if series})
    units = [{"Name": name, "Unit": "Count" if name in counts else "Milliseconds"} for name in values]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": units}
    meta = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    _write({"_aws": meta, "FunctionName": function, **values})


def error_name(error: BaseException) -> str:
    """The type, and the AWS error code if there is one; never the message."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
    return f"{type(error).__name__}({code})" if code else type(error).__name__


def error_places(error: BaseException) -> list[str]:
    """module:line of the last frames, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]


def _write(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()
