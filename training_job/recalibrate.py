"""`python -m training_job.recalibrate --bundle DIR --data DIR --output DIR`: fit a bundle's limits to other films.

Rule: the network stays as it is; only temperature, threshold, conformal quantiles and the distance limit move. A third
of the hospital's patients set the first two, a third the others, and the last third, which set nothing, says whether
it helped.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from cxr.bundle import Bundle, BundleError, read_bundle
from cxr.engine import Engine, EngineError
from cxr.labels import CLASSES
from cxr.patients import BadPatientList
from cxr.verdict import Limits
from training_job import calibrate, export, files, package, scores, validation
from training_job.console import say
from training_job.container import explain
from training_job.dataset import BadDataset, Films, digest_of, read_films
from training_job.litert import cores
from training_job.serving import SAMPLE_TOLERANCE, Scored, quantiles_of, score_films, scored, shortages
from training_job.stop import Stop, Stopped

PARTS = ("tune", "calibrate", "check")
COPIED = ("model.tflite", "model.keras")
FILES = ("model.tflite", "model.keras", "golden.npz", "metrics.json", "predictions.csv", "recalibration.html")
ROOM, RIGHTS = "free some there, or name another --output", "let this user read --data and write to --output"


@dataclass(frozen=True)
class Outcome:
    """Old and new limits, and both on the films of the check part, which set neither.

    factor: of the graph's temperature. parts: what each film was used for. counts: films per part and class.
    calibrated: patients per class behind the quantiles. scored: all films by the new limits. notes: what to be told of.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    old: Limits
    limits: Limits
    factor: float
    parts: list[str]
    counts: dict[str, dict[str, int]]
    calibrated: dict[str, int]
    scored: Scored
    notes: list[str]


def parts(films: Films, alpha: float) -> dict[str, np.ndarray]:
    """Rows per part, by patient. Raises BadDataset when a part lacks a class."""

    def part(patient: str) -> str:
        return PARTS[int(hashlib.sha256(f"recalibrate {patient}".encode()).hexdigest(), 16) % 3]

    names = np.array([part(patient) for patient in films.patients])
    rows = {name: np.flatnonzero(names == name) for name in PARTS}
    for name, picked in rows.items():
        for label, of_class in enumerate(CLASSES):
            if not (films.labels[picked] == label).any():
                raise BadDataset(
                    f"no {of_class} patient falls into the {name} third of {len(films)} films; give at least "
                    f"{patients_wanted(alpha)} patients per class (alpha {alpha} needs "
                    f"{calibrate.patients_needed(alpha)} of each in a third)"
                )
    return rows


def patients_wanted(alpha: float) -> int:
    """Patients per class that leave enough for alpha in a third, with a margin for the luck of the cut."""
    return math.ceil(1.3 * len(PARTS) * calibrate.patients_needed(alpha))


def recalibrated(
    scores_now: Scored, films: Films, old: Limits, temperature: float, alpha: float, floor: float
) -> Outcome:
    """New limits from the served file's own outputs on all films; `temperature` is its graph's.

    The product of both temperatures stays in calibrate.TEMPERATURE_RANGE, however often a bundle is recalibrated.
    """
    rows = parts(films, alpha)
    logits = logit(np.clip(scores_now.probabilities, 1e-7, 1 - 1e-7))
    low, high = (bound / temperature for bound in calibrate.TEMPERATURE_RANGE)
    factor = calibrate.temperature(logits[rows["tune"]], films.labels[rows["tune"]], (low, high))
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
    judged = scored(probabilities, scores_now.distances, films.saturations, limits)
    check = rows["check"]
    before = _table(films, scores_now, check, old)
    after = _table(films, judged, check, limits)
    calibrated: dict[str, int] = dict(zip(CLASSES, (len(normal), len(ill)), strict=True))
    notes = shortages(limits, calibrated, len(rows["calibrate"]))
    if calibrate.at_bound(temperature * factor):
        notes.append(
            f"the temperature ran to its bound ({temperature * factor:.3g}): the tune third is too small or too easily "
            "told apart to say how certain the model may be; give more films"
        )
    notes += [
        f"{name} on the check third got worse, {before[key]['value']:.3f} before and {after[key]['value']:.3f} after: "
        "keep the old bundle, or give more films"
        for name, key in (("the calibration error (ECE)", "ece"), ("the Brier score", "brier"))
        if after[key]["value"] > before[key]["value"]
    ]
    used = np.empty(len(films), object)
    for name, picked in rows.items():
        used[picked] = name
    counts = {name: films.take(picked).counts() for name, picked in rows.items()}
    return Outcome(before, after, old, limits, factor, used.tolist(), counts, calibrated, judged, notes)


def _table(films: Films, judged: Scored, rows: np.ndarray, limits: Limits) -> dict[str, Any]:
    """The figures of some films."""
    part = films.take(rows)
    statuses = [judged.statuses[row] for row in rows]
    return scores.evaluate(
        part.labels, judged.probabilities[rows], statuses, part.patients, limits.threshold, quantiles_of(limits)
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
    """Evaluate, recalibrate, write the new bundle and its before/after report into `output`, which appears whole.

    Raises BundleError, EngineError, BadDataset, BadPatientList, BrokenExport, OSError, Stopped.
    """
    bundle = read_bundle(bundle_folder, COPIED)
    old = Limits.from_bundle(bundle)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        films, listed = read_films(data, stop)
        validation.refuse_two_labels(films)
        parts(films, alpha or old.alpha)
        engine = Engine(bundle_folder / "model.tflite", threads=cores())
        now = score_films(engine, films.pixels, films.saturations, old, f"films of {data.name}", stop)
        outcome = recalibrated(now, films, old, bundle.temperature, alpha or old.alpha, floor)
        made = Path(scratch) / "bundle"
        made.mkdir()
        _write(made, bundle_folder, bundle, outcome, films, now, data.name)
        _write_manifest(made, bundle, outcome, digest_of(listed, films))
        made.replace(output)
    return outcome


def _write(
    output: Path, bundle_folder: Path, bundle: Bundle, outcome: Outcome, films: Films, now: Scored, name: str
) -> None:
    """Every file of the new bundle but its manifest."""
    model, tflite = rescaled_model(bundle_folder, bundle, outcome.factor)
    new = Engine(tflite, threads=cores())
    _verify(new, films, now, outcome)
    card = package.card(new_name(bundle), outcome.limits)
    files.write(output / "model.tflite", export.with_card(tflite, card))
    with files.naming(output / "model.keras"):
        model.save(output / "model.keras")
    files.write(output / "golden.npz", package.golden(new, films.pixels))
    metrics = {"test": outcome.after, "before": outcome.before, "counts": outcome.counts, "notes": outcome.notes}
    files.write(output / "metrics.json", package.json_text(metrics))
    files.write(output / "predictions.csv", package.predictions(films, outcome.scored, outcome.parts))
    files.write(output / "recalibration.html", _report(bundle, outcome, name))


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


def _write_manifest(output: Path, bundle: Bundle, outcome: Outcome, digest: str) -> None:
    limits = outcome.limits
    renewed = package.manifest(
        output,
        FILES,
        name=new_name(bundle),
        head=bundle.head,
        weights=bundle.weights,
        fine_tune_blocks=bundle.fine_tune_blocks,
        precision=bundle.precision,
        temperature=bundle.temperature * outcome.factor,
        threshold=limits.threshold,
        conformal={"alpha": limits.alpha, "quantile": quantiles_of(limits), "n": outcome.calibrated},
        ood={
            "limit": limits.ood_limit,
            "percentile": calibrate.OOD_PERCENTILE,
            "n": sum(outcome.counts["calibrate"].values()),
        },
        low_confidence=limits.low_confidence,
        metrics={"test": outcome.after},
        dataset={"digest": digest, "counts": outcome.counts},
        seed=bundle.seed,
    )
    files.write(output / "bundle.json", renewed.to_json())


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
    bundle, data = chosen.bundle.resolve(), chosen.data.resolve()
    output = (chosen.output or bundle.with_name(bundle.name + "-recalibrated")).resolve()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        parser.error(f"{output} is there and no empty folder; name another --output, nothing is overwritten")
    try:
        outcome = run(bundle, data, output, chosen.alpha, chosen.sensitivity_floor, Stop().install())
    except Stopped:
        return 130
    except (BundleError, EngineError, BadDataset, BadPatientList, export.BrokenExport, OSError) as error:
        print(explain(error, ROOM, RIGHTS), file=sys.stderr)
        return 1
    say(describe(outcome))
    for note in outcome.notes:
        say(f"note: {note}")
    say(f"on {outcome.after['n']} films that set nothing; new bundle and recalibration.html in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
