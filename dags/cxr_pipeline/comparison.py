"""A challenger replaces the champion only if, on the same test films, it is shown not to be worse.

The training job compares it with the champion it was given; where another model serves by now, the two models' kept
predictions are compared here, by the same rule. A patient is what a film's name says: predictions.csv carries no other
id, while the training job also knows patients.csv and byte-identical films.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cxr.noninferiority import Outputs, noninferiority
from cxr.patients import patient_of


@dataclass(frozen=True)
class Margins:
    """How much worse the lower bound (one-sided 95 %) of a difference may be: negative numbers."""

    auroc: float
    balanced_accuracy: float

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Margins:
        return cls(float(params["margin_auroc"]), float(params["margin_balanced_accuracy"]))


def of_predictions(champion: Outputs, challenger: Outputs) -> dict[str, Any]:
    """Compare two models by their kept predictions. Raises NotComparable."""
    return noninferiority(champion, challenger, {file: patient_of(file) for file in champion.films})


def worse(noninferiority: dict[str, Any], margins: Margins) -> list[str]:
    """Return a sentence for each difference whose lower bound is below its margin; empty means not inferior."""
    rows = (
        ("AUROC", noninferiority["delta_auroc"], margins.auroc, "margin_auroc"),
        (
            "balanced accuracy",
            noninferiority["delta_balanced_accuracy"],
            margins.balanced_accuracy,
            "margin_balanced_accuracy",
        ),
    )
    return [
        f"{name} differs by {delta['value']:+.4f} from the champion's and may be as low as {delta['lower']:+.4f}; "
        f"{param} = {margin:g}"
        for name, delta, margin, param in rows
        if not delta["lower"] > margin
    ]
