"""The report's figures as inline SVG: curves from the per-film numbers, no styling that hides them.

A curve shows what the table says, on the same films, with the operating point marked.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from training_job.scores import BINS

SIZE = (4.2, 3.4)
INK, ACCENT, FAINT = "#1f2933", "#0b6e99", "#9aa5b1"


def svg(draw: Callable[[Axes], None], size: tuple[float, float] = SIZE) -> str:
    """One figure as an <svg> element."""
    style: dict[Any, object] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "0",
    }
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(figure)
    content = text.getvalue()
    return content[content.index("<svg") :]


def roc(labels: np.ndarray, probabilities: np.ndarray, cut: float) -> str:
    def draw(axes: Axes) -> None:
        fpr, tpr, _ = roc_curve(labels, probabilities)
        axes.plot(fpr, tpr, color=ACCENT)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
        positive = probabilities >= cut
        point = positive[labels == 0].mean(), positive[labels == 1].mean()
        axes.plot(*point, "o", color=INK, label=f"threshold {cut:.2f}")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity")
        axes.legend(loc="lower right", frameon=False)

    return svg(draw)


def precision_recall(labels: np.ndarray, probabilities: np.ndarray) -> str:
    def draw(axes: Axes) -> None:
        precision, recall, _ = precision_recall_curve(labels, probabilities)
        axes.plot(recall, precision, color=ACCENT)
        axes.axhline(labels.mean(), color=FAINT, linewidth=0.8, linestyle=":")
        axes.set(xlabel="sensitivity", ylabel="precision", ylim=(0, 1.02))

    return svg(draw)


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> str:
    def draw(axes: Axes) -> None:
        bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
        counts = np.bincount(bins, minlength=BINS)
        used = counts > 0
        mean = np.bincount(bins, weights=probabilities, minlength=BINS)[used] / counts[used]
        observed = np.bincount(bins, weights=labels, minlength=BINS)[used] / counts[used]
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
        axes.scatter(mean, observed, s=6 + 160 * counts[used] / counts.max(), color=ACCENT, alpha=0.7)
        axes.set(xlabel="calibrated probability", ylabel="observed share of pneumonia")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))

    return svg(draw)


def risk_coverage(curve: dict[str, Any], answered: float, accuracy: float | None) -> str:
    """scores.risk_coverage's curve, and where the verdict's own abstention lies; accuracy None: nothing answered."""

    def draw(axes: Axes) -> None:
        axes.plot(curve["coverage"], curve["risk"], color=ACCENT, label=f"by confidence (area {curve['aurc']:.3f})")
        if accuracy is not None:
            axes.plot(answered, 1 - accuracy, "o", color=INK, label="answered (status ok)")
        axes.set(xlabel="share of films answered", ylabel="share of wrong answers", xlim=(0, 1.02), ylim=(0, None))
        axes.legend(loc="best", frameon=False)

    return svg(draw)


def distances(values: dict[str, np.ndarray], limit: float) -> str:
    def draw(axes: Axes) -> None:
        top = max(max(v.max() for v in values.values()), limit) * 1.05
        for (name, value), colour in zip(values.items(), (FAINT, ACCENT), strict=True):
            axes.hist(
                value, bins=list(np.linspace(0, top, 40)), density=True, histtype="step", label=name, color=colour
            )
        axes.axvline(limit, color=INK, linewidth=0.8, label="limit")
        axes.set(xlabel="distance from the training films", ylabel="density")
        axes.legend(loc="upper right", frameon=False)

    return svg(draw)


def history(phases: dict[str, list[dict[str, float]]]) -> str:
    def draw(axes: Axes) -> None:
        offset = 0
        for name, epochs in phases.items():
            x = [offset + epoch["epoch"] for epoch in epochs]
            axes.plot(x, [epoch["train"] for epoch in epochs], ".-", color=FAINT, label=f"{name}: train")
            axes.plot(x, [epoch["tune"] for epoch in epochs], ".-", color=ACCENT, label=f"{name}: tune")
            offset += len(epochs)
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend(loc="upper right", frameon=False)

    return svg(draw)
