"""A challenger takes the champion's place only where it is shown not to be worse, and gives it back where it fails.

Every refusal is written into the registry with its reason, and ends the task.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cxr.noninferiority import NotComparable, Outputs
from cxr.pointer import Move, PointerMoved, PointerStore, Release, Seen
from cxr_pipeline import bundle, comparison, gate, registry
from cxr_pipeline.comparison import Margins
from cxr_pipeline.model import Model
from cxr_pipeline.objects import read_bytes
from cxr_pipeline.outcome import fail, headline, skip

ATTEMPTS = 5


@dataclass(frozen=True)
class Challenger:
    """A registered model, and where it is judged. s3 and sagemaker: boto3 clients."""

    s3: Any
    sagemaker: Any
    model: Model

    @property
    def release(self) -> Release:
        return Release(self.model["version"], **self.model["bundle"], package_arn=self.model["package_arn"])

    def metrics(self) -> dict[str, Any]:
        """Return what the training job measured."""
        found: dict[str, Any] = json.loads(self.read("metrics.json"))
        return found

    def read(self, name: str) -> bytes:
        """Return a file of its bundle."""
        return read_bytes(self.s3, self.release.bucket, self.release.beside(name))

    def reject(self, reason: str) -> None:
        """Write the refusal into the registry and end the task."""
        registry.decide(self.sagemaker, self.model["package_arn"], "Rejected", reason)
        fail(f"REJECTED model {self.model['version']} ({self.model['job']}): {reason}")


def judge(challenger: Challenger, floors: gate.Floors) -> str:
    """Hold the test figures against the floors, and let the package wait for a decision.

    Returns the moment of the verdict (ISO 8601), from which the manual approval's clock runs.
    """
    missed = gate.missed(challenger.metrics(), floors)
    if missed:
        challenger.reject("gate: " + "; ".join(missed))
    try:
        arn = challenger.model["package_arn"]
        registry.await_decision(challenger.sagemaker, arn, "waits for a decision: every floor is met")
    except registry.PackageRefused as refused:
        fail(str(refused))
    headline(f"model {challenger.model['version']} meets every floor")
    return datetime.now(UTC).isoformat()


def compare(challenger: Challenger, pointer: PointerStore, margins: Margins) -> str:
    """Return why the challenger may replace the champion; skip the rest where this very model serves or served."""
    champion, version = pointer.read(), challenger.model["version"]
    served = pointer.served_as(challenger.release.sha256)
    if champion and served not in (None, champion.pointer.current.serial):
        skip(
            f"model {version} served as serial {served} and was replaced since; an unchanged dataset is no reason to "
            "go back (`python -m infra promote` does)"
        )
    reason = compared(challenger, champion, margins)
    headline(reason)
    return reason


def compared(challenger: Challenger, champion: Seen | None, margins: Margins) -> str:
    """Return why the challenger may replace ``champion``; reject it where it may not, skip where it serves."""
    if champion is None:
        return "no model serves yet"
    old = champion.pointer.current
    if old.sha256 == challenger.release.sha256:
        skip(f"model {challenger.model['version']} serves already (serial {old.serial})")
    try:
        difference = _difference(challenger, old)
        worse = comparison.worse(difference, margins)
    except NotComparable as reason:
        worse = [str(reason)]
    if worse:
        challenger.reject(f"comparison: with model {old.version}: {'; '.join(worse)}")
    bounds = ", ".join(
        f"{n.removeprefix('delta_')} {d['value']:+.4f} (at least {d['lower']:+.4f})"
        for n, d in difference.items()
        if isinstance(d, dict)
    )
    return f"not inferior to model {old.version}: {bounds}"


def _difference(challenger: Challenger, old: Release) -> dict[str, Any]:
    """Return the training job's comparison with the model that serves, or, where it knew another one, our own."""
    s3, model = challenger.s3, challenger.model
    serving = bundle.read(s3, old)
    measured = challenger.metrics().get("champion")
    if measured and measured["model_sha256"] == serving.model_sha256:
        found: dict[str, Any] = measured["noninferiority"]
        return found
    headline("the training job did not score the model that serves now: comparing kept predictions")
    predictions = read_bytes(s3, old.bucket, old.beside("predictions.csv"))
    return comparison.of_predictions(
        Outputs.read(predictions, serving.threshold),
        Outputs.read(challenger.read("predictions.csv"), model["threshold"]),
    )


def promote(challenger: Challenger, pointer: PointerStore, margins: Margins, actor: str) -> Seen:
    """Point models/current.json at the approved model; where the champion changed meanwhile, compare again."""
    version = challenger.model["version"]
    decision, _ = registry.status(challenger.sagemaker, challenger.model["package_arn"])
    if decision != "Approved":
        fail(f"model {version} is {decision}; only an approved model is promoted")
    for _ in range(ATTEMPTS):
        champion = pointer.read()
        if champion and _wrote(champion, challenger, actor):
            headline(f"model {version} serves as serial {champion.pointer.current.serial}: this run wrote it before")
            return champion
        reason = compared(challenger, champion, margins)
        try:
            written = pointer.promote(challenger.release, champion, Move(actor, reason))
        except PointerMoved as moved:
            headline(f"{moved}; comparing again")
            continue
        headline(f"model {version} serves as serial {written.pointer.current.serial}: {reason}")
        return written
    fail(f"the champion changed {ATTEMPTS} times while model {version} was compared with it")


def _wrote(champion: Seen, challenger: Challenger, actor: str) -> bool:
    """Whether this run has promoted the model already: the answer to its write was lost, or its task cleared."""
    document = champion.pointer
    return document.move.actor == actor and document.current.sha256 == challenger.release.sha256


def roll_back(challenger: Challenger, pointer: PointerStore, promotion: Seen, run_id: str) -> str:
    """Serve the previous model again after a failed smoke test, and reject the promoted one; return what was done."""
    reason = f"smoke test of model {challenger.model['version']} failed in run {run_id}"
    try:
        restored = pointer.roll_back(promotion, Move(actor_of(run_id), reason))
    except PointerMoved:
        line = "another model was promoted since: nothing to undo"
    else:
        line = "ROLLED BACK: no model served before, so none serves now"
        if restored:
            current = restored.pointer.current
            line = f"ROLLED BACK to model {current.version} as serial {current.serial}"
    registry.decide(challenger.sagemaker, challenger.model["package_arn"], "Rejected", f"smoke: {reason}")
    headline(line)
    return line


def actor_of(run_id: str) -> str:
    """Name a run of `retrain` as the one who moves the pointer."""
    return f"airflow retrain {run_id}"
