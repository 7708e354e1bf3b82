"""What bundle, report and model card say of a model besides its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cxr.bundle import input_of
from cxr.hyperparameters import Hyperparameters
from cxr.labels import CLASSES
from training_job.limits import Calibration, manifest_fields


@dataclass(frozen=True)
class Facts:
    """name: of the bundle. weights: see weights.weights_facts. precision: of the served file."""

    name: str
    settings: Hyperparameters
    weights: dict[str, Any]
    precision: str
    calibration: Calibration
    counts: dict[str, dict[str, int]]
    digest: str
    classes: tuple[str, ...] = CLASSES

    def manifest_fields(self) -> dict[str, Any]:
        """Those of bundle.json."""
        calibration, settings = self.calibration, self.settings
        return {
            "name": self.name,
            "head": settings.head,
            "input": input_of(settings.side),
            "weights": self.weights,
            "fine_tune_blocks": settings.fine_tune_blocks,
            "precision": self.precision,
            **calibration.line.manifest_fields(),
            **manifest_fields(calibration.limits, calibration.counts, calibration.n_ood),
            "dataset": {"digest": self.digest, "counts": self.counts},
            "seed": settings.seed,
        }

    @property
    def prevalence(self) -> dict[str, float]:
        """The share of PNEUMONIA in the folders train/ (all buckets) and test/."""
        return prevalence(self.counts)


def prevalence(counts: dict[str, dict[str, int]]) -> dict[str, float]:
    """{folder: share of PNEUMONIA} of films per bucket and class."""
    totals: dict[str, list[int]] = {"train": [0, 0], "test": [0, 0]}
    for bucket, of_class in counts.items():
        total = totals["test" if bucket == "test" else "train"]
        total[0] += of_class["PNEUMONIA"]
        total[1] += sum(of_class.values())
    return {folder: ill / films for folder, (ill, films) in totals.items()}
