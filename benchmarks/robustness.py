"""How far a run's AUROC falls when exposure and position of held-out films vary; the test split stays closed.

The tune films (7 % of the train patients; they trained no weight, but chose epoch, temperature and threshold) go
through the run's deployed .tflite as they are and varied. The gap head's augmentation varies films in the same way, a
little less: a run that was trained on it is favoured here. A run may be preferred by these figures, never by those of
the test split.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.accuracy import DATA, RUNS, WORK
from benchmarks.record import ROOT, Table, arguments, record, table
from cxr.bundle import SIDE
from cxr.engine import Engine
from training_job import augment
from training_job.dataset import Dataset, Films, read_dataset
from training_job.heads import Augmentation
from training_job.stop import Stop

STRONG = Augmentation(rotate_degrees=12, shift=0.08, zoom=0.2, contrast=0.4, brightness=0.15, gamma=0.5)
SEED = 2026


def probabilities(model: bytes, films: np.ndarray) -> np.ndarray:
    """P(PNEUMONIA) [n] of uint8 films [n, s, s], an engine per core."""
    cores = os.cpu_count() or 1

    def answer(part: np.ndarray) -> list[float]:
        engine = Engine(model)
        return [engine.run(film).probability for film in part]

    with ThreadPoolExecutor(cores) as pool:
        return np.concatenate(list(pool.map(answer, np.array_split(films, cores))))


def measure(name: str, tune: Films, varied: np.ndarray) -> dict[str, Any]:
    """A run's AUROC and, at its threshold, sensitivity and specificity, on the films as they are and varied."""
    folder = WORK / name / "model"
    bundle = json.loads((folder / "bundle.json").read_text())
    model = (folder / "model.tflite").read_bytes()
    row: dict[str, Any] = {"run": name, "code_version": bundle["code_version"], "n": len(tune.labels)}
    for kind, films in (("as they are", tune.pixels), ("varied", varied)):
        p = probabilities(model, films)
        called = p >= bundle["threshold"]
        row[kind] = {
            "auroc": float(roc_auc_score(tune.labels, p)),
            "sensitivity": float(called[tune.labels == 1].mean()),
            "specificity": float(1 - called[tune.labels == 0].mean()),
        }
    return row


def documented(rows: list[dict[str, Any]]) -> Table:
    """The table of the documents."""
    cells = [
        [
            row["run"],
            round(row["as they are"]["auroc"], 4),
            round(row["varied"]["auroc"], 4),
            *(round(100 * row["varied"][name], 1) for name in ("sensitivity", "specificity")),
        ]
        for row in rows
    ]
    reach = (
        f"up to {STRONG.rotate_degrees:.0f} degrees, {STRONG.shift:.0%} of the side, zoom {STRONG.zoom:.0%}, contrast "
        f"{STRONG.contrast:.0%}, brightness {STRONG.brightness:.0%}, gamma e^{STRONG.gamma}"
    )
    columns = "run | AUROC | AUROC varied | sensitivity varied % | specificity varied %"
    return table(columns, cells, f"{rows[0]['n']} tune films; varied by {reach}.")


def main(argv: list[str]) -> int:
    parser = arguments("robustness", __doc__)
    parser.add_argument("runs", nargs="*", help=f"of: {', '.join(RUNS)} (default: those that are finished)")
    chosen = parser.parse_args(argv)
    finished = [name for name in chosen.runs or RUNS if (WORK / name / "model" / "bundle.json").is_file()]
    if not DATA.is_dir() or not finished:
        print(f"no real films or no finished run under {WORK.relative_to(ROOT)}: nothing measured")
        return 0
    dataset: Dataset = read_dataset(DATA, SIDE, Stop())
    tune = dataset.bucket("tune")
    varied = np.stack(list(augment.augmented(tune.pixels, STRONG, SEED, 1)))
    rows = [measure(name, tune, varied) for name in finished]
    record("robustness", {"runs": rows, "tables": {"robustness": documented(rows)}}, chosen.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
