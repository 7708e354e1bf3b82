"""The last step: open the test split once, write the bundle.

Rule: report, model card, bundle and log repeat the numbers of metrics.json; none of them computes its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr.engine import Engine
from training_job import calibrate, champion, export, files, memory, package, scores
from training_job.console import say
from training_job.dataset import Dataset, Films
from training_job.litert import cores
from training_job.metric_definitions import FINAL
from training_job.network import Network, served_graph
from training_job.serving import Scored, Served, quantiles_of, score_films, shortages

if TYPE_CHECKING:
    from training_job.job import Job

HISTOGRAM_EDGES = np.linspace(0.0, 1.0, 11)


class Results:
    """Everything that is known after export."""

    def __init__(
        self,
        job: Job,
        dataset: Dataset,
        network: Network,
        served: Served,
        histories: dict[str, list[dict[str, float]]],
        weights: dict[str, Any],
    ) -> None:
        self.job, self.dataset, self.network, self.served = job, dataset, network, served
        self.histories, self.weights = histories, weights
        self.limits = served.calibration.limits

    def write(self) -> dict[str, Any]:
        """Write all files of the bundle into the model folder, bundle.json last; return metrics."""
        folder = self.job.container.model
        model = export.with_card(self.served.model, package.card(self.job.container.job_name(), self.limits))
        engine = Engine(model, threads=cores())
        with self.job.clock.stage("evaluate"):
            test = self.dataset.test
            scored = score_films(engine, test.pixels, test.saturations, self.limits, "test films", self.job.stop)
            metrics = self._metrics(scored)
        files.write(folder / "model.tflite", model)
        self._write_keras(folder)
        files.write(folder / "golden.npz", package.golden(engine, self.dataset.bucket("calibrate").pixels))
        files.write(folder / "predictions.csv", package.predictions(test, scored))
        from training_job import model_card, report

        page = report.render(self, metrics, scored, engine)
        metrics["seconds"], metrics["peak_memory_mib"] = self.job.clock.total(), memory.peak_mib()
        files.write(folder / "metrics.json", package.json_text(metrics))
        files.write(folder / "report.html", page)
        files.write(folder / "model_card.md", model_card.render(self, metrics))
        self._write_manifest(folder, metrics)
        self._announce(metrics)
        return metrics

    def _metrics(self, test: Scored) -> dict[str, Any]:
        calibration = self.served.calibration
        held_out = {}
        for name in ("tune", "calibrate"):
            of_bucket = self.dataset.bucket(name)
            held_out[name] = (of_bucket, calibration.apply(self.served.raw[name], of_bucket.saturations))
        calibrated, scored = held_out["calibrate"]
        folder = self.job.container.channel("champion")
        return {
            "test": self._table(self.dataset.test, test),
            **{name: self._table(*pair) for name, pair in held_out.items()},
            "parity": self.served.parity,
            "reference": {
                "probability_histogram": {
                    "edges": HISTOGRAM_EDGES.round(1).tolist(),
                    "counts": np.histogram(scored.probabilities, HISTOGRAM_EDGES)[0].tolist(),
                },
                "ood_distance": {"mean": float(scored.distances.mean()), "std": float(scored.distances.std())},
                "status_shares": {name: scored.statuses.count(name) / len(calibrated) for name in scores.STATUSES},
                "n": len(calibrated),
            },
            "risk_coverage": scores.risk_coverage(self.dataset.test.labels, test.probabilities, self.limits.threshold),
            "champion": None
            if folder is None
            else champion.compare(folder, self.dataset.test, test, self.limits.threshold, self.job.stop),
            "history": self.histories,
            "notes": self._notes(test),
        }

    def _table(self, split: Films, scored: Scored) -> dict[str, Any]:
        return scores.evaluate(
            split.labels,
            scored.probabilities,
            scored.statuses,
            split.patients,
            self.limits.threshold,
            quantiles_of(self.limits),
        )

    def _notes(self, test: Scored) -> list[str]:
        """What few films and other choices cost, in words."""
        notes = shortages(self.limits, self.served.calibration.counts, self.served.calibration.n_ood)
        if scores.auroc(self.dataset.test.labels, test.probabilities) == 1.0:
            notes.append("AUROC is 1 on these test films: its bootstrap interval cannot show how uncertain that is")
        if calibrate.at_bound(self.served.calibration.temperature):
            notes.append(
                f"the temperature ran to its bound ({self.served.calibration.temperature:.3g}): none fits the "
                "tune films, so their probabilities say little; train longer, or with another head"
            )
        best = {phase: min(epoch["tune"] for epoch in epochs) for phase, epochs in self.histories.items()}
        if best.get("fine_tune", 0.0) > best["head"]:
            notes.append(
                f"the tune loss was {best['head']:.4f} before fine-tuning and is {best['fine_tune']:.4f} after it; "
                "asked for, it was kept: compare with a run without it"
            )
        if len(set(self.dataset.train.labels[self.dataset.rows["tune"]].tolist())) < 2:
            notes.append("tune films of one class only: temperature 1 and threshold 0.5 were not fitted")
        return notes

    def _write_keras(self, folder: Path) -> None:
        calibration = self.served.calibration
        graph = served_graph(self.network, calibration.temperature, calibration.mean, calibration.whitening)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch, files.naming(folder / "model.keras"):
            graph.save(Path(scratch) / "model.keras")
            (Path(scratch) / "model.keras").replace(folder / "model.keras")

    def _write_manifest(self, folder: Path, metrics: dict[str, Any]) -> None:
        calibration, settings = self.served.calibration, self.job.settings
        bundle = package.manifest(
            folder,
            package.FILES,
            name=self.job.container.job_name(),
            head=settings.head,
            weights=self.weights,
            fine_tune_blocks=settings.fine_tune_blocks,
            precision=self.served.precision,
            temperature=calibration.temperature,
            threshold=self.limits.threshold,
            conformal={
                "alpha": self.limits.alpha,
                "quantile": quantiles_of(self.limits),
                "n": calibration.counts,
            },
            ood={"limit": self.limits.ood_limit, "percentile": calibrate.OOD_PERCENTILE, "n": calibration.n_ood},
            low_confidence=self.limits.low_confidence,
            metrics={"test": metrics["test"]},
            dataset={"digest": self.dataset.digest, "counts": self.dataset.counts()},
            seed=settings.seed,
        )
        files.write(folder / "bundle.json", bundle.to_json())

    def _announce(self, metrics: dict[str, Any]) -> None:
        test = metrics["test"]
        figures = {**test, **test["at_threshold"]}
        for name in FINAL:
            value = figures[name]["value"]
            say(f"test:{name}={float('nan') if value is None else value:.4f}")
        for note in metrics["notes"]:
            say(f"note: {note}")
        say(f"answered {test['coverage']['ok']:.1%} of the test films; bundle in {self.job.container.model}")
