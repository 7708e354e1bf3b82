"""The whole loop on one machine, offline: every step runs the code and the templates that run in the account.

`python -m local_aws demo` exits non-zero if a step fails and leaves no process behind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.bundle import Bundle, read_bundle
from cxr.labels import CLASSES
from infra.dataset import open_dataset
from infra.dataset import upload as put_films
from infra.errors import Fault
from infra.session import open_session
from infra.settings import airflow_settings
from infra.stacks import deploy
from local_aws.airflow.home import ROOT, airflow_environment, migrate
from local_aws.demo.inputs import NewFile, Weights, evenly, new_files, resolve_weights
from local_aws.demo.steps import Step, Steps
from local_aws.demo.summary import Upload, lost, results_table, summary
from local_aws.deployment import local_config
from local_aws.server import LocalAWS
from local_aws.synthetic import write_dataset

DATASET = "demo"
SYNTHETIC_TRAIN, SYNTHETIC_TEST = 320, 80
UPLOADS_PER_CLASS = 10
ANSWER_SECONDS = 180.0
BUILD = ROOT / "build" / "demo"
LOG_LINE = re.compile(r"\[(?P<level>info|warning|error)\s*\] (?P<message>.*?)\s*\[(?P<source>[a-z_]+[.a-zA-Z_]*)\]")
HEADLINE = "headline: "
NOISE = re.compile(
    r"WARNING: All log messages|[IWE]0000 |Preprocessing the config|After preprocessing|INFO: Created Tens"
)

# The floors of the gate that the demo sets below production's, and why: a few hundred films cannot show more.
SMALL_DATA = {
    "min_sensitivity": 0.5,
    "min_specificity": 0.3,
    "min_auroc": 0.6,
    "max_ece": 0.35,
    "alpha": 0.1,
}


class DemoFailed(Exception):
    """A step did not do what it should; the text says which and what to look at."""


def prepare_dataset(choice: str, folder: Path, step: Step) -> str:
    """Write the synthetic films if asked for; return the source to upload (a folder, a zip or `kaggle`)."""
    if choice != "synthetic":
        return choice
    step.say("drawing synthetic films")
    step.total(SYNTHETIC_TRAIN + SYNTHETIC_TEST)
    write_dataset(folder, SYNTHETIC_TRAIN, SYNTHETIC_TEST, on_film=step.advance)
    return str(folder)


def put_dataset(s3: Any, bucket: str, source: str, limit: int | None, step: Step) -> dict[str, list[tuple[str, bytes]]]:
    """Upload the dataset; return the test films (name, content) by class that will be uploaded as new X-rays."""
    step.say(f"reading {source}")
    with open_dataset(source) as opened:
        dataset = opened.limited(limit) if limit else opened
        step.total(len(dataset.films))
        put_films(dataset, s3, bucket, DATASET, progress=lambda *_: step.advance())
        counts = dataset.counts()
        step.say(", ".join(f"{split} {label} {n}" for split, of in counts.items() for label, n in of.items()))
        return {
            label: [
                (film.path.rsplit("/", 1)[-1], film.read())
                for film in evenly([film for film in dataset.films if film.group == ("test", label)], UPLOADS_PER_CLASS)
            ]
            for label in CLASSES
        }


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
    arguments = parser.parse_args(argv)
    if arguments.limit is not None and arguments.limit < 40:
        parser.error(f"--limit {arguments.limit} is below 40: too few films to hold any out; pass 40 or more")
    return arguments


def dag_parameters(weights: Weights, weights_uri: str, epochs: int) -> dict[str, Any]:
    """The form of the `retrain` DAG as the demo fills it in; what differs from production is visible here."""
    return {
        "dataset": f"datasets/{DATASET}/",
        "head": "gap",
        "weights": weights.hyperparameter,
        "weights_uri": weights_uri,
        "epochs": epochs,
        "augment_copies": 0,
        "approval": "automatic",
        "instance_type": "ml.m5.xlarge",
        "require_gpu": False,
        "check_interval": 2,
        **SMALL_DATA,
    }


def run_retrain(environment: Mapping[str, str], parameters: Mapping[str, Any], log: Path, step: Step) -> None:
    """Run the DAG `retrain` to its end, following its log. Raises DemoFailed with the log's tail."""
    command = [sys.executable, "-m", "airflow", "dags", "test", "retrain", "--conf", json.dumps(dict(parameters))]
    with log.open("w") as sink:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                sink.write(line)
                sink.flush()
                told = follow(line)
                if told:
                    step.say(told)
            code = process.wait()
        finally:
            stop_group(process)
    if code:
        raise DemoFailed(f"the DAG retrain failed with exit status {code}; the end of {log}:\n{tail(log)}")


def stop_group(process: subprocess.Popen[str], seconds: float = 10.0) -> None:
    """End a process started in a session of its own, with everything that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def upload_files(s3: Any, bucket: str, files: Sequence[NewFile], step: Step) -> list[Upload]:
    """Put the files into the uploads bucket as a person would; return them with the versions that S3 gave them."""
    step.total(len(files))
    uploads = []
    for file in files:
        answer = s3.put_object(Bucket=bucket, Key=file.key, Body=file.body)
        uploads.append(Upload(file.key, answer["VersionId"], file.truth))
        step.advance()
    return uploads


def read_results(s3: Any, bucket: str, uploads: Sequence[Upload]) -> dict[str, dict[str, Any]]:
    """The result JSON of every upload that has one."""
    results = {}
    for upload in uploads:
        try:
            body = s3.get_object(Bucket=bucket, Key=f"results/{upload.key}.json")["Body"].read()
        except s3.exceptions.NoSuchKey:
            continue
        results[upload.key] = json.loads(body)
    return results


def wait_for_answers(
    s3: Any, sqs: Any, outputs: Mapping[str, str], uploads: Sequence[Upload], step: Step
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Results by upload key and the bodies of dead letters, once every upload has one of them or time is up."""
    step.total(len(uploads))
    deadline = time.monotonic() + ANSWER_SECONDS
    results: dict[str, dict[str, Any]] = {}
    letters: list[str] = []
    while time.monotonic() < deadline:
        before = len(results)
        results = read_results(s3, outputs["ResultsBucket"], uploads)
        step.advance(len(results) - before)
        received = sqs.receive_message(QueueUrl=outputs["UploadsDeadLetterQueueUrl"], MaxNumberOfMessages=10)
        letters += [message["Body"] for message in received.get("Messages", [])]
        if not lost(uploads, results, letters):
            break
        time.sleep(1.0)
    return results, letters


def keep_bundle(s3: Any, bucket: str, pointer: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Download the promoted bundle into `folder`, checking every file's sha256; return its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    key = pointer["bundle"]["key"]
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    (folder / "bundle.json").write_bytes(body)
    names = Bundle.from_json(body).files
    for name in names:
        s3.download_file(bucket, f"{key.rsplit('/', 1)[0]}/{name}", str(folder / name))
    read_bundle(folder, names)
    manifest: dict[str, Any] = json.loads(body)
    return manifest


def follow(line: str) -> str | None:
    """What of a line of Airflow's log a person wants to see: the training job's own lines and what the tasks print."""
    if line.startswith(HEADLINE):
        return line.removeprefix(HEADLINE).strip()
    found = LOG_LINE.search(line)
    if not found:
        return None
    message, source = found["message"].strip(), found["source"]
    if "cxr_pipeline.training" in source and not NOISE.match(message):
        return message
    return message if found["level"] == "error" and "task" in source else None


def demo(arguments: argparse.Namespace, steps: Steps) -> dict[str, Any]:
    """Run every step; return the summary. Raises DemoFailed, or what the failing step raised."""
    started = time.monotonic()
    build: Path = arguments.build.resolve()
    weights = resolve_weights(arguments.weights)
    if weights.warning:
        steps.warn(weights.warning)
    for name in ("airflow", "bundle", "dataset", "logs", "results"):
        shutil.rmtree(build / name, ignore_errors=True)
    (build / "results").mkdir(parents=True)

    with LocalAWS(log_dir=build / "logs") as aws:
        s3 = aws.client("s3")
        with steps.step("local AWS: stacks from infra/*.yaml") as step:
            config = local_config(aws.endpoint)
            outputs = deploy(open_session(config), config, say=step.say)

        with steps.step(f"dataset {arguments.dataset} -> S3") as step:
            source = prepare_dataset(arguments.dataset, build / "dataset", step)
            films = put_dataset(s3, outputs["DatasetsBucket"], source, arguments.limit, step)
            weights_uri = ""
            if weights.file:
                weights_uri = f"s3://{outputs['DatasetsBucket']}/weights/demo/"
                s3.upload_file(str(weights.file), outputs["DatasetsBucket"], "weights/demo/vgg16_notop.weights.h5")

        parameters = dag_parameters(weights, weights_uri, arguments.epochs)
        with steps.step("Airflow DAG retrain: train, register, gate, promote, smoke test") as step:
            environment = airflow_environment(build / "airflow", aws.environment, airflow_settings(outputs))
            step.say("creating Airflow's metadata database")
            migrate(environment)
            run_retrain(environment, parameters, build / "logs" / "retrain.log", step)
            pointer = json.loads(
                s3.get_object(Bucket=outputs["ModelsBucket"], Key="models/current.json")["Body"].read()
            )
            bundle = keep_bundle(s3, outputs["ModelsBucket"], pointer, build / "bundle")

        with steps.step("new X-rays -> uploads bucket") as step:
            uploads = upload_files(s3, outputs["UploadsBucket"], new_files(films), step)

        with steps.step("S3 event -> queue -> Lambda -> results") as step:
            results, letters = wait_for_answers(s3, aws.client("sqs"), outputs, uploads, step)
            for key, result in results.items():
                kept = build / "results" / f"{key}.json"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

        with steps.step("summary from SageMaker, the registry and S3"):
            sagemaker = aws.client("sagemaker")
            told = summary(
                counts=bundle["dataset"]["counts"],
                weights=bundle["weights"]["label"],
                job=sagemaker.describe_training_job(TrainingJobName=bundle["name"]),
                package=sagemaker.describe_model_package(ModelPackageName=pointer["model_package_arn"]),
                bundle=bundle,
                uploads=uploads,
                results=results,
                dead_letters=letters,
                parameters=parameters,
                seconds=time.monotonic() - started,
            )
            (build / "summary.json").write_text(json.dumps(told, indent=2) + "\n")
    steps.console.print(results_table(uploads, results))
    return told


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 if every upload got its answer, 1 if a step failed, 130 on Ctrl-C."""
    arguments = parse(argv)
    steps = Steps(6)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with steps.live():
            told = demo(arguments, steps)
    except KeyboardInterrupt:
        steps.console.print("stopped; nothing is left running", markup=False)
        return 130
    except (DemoFailed, RuntimeError, ValueError, Fault) as error:
        steps.console.print(f"demo failed: {error}", style="bold red", markup=False)
        return 1
    steps.console.print_json(json.dumps(told))
    steps.console.print(f"summary, bundle, results and logs: {arguments.build}", markup=False)
    if told["lost"]:
        steps.console.print(f"{told['lost']} uploads were lost", style="bold red")
        return 1
    return 0
