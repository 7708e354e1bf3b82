"""Accuracy on the official test split, per run, with per-film predictions.

No run chooses anything on that split: weights, epochs, precision, threshold and limits come from the train folder. Its
figures are recomputed here from the predictions, by the code of today. A recipe that was tried and taken out again
after its test figure was known is named in the README.

Every run is a real training job (`python -m training_job train`) on the 5,216 + 624 films of ../shared/data with the
VGG16 file of ../shared/weights. A finished run is kept under build/accuracy and not repeated; the features that runs
share are computed once.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, ROOT, Table, arguments, record, table
from cxr.labels import CLASSES
from cxr.patients import patient_of
from training_job import scores

DATA = ROOT.parent / "shared" / "data" / "chest_xray"
WEIGHTS = ROOT.parent / "shared" / "weights" / "vgg16_notop.weights.h5"
LABEL = "vgg16 from scratch on the Kermany train patients"
WORK = ROOT / "build" / "accuracy"

ONE_EPOCH = {
    "augment_copies": "1",
    "fine_tune_blocks": "1",
    "fine_tune_epochs": "1",
    "fine_tune_learning_rate": "5e-5",
}
RUNS: dict[str, dict[str, str]] = {
    "gap-frozen": {"head": "gap"},
    "gap-block5": {"head": "gap", **ONE_EPOCH},
    "gap-block5-longer": {
        "head": "gap",
        "augment_copies": "2",
        "fine_tune_blocks": "1",
        "fine_tune_epochs": "2",
        "fine_tune_learning_rate": "5e-5",
    },
    "flatten-frozen": {"head": "flatten"},
    "flatten-block5": {"head": "flatten", **ONE_EPOCH},
}
# int8 was refused for the frozen gap head (2 labels and 4 statuses of 381 tune films changed, one of each may); trying
# it here would cost a second feature pass each.
FLOAT16 = ("gap-block5", "gap-block5-longer", "flatten-frozen", "flatten-block5")
COMMON = {"weights": "channel", "augment_copies": "0"}

SECONDS = (
    "of a run's own process where peak_memory_mib is null (older code counted no more): features that it found in the "
    "shared cache cost it nothing there, see seconds_per_stage; otherwise of all processes that worked on the run"
)
PUBLISHED = [
    {"who": "Kermany 2018, Inception V3", "accuracy": 0.928, "sensitivity": 0.932, "specificity": 0.901},
    {"who": "MedMNIST+ 2025, VGG16 linear probe, 224 px, ImageNet", "accuracy": 0.8622, "auroc": 0.9675},
    {"who": "MedMNIST+ 2025, VGG16 end to end, 224 px, ImageNet", "accuracy": 0.8739, "auroc": 0.9847},
    {"who": "MedMNIST+ 2025, best (DINO ViT-B/16 linear)", "accuracy": 0.9156, "auroc": 0.9892},
]


def hyperparameters(name: str) -> dict[str, str]:
    return {**COMMON, **RUNS[name], **({"precision": "float16"} if name in FLOAT16 else {})}


class OtherSettings(Exception):
    """A finished run was made with other hyperparameters than the table would say."""


def base_folder(name: str) -> Path:
    """The folder that stands for /opt/ml in a run: channels are links, the feature cache is shared."""
    base = WORK / name
    for folder in (base / "input" / "config", base / "input" / "data" / "weights", WORK / "cache"):
        folder.mkdir(parents=True, exist_ok=True)
    for link, target in (
        (base / "input" / "data" / "dataset", DATA),
        (base / "input" / "data" / "weights" / WEIGHTS.name, WEIGHTS),
        (base / "cache", WORK / "cache"),
    ):
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(target, link.parent))
    (base / "input" / "data" / "weights" / "LABEL.txt").write_text(LABEL + "\n")
    return base


def run(name: str) -> Path:
    """Train (or take the finished run) and return the bundle's folder. Raises CalledProcessError, OtherSettings."""
    base = base_folder(name)
    settings = base / "input" / "config" / "hyperparameters.json"
    if (base / "model" / "bundle.json").is_file():
        trained_with = json.loads(settings.read_text())
        if trained_with != hyperparameters(name):
            raise OtherSettings(
                f"{base.relative_to(ROOT)} was trained with {trained_with}, {name} is now {hyperparameters(name)}; "
                "delete that folder to train it again"
            )
    else:
        settings.write_text(json.dumps(hyperparameters(name)))
        environment = {
            **os.environ,
            "SAGEMAKER_BASE_DIR": str(base),
            "TRAINING_JOB_NAME": name,
            "PYTHONPATH": str(ROOT),
        }
        with (base / "log.txt").open("a") as log:
            command = [sys.executable, "-m", "training_job", "train"]
            subprocess.run(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=True)
    return base / "model"


def evaluated(predictions: Path, bundle: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run's test films, from its predictions.csv alone."""
    with predictions.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return scores.evaluate(
        np.array([CLASSES.index(row["label"]) for row in rows]),
        np.array([float(row["probability"]) for row in rows]),
        [row["status"] for row in rows],
        [patient_of(row["file"]) for row in rows],
        bundle["threshold"],
        bundle["conformal"]["quantile"],
    )


def figures(name: str, bundle: dict[str, Any], metrics: dict[str, Any], predictions: Path) -> dict[str, Any]:
    """One row of the table; intervals beside every value."""
    test = evaluated(predictions, bundle)
    at = test["at_threshold"]
    return {
        "run": name,
        "head": bundle["head"],
        "weights": bundle["weights"]["label"],
        "fine_tune_blocks": bundle["fine_tune_blocks"],
        "precision": bundle["precision"],
        "n_test": test["n"],
        **{key: at[key]["value"] for key in ("accuracy", "sensitivity", "specificity")},
        "auroc": test["auroc"]["value"],
        "ece": test["ece"]["value"],
        "coverage": test["coverage"]["ok"],
        "accuracy_on_ok": test["accuracy_on_ok"]["value"],
        "threshold": test["threshold"],
        "quantile": bundle["conformal"]["quantile"],
        "ood_limit": bundle["ood"]["limit"],
        "low_confidence": bundle["low_confidence"],
        "alpha": bundle["conformal"]["alpha"],
        "intervals": {
            **{key: [at[key]["low"], at[key]["high"]] for key in ("accuracy", "sensitivity", "specificity")},
            **{key: [test[key]["low"], test[key]["high"]] for key in ("auroc", "ece", "accuracy_on_ok")},
        },
        "at_half": {key: test["at_half"][key]["value"] for key in ("accuracy", "sensitivity", "specificity")},
        "tune_auroc": metrics["tune"]["auroc"]["value"],
        "parity": metrics["parity"],
        "seconds": metrics["seconds"]["total"],
        "seconds_per_stage": metrics["seconds"],
        "peak_memory_mib": metrics.get("peak_memory_mib"),
        "hyperparameters": hyperparameters(name),
        "code_version": bundle["code_version"],
    }


def documented(rows: list[dict[str, Any]]) -> Table:
    """The table of the documents: a row per run, percentages with one decimal."""

    def percent(share: float | None) -> float | None:
        return None if share is None else round(100 * share, 1)

    cells = [
        [
            f"{row['run']} ({row['precision']}), weights: {row['weights']}",
            round(row["auroc"], 4),
            *(percent(row[name]) for name in ("accuracy", "sensitivity", "specificity")),
            round(row["ece"], 3),
            percent(row["coverage"]),
            percent(row["accuracy_on_ok"]),
        ]
        for row in rows
    ]
    columns = "run | AUROC | accuracy % | sensitivity % | specificity % | ECE | answered % | accuracy on answered %"
    return table(columns, cells, "624 test films; intervals and per-film predictions are in benchmarks/results.")


def main(argv: list[str]) -> int:
    parser = arguments("accuracy", __doc__)
    parser.add_argument("runs", nargs="*", help=f"of: {', '.join(RUNS)} (default: those that are finished)")
    parser.add_argument("--finished", action="store_true", help="only collect runs that are finished; train nothing")
    chosen = parser.parse_args(argv)
    if not DATA.is_dir() or not WEIGHTS.is_file():
        print(f"no real films beside this checkout (expected {DATA.relative_to(ROOT.parent)}): nothing measured")
        return 0
    rows = []
    for name in chosen.runs or RUNS:
        if (chosen.finished or not chosen.runs) and not (WORK / name / "model" / "bundle.json").is_file():
            continue
        try:
            model = run(name)
        except OtherSettings as error:
            print(error)
            return 1
        bundle, metrics = (json.loads((model / file).read_text()) for file in ("bundle.json", "metrics.json"))
        rows.append(figures(name, bundle, metrics, model / "predictions.csv"))
        if chosen.publish:
            shutil.copyfile(model / "predictions.csv", RESULTS / f"predictions-{name}.csv")
    if not rows:
        print(f"no run is finished; train one, hours on a CPU: python -m benchmarks.accuracy {next(iter(RUNS))}")
        return 0
    payload = {"test_split": "official, 624 films", "runs": rows, "seconds": SECONDS, "published": PUBLISHED}
    record("accuracy", {**payload, "tables": {"accuracy": documented(rows)}}, chosen.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
