"""`python -m training_job.recalibrate --bundle DIR --data DIR --output DIR`: fit a bundle's limits to other films.

Rule: the network stays as it is; only temperature, threshold, conformal quantiles and the distance limit move. A third
of the hospital's patients set the first two, a third the others, and the last third, which set nothing, says whether
it helped.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from cxr.bundle import Bundle, BundleError, read_bundle
from cxr.engine import Engine
from cxr.verdict import Limits
from training_job import calibrate, export, package, scores
from training_job.console import say
from training_job.container import explain
from training_job.dataset import CLASSES, BadDataset, Films, digest_of, read_films
from training_job.litert import cores
from training_job.patients import BadPatientList
from training_job.serving import SAMPLE_TOLERANCE, Scored, quantiles_of, score_films, scored
from training_job.stop import Stop, Stopped

PARTS = ("tune", "calibrate", "check")
COPIED = ("model.tflite", "model.keras")


@dataclass(frozen=True)
class Outcome:
    """Old and new limits, and both on the same films that set neither."""

    before: dict[str, Any]
    after: dict[str, Any]
    limits: Limits
    factor: float
    counts: dict[str, dict[str, int]]


def parts(films: Films) -> dict[str, np.ndarray]:
    """Rows per part, by patient. Raises BadDataset when a part lacks a class."""

    def part(patient: str) -> str:
        return PARTS[int(hashlib.sha256(f"recalibrate {patient}".encode()).hexdigest(), 16) % 3]

    names = np.array([part(patient) for patient in films.patients])
    rows = {name: np.flatnonzero(names == name) for name in PARTS}
    for name, picked in rows.items():
        for label, of_class in enumerate(CLASSES):
            if not (films.labels[picked] == label).any():
                raise BadDataset(
                    f"no {of_class} patient falls into the {name} third of {len(films)} films; give at least some 30 "
                    "patients per class"
                )
    return rows


def recalibrated(scores_now: Scored, films: Films, old: Limits, alpha: float, floor: float) -> Outcome:
    """New limits from the served file's own outputs on all films. `factor` multiplies the graph's temperature."""
    rows = parts(films)
    logits = logit(np.clip(scores_now.probabilities, 1e-7, 1 - 1e-7))
    factor = calibrate.temperature(logits[rows["tune"]], films.labels[rows["tune"]])
    probabilities = expit(logits / factor)
    cut = calibrate.threshold(probabilities[rows["tune"]], films.labels[rows["tune"]], floor)
    part = films.take(rows["calibrate"])
    single = rows["calibrate"][calibrate.one_per_patient(part.patients, part.labels, part.files)]
    normal, ill = single[films.labels[single] == 0], single[films.labels[single] == 1]
    limits = replace(
        old,
        threshold=cut,
        quantile_normal=calibrate.conformal_quantile(1 - probabilities[normal], alpha),
        quantile_pneumonia=calibrate.conformal_quantile(probabilities[ill], alpha),
        alpha=alpha,
        ood_limit=calibrate.ood_limit(scores_now.distances[rows["calibrate"]]),
    )
    check = films.take(rows["check"])
    distances = scores_now.distances[rows["check"]]
    before = _table(check, scores_now.probabilities[rows["check"]], distances, old)
    after = _table(check, probabilities[rows["check"]], distances, limits)
    counts = {name: films.take(picked).counts() for name, picked in rows.items()}
    return Outcome(before, after, limits, factor, counts)


def _table(films: Films, probabilities: np.ndarray, distances: np.ndarray, limits: Limits) -> dict[str, Any]:
    judged = scored(probabilities, distances, films.saturations, limits)
    return scores.evaluate(
        films.labels, probabilities, judged.statuses, films.patients, limits.threshold, quantiles_of(limits)
    )


def rescaled_model(folder: Path, bundle: Bundle, factor: float) -> tuple[Any, bytes]:
    """(Keras model, .tflite of the bundle's precision) whose temperature is `factor` times the bundle's."""
    import keras

    from training_job import network

    bundle.verify("model.keras", folder / "model.keras")
    model = keras.models.load_model(folder / "model.keras", compile=False, custom_objects=network.CUSTOM)
    model.get_layer("temperature").scale = 1.0 / (bundle.temperature * factor)
    return model, export.to_tflite(model, bundle.precision)


def new_name(bundle: Bundle) -> str:
    return f"{bundle.name}-recalibrated"


def run(bundle_folder: Path, data: Path, output: Path, alpha: float | None, floor: float, stop: Stop) -> Outcome:
    """Evaluate, recalibrate, write the new bundle and its before/after report into `output`."""
    bundle = read_bundle(bundle_folder, COPIED)
    old, films = Limits.from_bundle(bundle), read_films(data, stop)
    engine = Engine(bundle_folder / "model.tflite", threads=cores())
    now = score_films(engine, films.pixels, films.saturations, old, f"films of {data.name}", stop)
    outcome = recalibrated(now, films, old, alpha or old.alpha, floor)
    output.mkdir(parents=True, exist_ok=True)
    model, tflite = rescaled_model(bundle_folder, bundle, outcome.factor)
    new = Engine(tflite, threads=cores())
    _verify(new, films, now, outcome)
    card = package.card(new_name(bundle), outcome.limits)
    package.write(output / "model.tflite", export.with_card(tflite, card))
    model.save(output / "model.keras")
    package.write(output / "golden.npz", package.golden(new, films.pixels))
    metrics = {"test": outcome.after, "before": outcome.before, "counts": outcome.counts}
    package.write(output / "metrics.json", package.json_text(metrics))
    package.write(output / "recalibration.html", _report(bundle, outcome, data.name))
    _write_manifest(output, bundle, outcome, films)
    return outcome


def _verify(engine: Engine, films: Films, before: Scored, outcome: Outcome) -> None:
    """The new file must be the old one at another temperature, on a few films."""
    for row in np.linspace(0, len(films) - 1, min(4, len(films))).astype(int):
        expected = expit(logit(np.clip(before.probabilities[row], 1e-7, 1 - 1e-7)) / outcome.factor)
        got = engine.run(films.pixels[row]).probability
        if not abs(got - expected) <= SAMPLE_TOLERANCE:
            raise export.BrokenExport(
                f"the recalibrated file answers {got:.4f} for {films.files[row]}, {expected:.4f} was expected; do the "
                "installed keras and tensorflow match the versions in bundle.json?"
            )


def _report(bundle: Bundle, outcome: Outcome, name: str) -> str:
    from training_job.report import environment

    return environment().get_template("recalibration.html").render(bundle=bundle, outcome=outcome, data=name)


def _write_manifest(output: Path, bundle: Bundle, outcome: Outcome, films: Films) -> None:
    limits, counts = outcome.limits, outcome.counts["calibrate"]
    files = ("model.tflite", "model.keras", "golden.npz", "metrics.json", "recalibration.html")
    renewed = package.manifest(
        output,
        files,
        name=new_name(bundle),
        head=bundle.head,
        weights=bundle.weights,
        fine_tune_blocks=bundle.fine_tune_blocks,
        precision=bundle.precision,
        temperature=bundle.temperature * outcome.factor,
        threshold=limits.threshold,
        conformal={"alpha": limits.alpha, "quantile": quantiles_of(limits), "n": counts},
        ood={"limit": limits.ood_limit, "percentile": calibrate.OOD_PERCENTILE, "n": sum(counts.values())},
        low_confidence=limits.low_confidence,
        metrics={"test": outcome.after},
        dataset={"digest": digest_of(films), "counts": outcome.counts},
        seed=bundle.seed,
    )
    package.write(output / "bundle.json", renewed.to_json())


def _cell(table: Any, path: tuple[str, ...]) -> str:
    """The figure at `path` of nested objects, three decimals."""
    for key in path:
        table = table[key]
    return "n/a" if table is None else f"{table:.3f}"


def describe(outcome: Outcome) -> str:
    """Before and after on the check third, for a terminal."""
    rows = [("", "before", "after")]
    for label, path in (
        ("sensitivity", ("at_threshold", "sensitivity", "value")),
        ("specificity", ("at_threshold", "specificity", "value")),
        ("accuracy", ("at_threshold", "accuracy", "value")),
        ("AUROC", ("auroc", "value")),
        ("ECE", ("ece", "value")),
        ("answered", ("coverage", "ok")),
        ("accuracy of answered", ("accuracy_on_ok", "value")),
    ):
        before, after = (_cell(table, path) for table in (outcome.before, outcome.after))
        rows.append((label, before, after))
    return "\n".join(f"{name:22}{before:>8}{after:>8}" for name, before, after in rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m training_job.recalibrate", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder with bundle.json (an unpacked model.tar.gz)")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with NORMAL/, PNEUMONIA/, perhaps patients.csv"
    )
    parser.add_argument("--output", type=Path, help="folder for the new bundle (default: <bundle>-recalibrated)")
    parser.add_argument("--alpha", type=float, help="conformal error rate per class (default: the bundle's)")
    parser.add_argument("--sensitivity-floor", type=float, default=0.95)
    chosen = parser.parse_args(arguments)
    if chosen.alpha is not None and not 0.001 <= chosen.alpha <= 0.5:
        parser.error(f"--alpha {chosen.alpha} is outside 0.001 to 0.5")
    if not 0 <= chosen.sensitivity_floor <= 1:
        parser.error(f"--sensitivity-floor {chosen.sensitivity_floor} is outside 0 to 1")
    output = chosen.output or chosen.bundle.with_name(chosen.bundle.name + "-recalibrated")
    if output.exists() and any(output.iterdir()):
        parser.error(f"{output} is not empty; name another --output, nothing is overwritten")
    try:
        outcome = run(chosen.bundle, chosen.data, output, chosen.alpha, chosen.sensitivity_floor, Stop().install())
    except Stopped:
        shutil.rmtree(output, ignore_errors=True)
        return 130
    except (BundleError, BadDataset, BadPatientList, export.BrokenExport, OSError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    say(describe(outcome))
    say(f"on {outcome.after['n']} films that set nothing; new bundle and recalibration.html in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
