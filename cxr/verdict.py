"""From three numbers to an answer a clinic can act on. Pure: no images, no files, no clock.

The order is unreadable -> colour -> out of distribution -> conformal set -> confidence; `invalid`
whenever the status is not ok. Every limit comes from the bundle of the model that gave the numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cxr.bundle import LOW_CONFIDENCE, Bundle
from cxr.labels import CLASSES, Label, Priority, Status
from cxr.reasons import Reason, reason

SATURATION_LIMIT = 0.025
"""Evenly tinted films score below 0.015, 11 of 13 colour photographs above 0.029 (cxr.film.Film.saturation)."""


@dataclass(frozen=True)
class Limits:
    """The bundle's limits. quantile_*: conformal quantile of 1 - p of that class; None = infinite, the class is never
    excluded.
    """

    threshold: float
    quantile_normal: float | None
    quantile_pneumonia: float | None
    alpha: float
    ood_limit: float
    low_confidence: float = LOW_CONFIDENCE

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Limits:
        quantile = bundle.conformal["quantile"]
        return cls(
            threshold=bundle.threshold,
            quantile_normal=quantile["NORMAL"],
            quantile_pneumonia=quantile["PNEUMONIA"],
            alpha=bundle.conformal["alpha"],
            ood_limit=bundle.ood["limit"],
            low_confidence=bundle.low_confidence,
        )

    @property
    def quantiles(self) -> dict[str, float | None]:
        """{class: quantile}, as bundle.json has them."""
        return dict(zip(CLASSES, (self.quantile_normal, self.quantile_pneumonia), strict=True))


@dataclass(frozen=True)
class Verdict:
    """The answer for one film. confidence: the calibrated probability of `label`; all None if unreadable."""

    status: Status
    invalid: bool
    reasons: tuple[Reason, ...]
    label: Label | None
    probability: float | None
    confidence: float | None
    threshold: float | None
    priority: Priority
    conformal_set: tuple[Label, ...]


def judge(probability: float, ood_distance: float, saturation: float, limits: Limits) -> Verdict:
    """probability: calibrated, of PNEUMONIA, 0..1; ood_distance: the model's; saturation: cxr.film.Film.saturation."""
    if not (math.isfinite(probability) and 0.0 <= probability <= 1.0):
        return _without_label("uncertain", (reason("model_output"),))
    label: Label = "PNEUMONIA" if probability >= limits.threshold else "NORMAL"
    confidence = probability if label == "PNEUMONIA" else 1.0 - probability
    plausible = _conformal_set(probability, limits)
    status: Status
    if reasons := _foreign(ood_distance, saturation, limits):
        status = "out_of_distribution"
    else:
        reasons = _doubts(label, confidence, plausible, limits)
        status = "uncertain" if reasons else "ok"
    return Verdict(
        status=status,
        invalid=status != "ok",
        reasons=reasons,
        label=label,
        probability=probability,
        confidence=confidence,
        threshold=limits.threshold,
        priority=_priority(status, label),
        conformal_set=plausible,
    )


def unreadable(code: str, sentence: str) -> Verdict:
    """The answer for a file that is no film: a reason and no label."""
    return _without_label("unreadable", (Reason(code, sentence),))


def _without_label(status: Status, reasons: tuple[Reason, ...]) -> Verdict:
    return Verdict(status, True, reasons, None, None, None, None, "review", ())


def _conformal_set(probability: float, limits: Limits) -> tuple[Label, ...]:
    scores = (probability, limits.quantile_normal), (1.0 - probability, limits.quantile_pneumonia)
    return tuple(
        label for label, (score, quantile) in zip(CLASSES, scores, strict=True) if quantile is None or score <= quantile
    )


def _foreign(ood_distance: float, saturation: float, limits: Limits) -> tuple[Reason, ...]:
    reasons = []
    if saturation > SATURATION_LIMIT:
        reasons.append(reason("not_grayscale", saturation=saturation, limit=SATURATION_LIMIT))
    if not ood_distance <= limits.ood_limit:
        reasons.append(reason("ood_distance", distance=ood_distance, limit=limits.ood_limit))
    return tuple(reasons)


def _doubts(label: Label, confidence: float, plausible: tuple[Label, ...], limits: Limits) -> tuple[Reason, ...]:
    reasons = []
    if len(plausible) > 1:
        reasons.append(reason("conformal_both", alpha=limits.alpha))
    elif not plausible:
        reasons.append(reason("conformal_none", alpha=limits.alpha))
    elif plausible != (label,):
        reasons.append(reason("conformal_conflict"))
    if confidence < limits.low_confidence:
        reasons.append(reason("low_confidence", confidence=confidence, limit=limits.low_confidence))
    return tuple(reasons)


def _priority(status: Status, label: Label) -> Priority:
    if status in ("ok", "uncertain") and label == "PNEUMONIA":
        return "urgent"
    return "routine" if status == "ok" else "review"
