"""report.html: the bundle's figures and pictures in one self-contained page.

Rule: the page says first what a clinician must know: how many films were answered, how often that was right, and on
whose films; every number comes from metrics.json.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr import overlay
from cxr.engine import Engine
from cxr.labels import CLASSES
from training_job import plots
from training_job.serving import Scored

if TYPE_CHECKING:
    from jinja2 import Environment

    from training_job.results import Results

TEMPLATES = Path(__file__).parent / "templates"
PER_KIND = 4


@cache
def environment() -> Environment:
    """Templates of this package; HTML is escaped, a missing value is an error, not an empty cell."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(percent=percent, interval=interval, number=number, covered=covered)
    return env


def percent(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def interval(figure: dict[str, Any], share: bool = True) -> str:
    """`93.1 % (91.0 to 94.8)` or `0.951 (0.930 to 0.968)`."""
    if figure["value"] is None:
        return "n/a"
    if share:
        return f"{percent(figure['value'])} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def covered(sets: dict[str, Any]) -> str:
    """How often the conformal sets of a class hold the truth, with its interval."""
    return interval({"value": sets["coverage"], "low": sets["low"], "high": sets["high"]})


def render(results: Results, metrics: dict[str, Any], scored: Scored, engine: Engine) -> str:
    """The page as text."""
    labels, probabilities = results.dataset.test.labels, scored.probabilities
    limits, test = results.limits, metrics["test"]
    calibration = results.served.calibration
    calibrate = calibration.apply(
        results.served.raw["calibrate"], results.dataset.bucket("calibrate").saturations
    ).distances
    figures = [
        ("ROC", plots.roc(labels, probabilities, limits.threshold)),
        ("Precision and recall", plots.precision_recall(labels, probabilities)),
        ("Reliability", plots.reliability(labels, probabilities)),
        (
            "Risk and coverage",
            plots.risk_coverage(metrics["risk_coverage"], test["coverage"]["ok"], test["accuracy_on_ok"]["value"]),
        ),
        ("Distance", plots.distances({"calibrate": calibrate, "test": scored.distances}, limits.ood_limit)),
        ("Training", plots.history(results.histories)),
    ]
    return (
        environment()
        .get_template("report.html")
        .render(facts=facts(results), metrics=metrics, figures=figures, gallery=gallery(results, scored, engine))
    )


def facts(results: Results) -> dict[str, Any]:
    """What report and model card say about the model besides metrics.json."""
    settings, limits = results.job.settings, results.limits
    return {
        "name": results.job.container.job_name(),
        "settings": settings.as_dict(),
        "weights": results.weights,
        "precision": results.served.precision,
        "temperature": results.served.calibration.temperature,
        "limits": limits,
        "calibration_counts": results.served.calibration.counts,
        "counts": results.dataset.counts(),
        "prevalence": prevalence(results.dataset.counts()),
        "digest": results.dataset.digest,
        "classes": CLASSES,
    }


def prevalence(counts: dict[str, dict[str, int]]) -> dict[str, float]:
    """The share of PNEUMONIA in the folders train/ (all buckets) and test/."""
    totals: dict[str, list[int]] = {"train": [0, 0], "test": [0, 0]}
    for bucket, of_class in counts.items():
        total = totals["test" if bucket == "test" else "train"]
        total[0] += of_class["PNEUMONIA"]
        total[1] += sum(of_class.values())
    return {folder: ill / films for folder, (ill, films) in totals.items()}


def gallery(results: Results, scored: Scored, engine: Engine) -> list[dict[str, Any]]:
    """A few right and wrong answers of each class, the most confident first, and what was turned away."""
    test = results.dataset.test
    positive = scored.probabilities >= results.limits.threshold
    confidence = np.where(positive, scored.probabilities, 1 - scored.probabilities)
    statuses = np.asarray(scored.statuses)
    kinds = {
        "pneumonia, called pneumonia": (test.labels == 1) & positive,
        "normal, called normal": (test.labels == 0) & ~positive,
        "normal, called pneumonia": (test.labels == 0) & positive,
        "pneumonia, called normal": (test.labels == 1) & ~positive,
        "turned away as unlike the training films": statuses == "out_of_distribution",
    }
    rows = []
    for name, mask in kinds.items():
        chosen = np.flatnonzero(mask)
        chosen = chosen[np.argsort(-confidence[chosen], kind="stable")][:PER_KIND]
        rows.append(
            {
                "name": name,
                "count": int(mask.sum()),
                "films": [_tile(test.pixels[row], scored, int(row), engine) for row in chosen],
            }
        )
    return rows


def _tile(film: np.ndarray, scored: Scored, row: int, engine: Engine) -> dict[str, Any]:
    picture = overlay.png(overlay.pair(film, engine.run(film).heatmap))
    return {
        "png": base64.b64encode(picture).decode(),
        "probability": float(scored.probabilities[row]),
        "status": scored.statuses[row].replace("_", " "),
    }
