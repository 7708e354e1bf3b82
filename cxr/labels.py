"""The words that all parts use of a film and its answer: classes, statuses, priorities, intended use, limitations."""

from __future__ import annotations

from typing import Literal

Label = Literal["NORMAL", "PNEUMONIA"]
Status = Literal["ok", "uncertain", "out_of_distribution", "unreadable"]
Priority = Literal["urgent", "review", "routine"]

CLASSES: tuple[Label, Label] = ("NORMAL", "PNEUMONIA")
"""In the order of the labels 0 and 1; `probability` is always that of the second."""
STATUSES: tuple[Status, ...] = ("ok", "uncertain", "out_of_distribution", "unreadable")
PRIORITIES: tuple[Priority, ...] = ("urgent", "review", "routine")
"""The most urgent first."""

INTENDED_USE = "decision support for paediatric AP chest X-rays; not a diagnosis"
LIMITATIONS = (
    "AUROC fell from 0.95 to 0.54 on another hospital's children in a published test of models trained on this "
    "dataset; recalibrate locally",
)
