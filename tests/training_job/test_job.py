"""One whole job, seen from outside: through the SageMaker toolkit, down to the bundle that the Lambda will load."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cxr.bundle import read_bundle
from cxr.engine import Engine
from cxr.labels import CLASSES
from cxr.metric_definitions import METRIC_DEFINITIONS
from cxr.reader import read_film
from cxr.verdict import Limits, judge
from training_job import export, package, provenance, scores

if TYPE_CHECKING:
    from tests.training_job.conftest import Trained

pytestmark = pytest.mark.heavy

FILES = {
    "model.tflite", "model.keras", "golden.npz", "metrics.json", "predictions.csv", "report.html", "model_card.md",
}  # fmt: skip


def predictions(trained: Trained) -> list[dict[str, str]]:
    with (trained.model / "predictions.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_bundle_is_whole_and_the_engine_reproduces_its_golden_films(trained: Trained) -> None:
    bundle = read_bundle(trained.model, FILES)
    assert set(bundle.files) == FILES
    assert bundle.weights["source"] == "random" and bundle.head == "gap" and bundle.conformal["alpha"] == 0.2
    assert bundle.name == "tiny" and bundle.code_version == provenance.code_version() != "unknown"
    engine = Engine(trained.model / "model.tflite")
    engine.check_golden(trained.model / "golden.npz")
    with np.load(trained.model / "golden.npz") as golden:
        assert np.array_equal(golden["films"], package.drawn_films(engine.side)), "golden films show nobody"


def test_nothing_but_the_bundle_lies_in_the_model_folder(trained: Trained) -> None:
    assert {path.name for path in trained.model.iterdir()} == {*FILES, "bundle.json"}


def test_the_bundle_obeys_its_schema(trained: Trained, repo: Path) -> None:
    import jsonschema

    schema = json.loads((repo / "cxr" / "bundle.schema.json").read_text())
    jsonschema.validate(trained.json("bundle.json"), schema)


def test_predictions_are_the_served_files_answers_on_the_readers_pixels(trained: Trained, tiny_dataset: Path) -> None:
    engine = Engine(trained.model / "model.tflite")
    limits = Limits.from_bundle(read_bundle(trained.model))
    rows = predictions(trained)
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows) and len(rows) == 10
    for row in rows[::4]:
        film = read_film((tiny_dataset / row["file"]).read_bytes())
        output = engine.run(film.pixels)
        verdict = judge(output.probability, output.ood_distance, film.saturation, limits)
        assert float(row["probability"]) == pytest.approx(output.probability, abs=1e-5)
        assert float(row["ood_distance"]) == pytest.approx(output.ood_distance, rel=1e-4)
        assert row["status"] == verdict.status and row["label"] == Path(row["file"]).parent.name


def test_every_figure_can_be_recomputed_from_the_predictions(trained: Trained) -> None:
    from cxr.patients import patient_of

    rows, bundle = predictions(trained), trained.json("bundle.json")
    table = scores.evaluate(
        np.array([CLASSES.index(row["label"]) for row in rows]),
        np.array([float(row["probability"]) for row in rows]),
        [row["status"] for row in rows],
        [patient_of(row["file"]) for row in rows],
        bundle["threshold"],
        bundle["conformal"]["quantile"],
    )
    published = trained.json("metrics.json")["test"]
    assert published["at_threshold"]["confusion"] == table["at_threshold"]["confusion"]
    assert published["status_counts"] == table["status_counts"]
    for name in ("auroc", "auprc", "brier", "ece"):
        assert published[name]["value"] == pytest.approx(table[name]["value"], abs=1e-5)


def test_metrics_have_the_keys_that_the_gate_reads(trained: Trained) -> None:
    metrics = trained.json("metrics.json")
    assert {"test", "tune", "calibrate", "parity", "reference", "champion", "seconds"} <= set(metrics)
    assert metrics["champion"] is None
    assert {"value", "low", "high"} <= set(metrics["test"]["at_threshold"]["sensitivity"])
    assert len(metrics["reference"]["probability_histogram"]["edges"]) == 11
    assert sum(metrics["reference"]["probability_histogram"]["counts"]) == metrics["reference"]["n"] == 10
    assert sum(metrics["reference"]["status_shares"].values()) == pytest.approx(1.0)


def test_few_tune_films_cannot_prove_int8_so_float16_is_served(trained: Trained) -> None:
    parity = trained.json("metrics.json")["parity"]
    assert parity["precision"] == trained.json("bundle.json")["precision"] == "float16"
    assert "fewer than 200 tune films" in parity["rejected"]["int8"]
    assert parity["keras_tflite_max_abs"] < 0.02


def test_the_log_lines_are_what_the_metric_definitions_look_for(trained: Trained) -> None:
    for definition in METRIC_DEFINITIONS:
        found = re.findall(definition["Regex"], trained.log)
        assert found, definition["Name"]
        assert len(definition["Regex"]) <= 500 and len(definition["Name"]) <= 255
    assert len(re.findall(METRIC_DEFINITIONS[0]["Regex"], trained.log)) == 6 + 1


def test_risk_and_coverage_of_the_report_are_in_the_metrics(trained: Trained) -> None:
    curve, test = (trained.json("metrics.json")[name] for name in ("risk_coverage", "test"))
    assert len(curve["coverage"]) == len(curve["risk"]) == test["n"] and curve["coverage"][-1] == 1.0
    assert curve["risk"][-1] == pytest.approx(1 - test["at_threshold"]["accuracy"]["value"])


def test_the_cost_of_every_phase_is_in_the_metrics(trained: Trained) -> None:
    metrics = trained.json("metrics.json")
    films = 48 * 224 * 224 / 2**20
    assert films + 100 < metrics["peak_memory_mib"] < 8192, "TensorFlow and the films at least, MiB and not KiB"
    seconds, history = metrics["seconds"], metrics["history"]
    assert {"read", "features", "head", "fine_tune", "export", "evaluate", "total"} <= set(seconds)
    assert all(seconds[phase] >= sum(epoch["seconds"] for epoch in history[phase]) - 0.01 for phase in history)
    assert seconds["total"] >= sum(spent for name, spent in seconds.items() if name != "total") - 0.1


def test_the_phases_are_told_apart_in_the_metrics(trained: Trained) -> None:
    history = trained.json("metrics.json")["history"]
    assert {name: len(epochs) for name, epochs in history.items()} == {"head": 6, "fine_tune": 1}
    assert trained.json("bundle.json")["fine_tune_blocks"] == 1


def test_report_and_card_repeat_the_numbers_and_the_caveats(trained: Trained) -> None:
    page, card = ((trained.model / name).read_text() for name in ("report.html", "model_card.md"))
    auroc = f"{trained.json('metrics.json')['test']['auroc']['value']:.3f}"
    for text in (page, card):
        assert auroc in text and "0.54" in text and "random (smoke test)" in text


def test_the_report_needs_no_other_file(trained: Trained) -> None:
    links: list[str] = []

    class Page(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(value or "" for name, value in attrs if name in ("src", "href", "xlink:href"))

    Page().feed((trained.model / "report.html").read_text())
    assert links and all(link.startswith(("data:", "#")) for link in links)


def test_the_toolkit_saw_a_success(trained: Trained) -> None:
    assert not (trained.base / "output" / "failure").exists()
    assert (trained.base / "output" / "data" / "dataset_report.json").is_file()
    assert (trained.base / "checkpoints" / "keras" / "state.npz").is_file()


def test_a_hospital_recalibrates_without_retraining(trained: Trained, tmp_path: Path) -> None:
    from local_aws.synthetic import film
    from training_job import recalibrate

    rng = np.random.default_rng(11)
    for label in CLASSES:
        (tmp_path / "ours" / label).mkdir(parents=True)
        for number in range(9):
            film(label, rng, (240, 200)).save(tmp_path / "ours" / label / f"{label}{number}.png")
    output = tmp_path / "new"
    arguments = ["--bundle", str(trained.model), "--data", str(tmp_path / "ours"), "--output", str(output)]
    assert recalibrate.main([*arguments, "--alpha", "0.3"]) == 0
    old, new = read_bundle(trained.model), read_bundle(output, ("model.tflite", "golden.npz"))
    Engine(output / "model.tflite").check_golden(output / "golden.npz")
    assert new.name == "tiny-recalibrated" and new.conformal["alpha"] == 0.3
    assert old.calibration and new.calibration and old.calibration["prevalence"] == new.calibration["prevalence"] == 0.5
    assert new.calibration["slope"] == pytest.approx(old.calibration["slope"]), "nine patients move the offset alone"
    assert new.calibration["offset"] != old.calibration["offset"] and new.model_sha256 != old.model_sha256
    cards = [
        json.loads(zipfile.ZipFile(folder / "model.tflite").read("card.json")) for folder in (trained.model, output)
    ]
    assert cards[0].keys() == cards[1].keys()
    assert all(cards[0][name] == cards[1][name] for name in ("input", "intended_use"))
    assert (cards[1]["name"], cards[1]["conformal"]["alpha"]) == ("tiny-recalibrated", 0.3)
    page = (output / "recalibration.html").read_text()
    assert "before" in page and "after" in page
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["before"]["auroc"]["value"] == pytest.approx(metrics["test"]["auroc"]["value"])
    with pytest.raises(SystemExit):
        recalibrate.main(arguments)


def test_the_champion_is_scored_on_the_same_test_films(trained: Trained, tiny_dataset: Path) -> None:
    from training_job import champion
    from training_job.dataset import read_dataset
    from training_job.scoring import scored
    from training_job.stop import Stop

    rows = predictions(trained)
    probabilities, distances = (
        np.array([float(row[name]) for row in rows]) for name in ("probability", "ood_distance")
    )
    films = read_dataset(tiny_dataset, 224, Stop()).test
    limits = Limits.from_bundle(read_bundle(trained.model))
    ours = scored(probabilities, distances, films.saturations, limits)
    comparison = champion.compare(champion.open_champion(trained.model), films, ours, limits.threshold, Stop())
    assert comparison["bundle_name"] == "tiny"
    assert comparison["noninferiority"]["delta_auroc"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert comparison["test"]["at_threshold"] == trained.json("metrics.json")["test"]["at_threshold"]


@pytest.mark.parametrize(("called", "beyond"), [("PNEUMONIA", False), ("NORMAL", True)])
def test_the_documented_ten_lines_run_the_model_with_litert_alone(
    trained: Trained, tiny_dataset: Path, repo: Path, tmp_path: Path, called: str, beyond: bool
) -> None:
    """In a process that cannot import TensorFlow; threshold and limit are set on this and that side of a film."""
    code = re.search(r"```python\n(.*?)```", (repo / "docs" / "edge.md").read_text(), re.S)
    assert code, "docs/edge.md has no python block"
    assert len([line for line in code.group(1).splitlines() if line.strip()]) <= 10
    row = predictions(trained)[0]
    probability, distance = float(row["probability"]), float(row["ood_distance"])
    with zipfile.ZipFile(trained.model / "model.tflite") as tail:
        card, begins = json.loads(tail.read("card.json")), tail.filelist[0].header_offset
    card["threshold"] = probability + (-1e-4 if called == "PNEUMONIA" else 1e-4)
    card["ood_limit"] = distance * (0.9 if beyond else 1.1)
    bare = (trained.model / "model.tflite").read_bytes()[:begins]
    (tmp_path / "model.tflite").write_bytes(export.with_card(bare, card))
    blocked = "import sys\nfor name in ('tensorflow', 'keras', 'cxr', 'training_job'): sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + code.group(1), str(tiny_dataset / row["file"])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    warning = "do not use: unlike the training films" if beyond else ""
    assert done.stdout.strip() == f"{called} {probability:.2f} {warning}".strip()
