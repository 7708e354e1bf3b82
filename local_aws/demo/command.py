"""The whole loop on one machine, offline: every step runs the code and the templates that run in the account.

`python -m local_aws demo` exits non-zero if a step fails and leaves no process behind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.bundle import Bundle, read_bundle
from cxr.labels import CLASSES
from cxr.pointer import PointerStore, Release
from infra.dataset import Target, group, open_dataset, prefix
from infra.dataset import upload as put_films
from infra.errors import Fault
from infra.session import open_session
from infra.settings import airflow_settings
from infra.stacks import deploy
from local_aws.airflow.home import airflow_environment, migrate
from local_aws.demo import answers
from local_aws.demo.inputs import evenly, new_files, resolve_weights
from local_aws.demo.retraining import RetrainingFailed, dag_parameters, retrain
from local_aws.demo.steps import Step, Steps
from local_aws.demo.summary import sentences, summary
from local_aws.deployment import local_config
from local_aws.server import ROOT, LocalAWS
from local_aws.synthetic import write_dataset
from local_aws.terminal import Terminal

DATASET = "demo"
SYNTHETIC_TRAIN, SYNTHETIC_TEST = 800, 200
SYNTHETIC_SIZE, SYNTHETIC_SIDE = (256, 205), 64
"""Pixels of a drawn film, and of the side at which the model looks at it."""
UPLOADS_PER_CLASS = 10
WEIGHTS_KEY = "weights/demo/vgg16_notop.weights.h5"
BUILD = ROOT / "build" / "demo"


def put_dataset(
    s3: Any, bucket: str, arguments: argparse.Namespace, folder: Path, step: Step
) -> dict[str, list[tuple[str, bytes]]]:
    """Upload the chosen dataset, drawn into `folder` if it is the synthetic one.

    Returns the test films (name, content) by class that will be uploaded as new X-rays.
    """
    source = arguments.dataset
    if source == "synthetic":
        step.say("drawing synthetic films")
        step.total(SYNTHETIC_TRAIN + SYNTHETIC_TEST)
        write_dataset(folder, SYNTHETIC_TRAIN, SYNTHETIC_TEST, on_film=step.advance, size=SYNTHETIC_SIZE)
        source = str(folder)
    with open_dataset(source) as opened:
        dataset = opened.limited(arguments.limit) if arguments.limit else opened
        step.total(len(dataset.films))
        counts = put_films(dataset, Target(s3, bucket, DATASET), lambda *_: step.advance())
        step.say(", ".join(f"{split} {label} {n}" for split, of in counts.items() for label, n in of.items()))
        return {
            label: [
                (film.path.rsplit("/", 1)[-1], film.read())
                for film in evenly([f for f in dataset.films if group(f) == ("test", label)], UPLOADS_PER_CLASS)
            ]
            for label in CLASSES
        }


def keep_bundle(s3: Any, release: Release, folder: Path) -> dict[str, Any]:
    """Download the bundle that serves into `folder`, checking every file's sha256; return its manifest."""
    folder.mkdir(parents=True)
    manifest = s3.get_object(Bucket=release.bucket, Key=release.key)["Body"].read()
    (folder / "bundle.json").write_bytes(manifest)
    names = Bundle.from_json(manifest).files
    for name in names:
        s3.download_file(release.bucket, release.beside(name), str(folder / name))
    read_bundle(folder, names)
    return dict(json.loads(manifest))


def keep_results(results: Mapping[str, Any], folder: Path) -> None:
    """Write each result document below `folder`, under its upload's key."""
    for key, result in results.items():
        kept = folder / f"{key}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def demo(arguments: argparse.Namespace, build: Path, steps: Steps) -> dict[str, Any]:
    """Run every step; return the summary. Raises what the failing step raised."""
    started = time.monotonic()
    weights = resolve_weights(arguments.weights)
    if weights.warning:
        steps.say(f"WARNING: {weights.warning}", "bold yellow")
    with LocalAWS(log_dir=build / "logs") as aws:
        s3, weights_uri = aws.client("s3"), ""
        with steps.step("local AWS: stacks from infra/*.yaml") as step:
            config = local_config(aws.endpoint)
            outputs = deploy(open_session(config), config, say=step.say)

        with steps.step(f"dataset {arguments.dataset} -> S3") as step:
            films = put_dataset(s3, outputs["DatasetsBucket"], arguments, build / "dataset", step)
            if weights.file:
                s3.upload_file(str(weights.file), outputs["DatasetsBucket"], WEIGHTS_KEY)
                weights_uri = f"s3://{outputs['DatasetsBucket']}/{WEIGHTS_KEY.rpartition('/')[0]}/"

        side = SYNTHETIC_SIDE if arguments.dataset == "synthetic" else None
        parameters = dag_parameters(prefix(DATASET), weights, weights_uri, arguments.epochs, side)
        with steps.step("Airflow DAG retrain: train, register, gate, promote, smoke test") as step:
            environment = airflow_environment(build / "airflow", aws.environment, airflow_settings(outputs))
            step.say("creating Airflow's metadata database")
            migrate(environment)
            retrain(environment, parameters, build / "logs" / "retrain.log", step)
            serving = PointerStore(s3, outputs["ModelsBucket"]).read()
            if serving is None:
                raise RetrainingFailed(f"the DAG retrain ended well, but no model serves; see {build / 'demo.log'}")
            release = serving.pointer.current
            bundle = keep_bundle(s3, release, build / "bundle")

        with steps.step("new X-rays -> S3 event -> queue -> Lambda -> results") as step:
            found = answers.upload(s3, outputs["UploadsBucket"], new_files(films))
            answers.wait(found, s3, aws.client("sqs"), outputs, step)
            keep_results(found.results, build / "results")

        sagemaker = aws.client("sagemaker")
        told = summary(
            bundle,
            sagemaker.describe_training_job(TrainingJobName=bundle["name"]),
            sagemaker.describe_model_package(ModelPackageName=release.package_arn),
            found,
            parameters,
            time.monotonic() - started,
        )
    (build / "summary.json").write_text(json.dumps(told, indent=2) + "\n")
    steps.detail(found.table())
    for sentence in sentences(told):
        steps.say(sentence)
    return told


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line of the demo."""
    parser = argparse.ArgumentParser(prog="python -m local_aws demo", description="The whole loop offline.")
    parser.add_argument(
        "--dataset",
        default="synthetic",
        help="synthetic (default), a folder or zip in Kaggle's layout, or kaggle (downloads it by kagglehub)",
    )
    parser.add_argument(
        "--weights",
        default="auto",
        help="auto (default: ImageNet, else random with a warning), imagenet, random, or a VGG16 .weights.h5 file",
    )
    parser.add_argument("--limit", type=int, help="at most so many train films and a quarter as many test films")
    parser.add_argument("--build", type=Path, default=BUILD, help="where the bundle, the results and the summary go")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the head (default 20)")
    parser.add_argument("--verbose", action="store_true", help="print what demo.log keeps: every detail and result")
    arguments = parser.parse_args(argv)
    if arguments.limit is not None and arguments.limit < 40:
        parser.error(f"--limit {arguments.limit} is below 40: too few films to hold any out; pass 40 or more")
    return arguments


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 if every upload got its answer, 1 if a step failed, 130 on Ctrl-C."""
    arguments = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    build = arguments.build.resolve()
    for name in ("airflow", "bundle", "dataset", "logs", "results"):
        shutil.rmtree(build / name, ignore_errors=True)
    build.mkdir(parents=True, exist_ok=True)
    with (build / "demo.log").open("w", encoding="utf-8") as log:
        steps = Steps(4, Terminal(), log, arguments.verbose)
        try:
            told = demo(arguments, build, steps)
        except KeyboardInterrupt:
            steps.say("stopped; nothing is left running")
            return 130
        except (RetrainingFailed, RuntimeError, ValueError, Fault) as error:
            steps.say(f"demo failed: {error}", "bold red")
            return 1
        steps.say(f"details: {arguments.build} (demo.log, summary.json, results/, bundle/report.html)")
    return 1 if told["lost"] else 0
