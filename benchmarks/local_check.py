"""The model against runs on the local AWS, before each use of it.

Rule: nothing that is fitted comes from a run that is predicted. What the local AWS itself adds to the function is
measured in a calibration run first; every other input is what queue, event source and function were told. All inputs
are recorded, so that each prediction can be computed again from the result file.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.local_runs import Served, measure
from benchmarks.queueing import System
from benchmarks.regimes import CALIBRATION, REGIMES, SEEDS, TOLERANCE, Regime, difference, films, predicted, rounded


@dataclass(frozen=True)
class Additions:
    """What the local AWS adds to a function that only waits (s)."""

    per_invocation: float
    per_message: float
    per_cold_start: float


def fitted(served: Sequence[Served]) -> Additions:
    """Least squares over the warm batches; cold starts take the rest. Nothing is ever below 0."""
    warm = [one for one in served if not one.cold]
    extra = np.array([one.seconds - one.slept for one in warm])
    sizes = np.array([one.messages for one in warm])
    slope, intercept = np.polyfit(sizes, extra, 1) if len(set(sizes)) > 1 else (0.0, float(extra.mean()))
    slope, intercept = (max(0.0, float(value)) for value in (slope, intercept))
    cold = [one.seconds - one.slept - intercept - slope * one.messages for one in served if one.cold]
    return Additions(intercept, slope, max(0.0, statistics.median(cold)) if cold else 0.0)


def with_additions(regime: Regime, added: Additions) -> Regime:
    """The regime as the model is given it: the films' real mean, and what the local AWS adds."""
    s = regime.system
    system = replace(
        s,
        film_seconds=round(float(films(regime).mean()) + added.per_message / s.films_per_message, 5),
        overhead_seconds=round(s.overhead_seconds + added.per_invocation, 5),
        cold_seconds=round(s.cold_seconds + added.per_cold_start, 5),
    )
    return replace(regime, system=system)


def compared(regime: Regime, added: Additions) -> dict[str, Any]:
    """One regime run and predicted."""
    run = measure(regime)
    inputs = with_additions(regime, added)
    expected = predicted(inputs, run.warm)
    return {
        "inputs": {**asdict(inputs), "warm": run.warm},
        "measured": rounded(run.figures),
        "predicted": rounded(expected),
        "difference": rounded(difference(expected, run.figures)),
    }


def again(inputs: Mapping[str, Any]) -> dict[str, float]:
    """The prediction from the inputs of a result file."""
    rest = {name: value for name, value in inputs.items() if name not in ("system", "warm")}
    return rounded(predicted(Regime(system=System(**inputs["system"]), **rest), inputs["warm"]))


def check(say: Callable[[str], None]) -> dict[str, Any]:
    """Calibration, then every regime; takes two to three minutes."""
    load = os.getloadavg()[0]
    say("calibration: what the local AWS adds")
    added = fitted(measure(CALIBRATION).served)
    regimes = []
    for regime in REGIMES:
        say(regime.name)
        regimes.append(compared(regime, added))
    return {
        "load_average_before": round(load, 2),
        "tolerance": TOLERANCE,
        "seeds_of_predictions": list(SEEDS),
        "calibration": rounded(asdict(added), 4),
        "regimes": regimes,
    }
