"""From a trained network to the one file that serves it, chosen by what it does to the tune films.

Rule: every limit in the bundle is computed on the outputs of the deployed precision. Where features on disk are those
that the file computes, bit by bit, only the part behind the cut is converted and run on them; the whole file is then
held against these numbers on a sample, and refused if they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.special import expit

from cxr.engine import Engine
from cxr.hyperparameters import Hyperparameters
from cxr.labels import CLASSES
from cxr.verdict import Limits, judge
from training_job import calibrate, export, network, scores
from training_job.console import progress, say
from training_job.dataset import Dataset
from training_job.features import Features
from training_job.litert import Signature, cores
from training_job.stop import Stop

if TYPE_CHECKING:
    from training_job.learning import Learned

# int8 is deployed only while it costs less than this on the tune films.
MAX_AUROC_DROP, MAX_LABEL_FLIPS, MAX_STATUS_FLIPS = 0.002, 0.005, 0.005
# float16 should cost nothing; where features move less than its 11 bits (flatten, in [0, 1]) float32 is deployed. The
# promotion gate's own bounds; a single film may flip in any case.
MAX_FLOAT16_AUROC_DROP, MAX_FLOAT16_FLIPS = 0.005, 0.02
# One flip in fewer films is already more than MAX_LABEL_FLIPS: int8 could never be shown to be harmless.
MIN_TUNE_FILMS = 200
# Enough for mean and shrunk covariance in 512 dimensions when the films themselves must be run again.
COVARIANCE_FILMS = 2000
# Below, the interpolated 99th percentile is hardly more than the largest of them (30 films: 3.5 % of fresh ones lie
# beyond it, 400: 1.2 %, by simulation).
OOD_FILMS = 100
SAMPLE = 8
# Between two kernels' roundings: a step of an int8 activation here and there.
SAMPLE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Raw:
    """Outputs before calibration: logits float64 [n], embeddings float32 [n, 512]."""

    logits: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True)
class Scored:
    """What the served file says about films: probabilities, distances float64 [n], statuses."""

    probabilities: np.ndarray
    distances: np.ndarray
    statuses: list[str]


@dataclass(frozen=True)
class Calibration:
    """All numbers of one precision; `limits` is cxr.verdict's view of them."""

    temperature: float
    mean: np.ndarray
    whitening: np.ndarray
    limits: Limits
    counts: dict[str, int]
    n_ood: int

    def apply(self, raw: Raw, saturations: np.ndarray) -> Scored:
        """The served graph's arithmetic on raw outputs."""
        return scored(
            expit(raw.logits / self.temperature),
            calibrate.distances(raw.embeddings, self.mean, self.whitening),
            saturations,
            self.limits,
        )


def scored(probabilities: np.ndarray, distances: np.ndarray, saturations: np.ndarray, limits: Limits) -> Scored:
    statuses: list[str] = [
        judge(float(p), float(d), float(s), limits).status
        for p, d, s in zip(probabilities, distances, saturations, strict=True)
    ]
    return Scored(np.asarray(probabilities, np.float64), np.asarray(distances, np.float64), statuses)


def run_raw(model: bytes, items: Features, label: str, stop: Stop, rows: np.ndarray | None = None) -> Raw:
    """Logits and embeddings of films (uint8 [n, s, s]) or of cached features, by a converted probe."""
    signature = Signature(model)
    picked = np.arange(len(items)) if rows is None else rows
    logits, embeddings = np.empty(len(picked)), np.empty((len(picked), 512), np.float32)
    for position, row in enumerate(progress(picked, label, total=len(picked))):
        stop.check()
        item = items[row]
        outputs = signature(item[..., None] if item.dtype == np.uint8 else item)
        logits[position], embeddings[position] = outputs["logit"].item(), outputs["embedding"][0]
    return Raw(logits, embeddings)


def calibration(raw: dict[str, Raw], dataset: Dataset, settings: Hyperparameters) -> Calibration:
    """Every limit, from the raw outputs on the films of the three buckets."""
    labels = {name: dataset.train.labels[rows] for name, rows in dataset.rows.items()}
    temperature = calibrate.temperature(raw["tune"].logits, labels["tune"])
    cut = calibrate.threshold(expit(raw["tune"].logits / temperature), labels["tune"], settings.sensitivity_floor)
    mean, whitening = calibrate.whitening(raw["train"].embeddings)
    probabilities = expit(raw["calibrate"].logits / temperature)
    films = dataset.bucket("calibrate")
    single = calibrate.one_per_patient(films.patients, films.labels, films.files)
    of_class = {name: single[films.labels[single] == index] for index, name in enumerate(CLASSES)}
    chance = {"NORMAL": 1 - probabilities, "PNEUMONIA": probabilities}
    quantiles = {name: calibrate.conformal_quantile(chance[name][of_class[name]], settings.alpha) for name in CLASSES}
    distances = calibrate.distances(raw["calibrate"].embeddings, mean, whitening)
    limits = Limits(
        threshold=cut,
        quantile_normal=quantiles["NORMAL"],
        quantile_pneumonia=quantiles["PNEUMONIA"],
        alpha=settings.alpha,
        ood_limit=calibrate.ood_limit(distances),
    )
    counts: dict[str, int] = {name: len(rows) for name, rows in of_class.items()}
    return Calibration(temperature, mean, whitening, limits, counts, len(distances))


def shortages(limits: Limits, patients: dict[str, int], n_ood: int) -> list[str]:
    """What too few films cost, in words. patients: behind each class's quantile; n_ood: films behind the limit."""
    notes = []
    for name, quantile in quantiles_of(limits).items():
        if quantile is None:
            notes.append(
                f"{name}: {patients[name]} calibration patients are too few for alpha {limits.alpha} (needs "
                f"{calibrate.patients_needed(limits.alpha)}); the class is never excluded, so the other class is never "
                "answered automatically"
            )
    if n_ood < OOD_FILMS:
        notes.append(
            f"the distance limit comes from {n_ood} films: of films like them, more than 1 % may be turned away as out "
            f"of distribution (give {OOD_FILMS} or more)"
        )
    return notes


def quantiles_of(limits: Limits) -> dict[str, float | None]:
    return {"NORMAL": limits.quantile_normal, "PNEUMONIA": limits.quantile_pneumonia}


def score_films(
    engine: Engine, pixels: np.ndarray, saturations: np.ndarray, limits: Limits, label: str, stop: Stop
) -> Scored:
    """The served file on films, one at a time, as the Lambda will run it."""
    probabilities, distances = np.empty(len(pixels)), np.empty(len(pixels))
    for row, film in enumerate(progress(pixels, label, total=len(pixels))):
        stop.check()
        output = engine.run(film)
        probabilities[row], distances[row] = output.probability, output.ood_distance
    return scored(probabilities, distances, saturations, limits)


@dataclass(frozen=True)
class Served:
    """The chosen file and what was measured on the way."""

    model: bytes
    precision: str
    calibration: Calibration
    raw: dict[str, Raw]
    parity: dict[str, Any]


class Int8Refused(Exception):
    """int8 changes too many answers of the tune films, and the head was trained on int8 features."""

    def __init__(self, parity: dict[str, Any]) -> None:
        super().__init__(f"int8 refused: {parity}")
        self.parity = parity


def why_not_int8(dataset: Dataset, settings: Hyperparameters) -> str | None:
    """Why int8 need not be tried; None when it is to be tried."""
    if settings.precision == "float16":
        return "precision=float16 was asked for"
    if len(dataset.rows["tune"]) < MIN_TUNE_FILMS:
        return f"fewer than {MIN_TUNE_FILMS} tune films cannot show that at most 0.5 % of answers flip"
    return None


def why_no_int8_features(settings: Hyperparameters) -> str | None:
    """Why the head should not learn from int8 features though int8 may be served; None when it may."""
    if network.START_OF_FINE_TUNING.get(settings.fine_tune_blocks) == "film":
        return f"with fine_tune_blocks={settings.fine_tune_blocks} the network learns from films, in float32"
    return None


class Exporter:
    """Converts a trained network to the smallest precision that the tune films allow and `rejected` does not name."""

    def __init__(
        self, learned: Learned, dataset: Dataset, settings: Hyperparameters, stop: Stop, rejected: dict[str, Any]
    ) -> None:
        self._learned, self._net = learned, learned.network
        self._dataset, self._settings, self._stop = dataset, settings, stop
        self._rejected = dict(rejected)

    def choose(self) -> Served:
        """Raises Int8Refused; BrokenExport when the file does not answer as what was calibrated."""
        reference = self._float_reference()
        rejected = self._rejected
        for precision in ("int8", "float16", "float32"):
            if precision in rejected:
                continue
            raw = self._measure(precision)
            result = calibration(raw, self._dataset, self._settings)
            parity = self._parity(raw["tune"], reference, result, precision)
            if not self._acceptable(parity):
                if (precision, self._learned.engine) == ("int8", "int8"):
                    raise Int8Refused(parity)
                say(f"{precision} refused: {parity}")
                rejected[precision] = parity
                continue
            graph = network.served_graph(self._net, result.temperature, result.mean, result.whitening)
            model = export.to_tflite(graph, precision)
            self._verify(model, raw["tune"], result)
            return Served(model, precision, result, raw, {**parity, "rejected": rejected})
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
        return raw

    def _stands_for(self, precision: str, bucket: str) -> bool:
        """Whether the cached features give what the deployed file would.

        Those of the int8 file do where they are kept as they were computed. Others do for mean and covariance of the
        many train films where float16 rounding does not move these; temperature, threshold, quantiles and parity come
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

    def _parity(self, raw: Raw, reference: Raw, result: Calibration, precision: str) -> dict[str, Any]:
        tune = self._dataset.bucket("tune")
        ours, theirs = result.apply(raw, tune.saturations), result.apply(reference, tune.saturations)
        drop = scores.auroc(tune.labels, theirs.probabilities) - scores.auroc(tune.labels, ours.probabilities)
        flips = (ours.probabilities >= result.limits.threshold) != (theirs.probabilities >= result.limits.threshold)
        statuses = np.asarray(ours.statuses) != np.asarray(theirs.statuses)
        return {
            "keras_tflite_max_abs": float(np.abs(ours.probabilities - theirs.probabilities).max()),
            "auroc_drop": float(drop) if np.isfinite(drop) else 0.0,
            "label_flips": float(flips.mean()),
            "status_flips": float(statuses.mean()),
            "n": len(tune),
            "precision": precision,
        }

    @staticmethod
    def _acceptable(parity: dict[str, Any]) -> bool:
        drop, labels, statuses = (parity[name] for name in ("auroc_drop", "label_flips", "status_flips"))
        if parity["precision"] == "int8":
            return drop <= MAX_AUROC_DROP and labels <= MAX_LABEL_FLIPS and statuses <= MAX_STATUS_FLIPS
        if parity["precision"] == "float16":
            flips = max(MAX_FLOAT16_FLIPS, 1 / parity["n"])
            return drop <= MAX_FLOAT16_AUROC_DROP and labels <= flips and statuses <= flips
        return True

    def _verify(self, model: bytes, raw: Raw, result: Calibration) -> None:
        """The whole file on a sample of tune films against the numbers that the limits were computed from."""
        rows = self._dataset.rows["tune"]
        sample = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
        films = self._dataset.train.take(rows[sample])
        engine = Engine(model, threads=cores())
        limits = result.limits
        whole = score_films(engine, films.pixels, films.saturations, limits, "sample by the whole file", self._stop)
        expected = result.apply(Raw(raw.logits[sample], raw.embeddings[sample]), films.saturations)
        gap = float(np.abs(whole.probabilities - expected.probabilities).max())
        stretch = float(np.abs(whole.distances / np.maximum(expected.distances, 1e-6) - 1).max())
        if not (gap <= SAMPLE_TOLERANCE and stretch <= SAMPLE_TOLERANCE):
            remedy = "mixed_precision=false" if self._learned.engine == "keras" else "feature_engine=keras"
            raise export.BrokenExport(
                f"the served file differs from what was calibrated: probability by {gap:.4f}, distance by "
                f"{stretch:.2%}, limit {SAMPLE_TOLERANCE}; train again with {remedy}"
            )
