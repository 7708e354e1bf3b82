"""The model against the pipeline benchmark's undisturbed run: real uploads, S3 events, function and results.

Rule: the speed of a batch comes from the run's own calibrations, which lie before and after the parts that are
predicted, never within; the uploader is part of the model, since it waits for the queue and the queue for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.queueing import Outcome, System, Uploader, simulate
from benchmarks.record import BUILD, RESULTS
from benchmarks.regimes import SEEDS, difference, local, median_of, rounded

ALONE_GAP_SECONDS = 60.0
"""Between uploads that have the path to themselves: longer than any of them takes."""


def last_run() -> dict[str, Any]:
    """The newest result of benchmarks.pipeline: in build/bench, else the committed one. Raises ValueError if it lacks
    an undisturbed run with its calibration.
    """
    path = next(folder / "pipeline.json" for folder in (BUILD, RESULTS) if (folder / "pipeline.json").is_file())
    return checked(json.loads(path.read_text()), path)


def checked(run: dict[str, Any], path: Path) -> dict[str, Any]:
    if "calibration" not in run.get("clean", {}):
        raise ValueError(
            f"{path} holds no undisturbed run with a calibration; run `python -m benchmarks.pipeline` first"
        )
    return run


def inputs(clean: Mapping[str, Any]) -> dict[str, Any]:
    """All that the prediction needs, from the report of the undisturbed run."""
    parts = clean["parts"]
    return {
        "path": clean["path"],
        "calibration": clean["calibration"],
        "uploads": {name: parts[name]["uploads"] for name in ("load", "alone")},
    }


def predicted(given: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of both parts. Neither begins cold: the calibration came before."""
    path, uploads = given["path"], given["uploads"]
    sender = Uploader(
        uploads["load"], path["burst"], given["calibration"]["burst_s"], path["waits_above"], path["looks_every_s"]
    )
    spaced = np.arange(uploads["alone"]) * ALONE_GAP_SECONDS
    parts = {}
    for name, arrivals in (("load", sender), ("alone", spaced)):
        system = calibrated(path, given["calibration"][name])
        outcomes = [simulate(arrivals, system, seed, warm=path["concurrency"]) for seed in SEEDS]
        parts[name] = median_of([figures(outcome) for outcome in outcomes])
    del parts["alone"]["uploads_per_second"]  # the benchmark's own pace, not the path's
    return {name: rounded(part) for name, part in parts.items()}


def calibrated(path: Mapping[str, Any], service: Mapping[str, float]) -> System:
    """The path with a film's time from whole batches: what an invocation adds is in it."""
    size = service["messages"] / service["invocations"]
    film = service["mean_s"] / size
    return local(
        film,
        path["concurrency"],
        batch=path["batch"],
        window=path["window_s"],
        visibility=path["visibility_s"],
        max_receives=path["max_receives"],
        spread=service["deviation_s"] / (film * size**0.5),
    )


def figures(outcome: Outcome) -> dict[str, float]:
    """What the benchmark reports of a part; uploads per second from the first upload to the last result."""
    first = float((outcome.answered - outcome.latencies).min())
    return {
        "uploads_per_second": outcome.messages / (float(outcome.answered.max()) - first),
        "p50_s": outcome.quantile(0.5),
        "p95_s": outcome.quantile(0.95),
        "invocations": outcome.invocations,
    }


def measured(clean: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The same figures as the benchmark reported them."""
    found = {}
    for name in ("load", "alone"):
        part = clean["parts"][name]
        quantiles = {f"{q}_s": part["latency_s"][q] for q in ("p50", "p95")}
        found[name] = {
            "uploads_per_second": part["uploads_per_second"],
            **quantiles,
            "invocations": part["invocations"],
        }
    del found["alone"]["uploads_per_second"]
    return found


def compared(run: Mapping[str, Any]) -> dict[str, Any]:
    """Prediction and run side by side for each part, with when the run was measured."""
    given = inputs(run["clean"])
    expected, found = predicted(given), measured(run["clean"])
    parts = {
        name: {
            "measured": found[name],
            "predicted": expected[name],
            "difference": rounded(difference(expected[name], found[name])),
        }
        for name in found
    }
    return {"measured_at": run["measured_at"], "inputs": given, "parts": parts}
