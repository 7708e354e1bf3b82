"""The files of a bundle, written so that a half-written one can never pass for whole.

bundle.json is written last; it names every other file's size and sha256.
"""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cxr.bundle import Bundle, sha256_of
from cxr.engine import Engine
from cxr.labels import CLASSES, INTENDED_USE
from cxr.verdict import Limits
from training_job import files, provenance
from training_job.dataset import Films
from training_job.scoring import Scored

if TYPE_CHECKING:
    import keras

KERAS = "model.keras"
GOLDEN_FILMS = 4
# int8 activations are rounded dynamically; another CPU's kernels may land a step away (measured: 0.0 between two CPUs).
GOLDEN_TOLERANCE = 0.02
STRETCHED = "stretched to the square (bilinear, antialiased)"
PREDICTION_COLUMNS = ("file", "label", "probability", "ood_distance", "status")


def card(name: str, side: int, limits: Limits) -> dict[str, Any]:
    """What travels inside every .tflite, so that the file can stand alone: input, labels, limits, intended use."""
    return {
        "classes": list(CLASSES),
        "threshold": limits.threshold,
        "low_confidence": limits.low_confidence,
        "conformal": {"alpha": limits.alpha, "quantile": limits.quantiles},
        "ood_limit": limits.ood_limit,
        "input": f"film: float32 [1,{side},{side},1], grey levels 0..255, {STRETCHED}",
        "name": name,
        "intended_use": INTENDED_USE,
    }


def golden(engine: Engine) -> bytes:
    """golden.npz: a few drawn films with this engine's answers, for the self-test at a cold start.

    They show nobody: a bundle outlives the films that it was made from, and a patient must be erasable from it.
    """
    films = drawn_films(engine.side)
    outputs = [engine.run(film) for film in films]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        films=films,
        probability=np.array([output.probability for output in outputs], np.float32),
        ood_distance=np.array([output.ood_distance for output in outputs], np.float32),
        heatmap=np.stack([output.heatmap for output in outputs]).astype(np.float32),
        tolerance=np.float32(GOLDEN_TOLERANCE),
    )
    return buffer.getvalue()


def drawn_films(side: int) -> np.ndarray:
    """uint8 [GOLDEN_FILMS, side, side]: the same smooth patterns each time, from coarse to fine, of all grey levels."""
    random, films = np.random.default_rng(7), []
    for cells in range(3, 3 + 4 * GOLDEN_FILMS, 4):
        coarse = Image.fromarray(random.random((cells, cells)).astype(np.float32))
        field = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        films.append(255 * (field - field.min()) / np.ptp(field))
    return np.stack(films).round().astype(np.uint8)


def predictions(films: Films, scored: Scored, part: Sequence[str] | None = None) -> str:
    """predictions.csv: one row per film, full precision, so that every figure can be computed again.

    `part`: what each film was used for, a last column where films of several uses stand in one file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*PREDICTION_COLUMNS, *(["part"] if part else [])])
    rows = zip(films.files, films.labels, scored.probabilities, scored.distances, scored.statuses, strict=True)
    for number, (file, label, probability, distance, status) in enumerate(rows):
        used = [part[number]] if part else []
        writer.writerow([file, CLASSES[label], f"{probability:.7g}", f"{distance:.7g}", status, *used])
    return text.getvalue()


def plain(value: Any) -> Any:
    """JSON without NaN: numpy scalars become Python's, non-finite numbers None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(document: Any) -> str:
    return json.dumps(plain(document), indent=2, sort_keys=True) + "\n"


def write(folder: Path, graph: keras.Model, contents: Mapping[str, bytes | str], **fields: Any) -> None:
    """A whole bundle: the served graph as model.keras, the other files by name, and bundle.json with these `fields`.

    Raises OSError naming the file that could not be written.
    """
    for name, content in contents.items():
        files.write(folder / name, content)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, files.naming(folder / KERAS):
        graph.save(Path(scratch) / KERAS)
        (Path(scratch) / KERAS).replace(folder / KERAS)
    files.write(folder / "bundle.json", manifest(folder, (*contents, KERAS), **fields).to_json())


def manifest(folder: Path, names: Sequence[str], **fields: Any) -> Bundle:
    """The Bundle of the named files that lie in `folder`; `fields` are its other fields."""
    named = {name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    return Bundle(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=named,
        code_version=provenance.code_version(),
        versions=provenance.versions(),
        **plain(fields),
    )
