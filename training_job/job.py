"""One training job from channels to bundle, in the only honest order.

Data before the network, tune and calibrate before the test split, which is opened once, at the end, by the file that
will serve.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cxr.engine import Engine
from cxr.metric_definitions import FINAL
from training_job import champion, end_to_end, export, files, memory, package, pages, precision, report, validation
from training_job.console import say
from training_job.context import Context
from training_job.dataset import Dataset, read_dataset, summary
from training_job.devices import Devices
from training_job.evaluation import evaluate
from training_job.facts import Facts
from training_job.learning import Learned, learn
from training_job.litert import cores
from training_job.served_graph import served_graph
from training_job.serving import Exporter, Served
from training_job.weights import weights_facts, weights_file

LEARNERS = {"gap": learn, "flatten": learn, "end_to_end": end_to_end.learn}
"""{head: how it is trained}: (context, dataset, weights file, devices, feature engine) -> Learned."""


def run(context: Context) -> dict[str, Any]:
    """Write the bundle into the container's model folder; the metrics.

    Raises BadChannel, BadDataset, BadFilmList, BadWeights, BundleError and EngineError (of the champion), NoGpu,
    Diverged, BrokenExport, Stopped; OSError of a full disk.
    """
    container, settings, clock = context.container, context.settings, context.clock
    devices = Devices.find(settings)
    weights = weights_file(context)
    folder = container.channel("champion")
    served_now = champion.open_champion(folder) if folder else None
    with clock.stage("read"):
        dataset = _read(context)
    learned, served = _learn_and_export(context, dataset, weights, devices)
    facts = Facts(
        name=container.job_name(),
        settings=settings,
        weights=weights_facts(settings.weights, weights, learned.network.weights_sha256),
        precision=served.precision,
        calibration=served.calibration,
        counts=dataset.counts(),
        digest=dataset.digest,
    )
    model = export.with_card(served.model, package.card(facts.name, settings.side, served.calibration.limits))
    engine = Engine(model, threads=cores())
    with clock.stage("evaluate"):
        evaluation = evaluate(engine, dataset, served, learned.histories, served_now, context.stop)
    page = report.render(facts, evaluation, dataset.test, lambda film: engine.run(film).heatmap)
    metrics = {**evaluation.metrics, "seconds": clock.total(), "peak_memory_mib": memory.peak_mib()}
    contents: dict[str, bytes | str] = {
        "model.tflite": model,
        "golden.npz": package.golden(engine),
        "predictions.csv": package.predictions(dataset.test, evaluation.test),
        "metrics.json": package.json_text(metrics),
        "report.html": page,
        "model_card.md": pages.render("model_card.md", facts=facts, metrics=metrics),
    }
    found = served.calibration
    graph = served_graph(learned.network, found.line, found.mean, found.whitening)
    package.write(container.model, graph, contents, metrics={"test": metrics["test"]}, **facts.manifest_fields())
    _announce(metrics, container.model)
    return metrics


def _read(context: Context) -> Dataset:
    """The films, and output/data/dataset_report.json of them."""
    dataset = read_dataset(context.container.dataset(), context.settings.side, context.stop)
    say(summary(dataset))
    found = validation.validate(dataset)
    say(validation.describe(found))
    files.write(context.container.output / "data" / "dataset_report.json", package.json_text(found))
    return dataset


def _learn_and_export(
    context: Context, dataset: Dataset, weights: Path | None, devices: Devices
) -> tuple[Learned, Served]:
    """A head trained on int8 features is served in int8 or not at all: refused, it is trained again in float."""
    settings = context.settings
    reason = precision.why_not_int8(len(dataset.rows["tune"]), settings)
    rejected: dict[str, Any] = {"int8": reason} if reason else {}
    reason = reason or precision.why_no_int8_features(settings)
    engine = devices.feature_engine(reason)
    if settings.feature_engine == "int8" and reason:
        say(f"feature_engine=int8 is not followed: {reason}")

    def attempt(engine: str, rejected: dict[str, Any]) -> tuple[Learned, Served]:
        """Train on features by `engine` and export. Raises Int8Refused, which a restarted job remembers."""
        learned = LEARNERS[settings.head](context, dataset, weights, devices, engine)
        with context.clock.stage("export"):
            try:
                return learned, Exporter(context, dataset, learned, rejected).choose()
            except precision.Int8Refused as refused:
                learned.checkpoints.refuse(refused.parity)
                raise

    try:
        return attempt(engine, rejected)
    except precision.Int8Refused as refused:
        say(f"{refused}; training on float32 features")
        return attempt("keras", {"int8": refused.parity})


def _announce(metrics: dict[str, Any], folder: Path) -> None:
    """The lines of the log by which SageMaker knows the figures, and what is to be told of."""
    test = metrics["test"]
    figures = {**test, **test["at_threshold"]}
    for name in FINAL:
        value = figures[name]["value"]
        say(f"test:{name}={float('nan') if value is None else value:.4f}")
    for note in metrics["notes"]:
        say(f"note: {note}")
    say(f"answered {test['coverage']['ok']:.1%} of the test films; bundle in {folder}")
