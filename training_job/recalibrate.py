"""`python -m training_job.recalibrate --bundle DIR --data DIR --output DIR`: fit a bundle's limits to other films.

The new bundle and its page of figures before and after appear whole or not at all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from cxr.bundle import Bundle, BundleError, read_bundle
from cxr.engine import Engine, EngineError
from cxr.film_list import BadFilmList
from cxr.verdict import Limits
from training_job import export, layers, package, pages, validation
from training_job.console import say
from training_job.container import explain
from training_job.dataset import BadDataset, Films, digest_of, read_films
from training_job.limits import manifest_fields
from training_job.litert import cores
from training_job.logistic import Line
from training_job.recalibration import Outcome, describe, parts, recalibrated
from training_job.scoring import Scored, score_films
from training_job.serving import SAMPLE_TOLERANCE
from training_job.stop import Stop, Stopped

COPIED = ("model.tflite", package.KERAS)
ROOM, RIGHTS = "free some there, or name another --output", "let this user read --data and write to --output"


@dataclass(frozen=True)
class Request:
    """What was asked for. alpha: None for the bundle's own; floor: of the sensitivity on the tune third."""

    bundle: Path
    data: Path
    output: Path
    alpha: float | None
    floor: float


@dataclass(frozen=True)
class Given:
    """The old bundle, and what its file says of the hospital's films."""

    folder: Path
    bundle: Bundle
    films: Films
    scored: Scored
    digest: str


def run(request: Request, stop: Stop) -> Outcome:
    """Evaluate, recalibrate, and write the new bundle into the output folder.

    Raises BundleError, EngineError, BadDataset, BadFilmList, BrokenExport, OSError, Stopped.
    """
    bundle = read_bundle(request.bundle, COPIED)
    old = Limits.from_bundle(bundle)
    alpha = request.alpha or old.alpha
    request.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.output.parent, prefix=f".{request.output.name}.") as scratch:
        films, listed = read_films(request.data, bundle.side, stop)
        validation.refuse_two_labels(films)
        parts(films, alpha)
        engine = Engine(request.bundle / "model.tflite", threads=cores())
        now = score_films(engine, films, old, f"films of {request.data.name}", stop)
        outcome = recalibrated(now, films, old, alpha, request.floor)
        made = Path(scratch) / "bundle"
        made.mkdir()
        _write(made, Given(request.bundle, bundle, films, now, digest_of(listed, films)), outcome, request.data.name)
        made.replace(request.output)
    return outcome


def _write(output: Path, given: Given, outcome: Outcome, data: str) -> None:
    """The new bundle; `data` names the films on the page."""
    bundle, films = given.bundle, given.films
    name = f"{bundle.name}-recalibrated"
    line = outcome.line.after(_line(bundle))
    model, tflite = _moved(given, line)
    engine = Engine(tflite, threads=cores())
    _verify(engine, given, outcome)
    metrics = {"test": outcome.after, "before": outcome.before, "counts": outcome.counts, "notes": outcome.notes}
    contents: dict[str, bytes | str] = {
        "model.tflite": export.with_card(tflite, package.card(name, bundle.side, outcome.limits)),
        "golden.npz": package.golden(engine),
        "metrics.json": package.json_text(metrics),
        "predictions.csv": package.predictions(films, outcome.scored, outcome.parts),
        "recalibration.html": pages.render("recalibration.html", bundle=bundle, outcome=outcome, data=data),
    }
    package.write(
        output,
        model,
        contents,
        name=name,
        input=bundle.input,
        **{field: getattr(bundle, field) for field in ("head", "weights", "fine_tune_blocks", "precision", "seed")},
        **line.manifest_fields(),
        **manifest_fields(outcome.limits, outcome.calibrated, sum(outcome.counts["calibrate"].values())),
        metrics={"test": outcome.after},
        dataset={"digest": given.digest, "counts": outcome.counts},
    )


def _line(bundle: Bundle) -> Line:
    """The one in the bundle's graph; of older bundles it has a temperature alone."""
    found = bundle.calibration
    return Line(found["slope"], found["offset"]) if found else Line(1.0 / bundle.temperature, 0.0)


def _moved(given: Given, line: Line) -> tuple[keras.Model, bytes]:
    """(Keras model, .tflite of the bundle's precision) with this line in the graph."""
    model = keras.models.load_model(given.folder / package.KERAS, compile=False, custom_objects=layers.CUSTOM)
    layer = model.get_layer("calibration" if given.bundle.calibration else "temperature")
    layer.scale, layer.offset = line.slope, line.offset
    return model, export.to_tflite(model, given.bundle.precision)


def _verify(engine: Engine, given: Given, outcome: Outcome) -> None:
    """The new file must be the old one with another line, on a few films."""
    films = given.films
    for row in np.linspace(0, len(films) - 1, min(4, len(films))).astype(int):
        expected = float(outcome.scored.probabilities[row])
        got = engine.run(films.pixels[row]).probability
        if not abs(got - expected) <= SAMPLE_TOLERANCE:
            raise export.BrokenExport(
                f"the recalibrated file answers {got:.4f} for {films.files[row]}, {expected:.4f} was expected; do the "
                "installed keras and tensorflow match the versions in bundle.json?"
            )


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
        outcome = run(Request(bundle, data, output, chosen.alpha, chosen.sensitivity_floor), Stop().install())
    except Stopped:
        return 130
    except (BundleError, EngineError, BadDataset, BadFilmList, export.BrokenExport, OSError) as error:
        print(explain(error, ROOM, RIGHTS), file=sys.stderr)
        return 1
    say(describe(outcome))
    for note in outcome.notes:
        say(f"note: {note}")
    say(f"on {outcome.after['n']} films that set nothing; new bundle and recalibration.html in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
