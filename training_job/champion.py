"""The model in service on the same test films as the new one, and what the two differ by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.bundle import Bundle, read_bundle
from cxr.engine import Engine
from cxr.noninferiority import Outputs, noninferiority
from cxr.verdict import Limits
from training_job.dataset import Films
from training_job.litert import cores
from training_job.scoring import Scored, score_films, table
from training_job.stop import Stop


@dataclass(frozen=True)
class Champion:
    """The bundle in service, verified, its engine and its limits."""

    bundle: Bundle
    engine: Engine
    limits: Limits


def open_champion(folder: Path) -> Champion:
    """The one bundle in or below a folder. Raises BundleError, EngineError on a broken one."""
    manifest = next(iter(sorted(folder.rglob("bundle.json"))), folder / "bundle.json")
    bundle = read_bundle(manifest.parent, ("model.tflite",))
    return Champion(bundle, Engine(manifest.parent / "model.tflite", threads=cores()), Limits.from_bundle(bundle))


def compare(champion: Champion, films: Films, challenger: Scored, threshold: float, stop: Stop) -> dict[str, Any]:
    """The champion's figures on these films and the bounds of challenger minus champion. Raises Stopped."""
    judged = score_films(champion.engine, films, champion.limits, "test films by the champion", stop)
    old, new = _outputs(films, judged, champion.limits.threshold), _outputs(films, challenger, threshold)
    return {
        "bundle_name": champion.bundle.name,
        "model_sha256": champion.bundle.model_sha256,
        "test": table(films, judged, champion.limits),
        "noninferiority": noninferiority(old, new, dict(zip(films.files, films.patients, strict=True))),
    }


def _outputs(films: Films, judged: Scored, threshold: float) -> Outputs:
    answers = zip((films.labels == 1).tolist(), judged.probabilities.tolist(), strict=True)
    return Outputs(dict(zip(films.files, answers, strict=True)), threshold)
