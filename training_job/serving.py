"""From a trained network to the one file that serves it, chosen by what it does to the tune films.

Every limit in the bundle is computed on the outputs of the deployed precision. Where features on disk are those that
the file computes, bit by bit, only the part behind the cut is converted and run on them; the whole file is then held
against these numbers on a sample, and refused if they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from cxr.engine import Engine
from training_job import export, stress
from training_job.console import progress, say
from training_job.context import Context
from training_job.dataset import Dataset
from training_job.features import Features
from training_job.learning import Learned
from training_job.limits import STRESSED_COPIES, Calibration, Raw, calibrated, stressed
from training_job.litert import Signature, cores
from training_job.precision import Int8Refused, acceptable, parity
from training_job.scoring import score_films
from training_job.served_graph import served_graph
from training_job.stop import Stop

# Enough for mean and shrunk covariance in 512 dimensions when the films themselves must be run again.
COVARIANCE_FILMS = 2000
SAMPLE = 8
# Between two kernels' roundings: a step of an int8 activation here and there.
SAMPLE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Served:
    """The chosen file and what was measured on the way; raw: per bucket."""

    model: bytes
    precision: str
    calibration: Calibration
    raw: dict[str, Raw]
    parity: dict[str, Any]


def run_raw(model: bytes, items: Features, label: str, stop: Stop, rows: np.ndarray | None = None) -> Raw:
    """Logits and embeddings of films (uint8 [n, s, s]) or of cached features, by a converted probe. Raises Stopped."""
    signature = Signature(model)
    picked = np.arange(len(items)) if rows is None else rows
    logits, embeddings = np.empty(len(picked)), np.empty((len(picked), 512), np.float32)
    for position, row in enumerate(progress(picked, label, total=len(picked))):
        stop.check()
        item = items[row]
        outputs = signature(item[..., None] if item.dtype == np.uint8 else item)
        logits[position], embeddings[position] = outputs["logit"].item(), outputs["embedding"][0]
    return Raw(logits, embeddings)


class Exporter:
    """Converts a trained network to the smallest precision that the tune films allow and `rejected` does not name."""

    def __init__(self, context: Context, dataset: Dataset, learned: Learned, rejected: dict[str, Any]) -> None:
        self._dataset, self._settings, self._stop = dataset, context.settings, context.stop
        self._learned, self._net = learned, learned.network
        self._rejected = dict(rejected)

    def choose(self) -> Served:
        """Raises Int8Refused; BrokenExport when the file does not answer as what was calibrated."""
        reference, tune = self._float_reference(), self._dataset.bucket("tune")
        rejected = self._rejected
        for precision in ("int8", "float16", "float32"):
            if precision in rejected:
                continue
            raw = self._measure(precision)
            result = calibrated(raw, self._dataset, self._settings)
            ours, float32 = (result.apply(one, tune.saturations) for one in (raw["tune"], reference))
            found = parity(precision, tune.labels, ours, float32, result.limits.threshold)
            if not acceptable(found):
                if (precision, self._learned.engine) == ("int8", "int8"):
                    raise Int8Refused(found)
                say(f"{precision} refused: {found}")
                rejected[precision] = found
                continue
            graph = served_graph(self._net, result.line, result.mean, result.whitening)
            model = export.to_tflite(graph, precision)
            self._verify(model, raw["tune"], result)
            return Served(model, precision, result, raw, {**found, "rejected": rejected})
        raise AssertionError("unreachable: float32 is never refused")

    def _measure(self, precision: str) -> dict[str, Raw]:
        """Raw outputs per bucket by a probe of this precision, on whole films or on features that stand for them."""
        probes: dict[str, bytes] = {}
        raw = {}
        for name, picked in self._dataset.rows.items():
            cut, items = "film", cast(Features, self._dataset.train.pixels)
            if self._stands_for(precision, name):
                cut, items = self._learned.start, self._learned.cached
            elif name == "train":
                picked = np.sort(np.random.default_rng(0).permutation(picked)[:COVARIANCE_FILMS])
            if cut not in probes:
                probes[cut] = export.to_tflite(self._probe(cut), precision)
            raw[name] = run_raw(probes[cut], items, f"{precision} outputs of {name}", self._stop, picked)
        probe = probes.get("film") or export.to_tflite(self._probe("film"), precision)
        for name, copies in STRESSED_COPIES.items():
            films = self._dataset.bucket(name)
            varied = stress.copies(films.pixels, films.digests, copies)
            raw[stressed(name)] = run_raw(probe, varied, f"{precision} outputs of varied {name} films", self._stop)
        return raw

    def _stands_for(self, precision: str, bucket: str) -> bool:
        """Whether the cached features give what the deployed file would.

        Those of the int8 file do where they are kept as they were computed. Others do for mean and covariance of the
        many train films where float16 rounding does not move these; calibration, threshold, quantiles and parity come
        from films through the whole file.
        """
        engine, kept_exactly = self._learned.engine, self._learned.cached.dtype == np.float32
        if self._learned.start == "film" or (engine, precision) == ("keras", "int8"):
            return False
        bears_float16 = precision == "float32" or self._net.head.map_type == "float16"
        return (engine == precision and kept_exactly) or (bucket == "train" and bears_float16)

    def _probe(self, cut: str) -> Any:
        return self._net.between(cut, logit=self._net.logit, embedding=self._net.points["embedding"])

    def _float_reference(self) -> Raw:
        """Keras float32 on the tune films."""
        cut, items = "film", cast(Features, self._dataset.train.pixels[..., None])
        if self._learned.engine == "keras":
            cut, items = self._learned.start, self._learned.cached
        model, rows = self._probe(cut), self._dataset.rows["tune"]
        logits, embeddings = [], []
        for at in progress(range(0, len(rows), 16), "float32 outputs of tune", total=len(rows), unit=16):
            self._stop.check()
            outputs = model.predict_on_batch(np.asarray(items[rows[at : at + 16]], np.float32))
            logits.append(outputs["logit"][:, 0])
            embeddings.append(outputs["embedding"])
        return Raw(np.concatenate(logits).astype(np.float64), np.concatenate(embeddings))

    def _verify(self, model: bytes, raw: Raw, result: Calibration) -> None:
        """The whole file on a sample of tune films against the numbers that the limits were computed from."""
        rows = self._dataset.rows["tune"]
        sample = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
        films = self._dataset.train.take(rows[sample])
        whole = score_films(
            Engine(model, threads=cores()), films, result.limits, "sample by the whole file", self._stop
        )
        expected = result.apply(Raw(raw.logits[sample], raw.embeddings[sample]), films.saturations)
        gap = float(np.abs(whole.probabilities - expected.probabilities).max())
        stretch = float(np.abs(whole.distances / np.maximum(expected.distances, 1e-6) - 1).max())
        if not (gap <= SAMPLE_TOLERANCE and stretch <= SAMPLE_TOLERANCE):
            remedy = "mixed_precision=false" if self._learned.engine == "keras" else "feature_engine=keras"
            raise export.BrokenExport(
                f"the served file differs from what was calibrated: probability by {gap:.4f}, distance by "
                f"{stretch:.2%}, limit {SAMPLE_TOLERANCE}; train again with {remedy}"
            )
