"""The DAGs run against a local AWS whose training jobs and Lambda are the real programs; one for this whole folder."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cxr.bundle import Bundle
from cxr.pointer import Move, PointerStore, Release

if TYPE_CHECKING:
    from cxr_pipeline.training_request import TrainingRequest

DAGS = Path(__file__).resolve().parents[2] / "dags"
sys.path.insert(0, str(DAGS))  # as Airflow does with its DAGs folder; the repository, where cxr lies, is there already

DATASET = "datasets/small/"
PATIENT = "DoeJane"  # in every film's name, and in no log
# A drawn dataset and a network of random weights meet no hospital's floors: every limit is opened by its parameter.
SMALL = {
    "dataset": DATASET, "weights": "random", "epochs": 2, "side": 64, "dense_units": 8, "alpha": 0.2,
    "augment_copies": 0, "require_gpu": False, "instance_type": "ml.m5.large", "check_interval": 1, "min_films": 3,
    "min_sensitivity": 0, "min_specificity": 0, "min_auroc": 0, "max_ece": 1, "max_parity_auroc_drop": 1,
    "max_parity_label_flips": 1, "max_parity_status_flips": 1, "margin_auroc": -1, "margin_balanced_accuracy": -1,
    "smoke_films": 2,
}  # fmt: skip
# Programs that stand for training images where the branch under test ends before a model matters.
QUICK = "import os; open(os.environ['SAGEMAKER_BASE_DIR'] + '/model/weights', 'w').write('x')"
SLOW = "import time; print('working', flush=True); time.sleep(120)"
FAILING = (
    "import os, pathlib, sys; base = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR']); "
    "(base / 'output' / 'failure').write_text('ValueError: no film'); sys.exit(1)"
)
IMAGES = {name: [sys.executable, "-c", code] for name, code in (("quick", QUICK), ("slow", SLOW), ("failing", FAILING))}


@dataclass(frozen=True)
class Deployed:
    """The local AWS with both stacks, and what the DAGs are told of it."""

    local: Any
    settings: dict[str, str]
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.local.client(service)
        return self.clients[service]

    def image(self, name: str) -> str:
        return self.settings["training_image"].replace("-training", f"-{name}")

    def read(self, bucket: str, key: str) -> Any:
        return json.loads(self.client("s3").get_object(Bucket=self.settings[bucket], Key=key)["Body"].read())

    def text(self, bucket: str, key: str) -> str:
        return self.client("s3").get_object(Bucket=self.settings[bucket], Key=key)["Body"].read().decode()

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.client("s3").put_object(Bucket=self.settings[bucket], Key=key, Body=body)

    def empty(self, bucket: str, prefix: str) -> None:
        """Delete every version below ``prefix``."""
        s3, name = self.client("s3"), self.settings[bucket]
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name, Prefix=prefix):
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                s3.delete_object(Bucket=name, Key=item["Key"], VersionId=item["VersionId"])


@pytest.fixture(scope="package")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The local AWS, deployed; the environment of this process points at it."""
    from infra import stacks
    from infra.session import open_session
    from infra.settings import airflow_settings
    from local_aws.deployment import local_config
    from local_aws.server import LocalAWS

    with contextlib.ExitStack() as undo:
        local = undo.enter_context(LocalAWS(images=IMAGES, log_dir=tmp_path_factory.mktemp("logs"), concurrency=1))
        patch = undo.enter_context(pytest.MonkeyPatch.context())
        for name, value in local.environment.items():
            patch.setenv(name, value)
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        config = local_config(local.endpoint)
        settings = airflow_settings(stacks.deploy(open_session(config), config, say=lambda *_: None))
        patch.setenv("AIRFLOW_VAR_CXR", json.dumps(settings))
        yield Deployed(local, settings)


@pytest.fixture
def job_request(aws: Deployed) -> Callable[..., TrainingRequest]:
    """The request of a training job by image and name; its dataset is of no matter."""
    from cxr_pipeline.retrain_form import FORM
    from cxr_pipeline.settings import Settings
    from cxr_pipeline.training_request import training_request

    def make(image: str, name: str, **params: Any) -> TrainingRequest:
        names = Settings(**{**aws.settings, "training_image": aws.image(image)})
        small = {"instance_type": "ml.m5.large", "volume_gb": 1, "max_runtime_minutes": 5}
        chosen = {**{name: param.value for name, param in FORM.items()}, **small, **params}
        return training_request(name, names, chosen, {"dataset": f"s3://{names.datasets_bucket}/datasets/any/"})

    aws.put("datasets_bucket", "datasets/any/file", b"x")
    return make


@pytest.fixture(scope="session")
def made_bundle() -> Callable[..., Bundle]:
    """The manifest of a bundle of some files, sound in all it says."""

    def make(files: dict[str, bytes], name: str = "job") -> Bundle:
        entries = {
            file: {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)} for file, body in files.items()
        }
        return Bundle(
            name=name, created_at="2026-01-01T00:00:00Z", files=entries, head="gap", precision="float32",
            weights={"source": "random", "label": "none"}, temperature=1.0, threshold=0.5,
            conformal={"alpha": 0.05, "quantile": {"NORMAL": 0.6, "PNEUMONIA": 0.6}}, ood={"limit": 10.0}, metrics={},
            dataset={"digest": "0" * 64}, code_version="test", versions={}, seed=0,
        )  # fmt: skip

    return make


@pytest.fixture(scope="package")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Airflow's metadata database, migrated once; a template beside it makes later runs of the tests start faster."""
    import airflow

    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    template = Path(__file__).resolve().parents[2] / "build" / f"airflow-{airflow.__version__}.db"
    if not template.exists():
        from airflow.utils.db import initdb

        initdb()
        template.parent.mkdir(exist_ok=True)
        fresh = template.with_suffix(f".{os.getpid()}")
        copy_database(database, fresh)
        fresh.rename(template)
        return
    copy_database(template, database)


def copy_database(source: Path, target: Path) -> None:
    """Copy a sqlite database with what its journal holds; copying the file alone would lose that."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)


@dataclass(frozen=True)
class Run:
    """A finished DAG run: its state, its tasks' states, what they returned, all that they said, and their headlines."""

    state: str
    tasks: dict[str, str]
    returned: dict[str, Any]
    log: str
    headlines: list[str]


@dataclass(frozen=True)
class Trained:
    """A registered model, and the run that trained it and refused it."""

    job: str
    package_arn: str
    sha256: str
    tasks: dict[str, str]
    reason: str


@pytest.fixture(scope="package")
def small(aws: Deployed) -> dict[str, Any]:
    """The form's values for a tiny dataset, which is put into the datasets bucket."""
    from local_aws.synthetic import film

    rng = np.random.default_rng(7)
    for label, start in (("NORMAL", 0), ("PNEUMONIA", 50_000)):
        for split, patients in (("train", few_patients(start)), ("test", range(start + 40_000, start + 40_004))):
            for number in patients:
                body = io.BytesIO()
                film(label, rng).save(body, "JPEG")
                aws.put("datasets_bucket", f"{DATASET}{split}/{label}/person{number}_{PATIENT}_1.jpeg", body.getvalue())
    return SMALL


def few_patients(start: int) -> list[int]:
    """Ten patients from ``start`` on, of whom two are for tuning and two for calibration (about one in 13 each is)."""
    from cxr.patients import bucket_of

    wanted = {"tune": 2, "calibrate": 2, "train": 6}
    chosen = []
    for number in count(start + 1):
        bucket = bucket_of(f"person{number}")
        if wanted[bucket]:
            wanted[bucket] -= 1
            chosen.append(number)
        if not any(wanted.values()):
            return chosen
    raise AssertionError("unreachable")


@pytest.fixture(scope="package")
def trained(aws: Deployed, small: dict[str, Any], metadata: None) -> Trained:
    """The one training job that these tests pay for, run by the DAG itself below a floor that no model meets."""
    from airflow.dag_processing.dagbag import DagBag
    from cxr_pipeline import registry

    done = DagBag(str(DAGS)).dags["retrain"].test(run_conf={**small, "min_auroc": 1, "max_ece": 0})
    tasks = {t.task_id: str(t.state) for t in done.get_task_instances()}
    model = done.get_task_instance("register").xcom_pull(task_ids="register")
    _, reason = registry.status(aws.client("sagemaker"), model["package_arn"])
    return Trained(model["job"], model["package_arn"], model["model_sha256"], tasks, reason)


@pytest.fixture(scope="package")
def serve_variant(aws: Deployed) -> Callable[..., dict[str, Any]]:
    """Serve a copy of a trained model under another name; return the pointer's document.

    ``probability`` maps (is pneumonia, probability) to what the copy's kept predictions say; ``threshold`` replaces
    its own; a copy with ``another_file`` has a model.tflite of another sha256 (bytes after its end).
    """

    def serve(
        trained: Trained,
        probability: Callable[[bool, float], float] = lambda ill, p: p,
        threshold: float | None = None,
        another_file: bool = False,
    ) -> dict[str, Any]:
        s3, bucket = aws.client("s3"), aws.settings["models_bucket"]
        source, target = f"models/{trained.job}/", f"models/variant-{time.monotonic_ns()}/"
        manifest = aws.read("models_bucket", f"{source}bundle.json")
        files = {}
        for name in manifest["files"]:
            files[name] = s3.get_object(Bucket=bucket, Key=source + name)["Body"].read()
        rows = list(csv.DictReader(io.StringIO(files["predictions.csv"].decode())))
        for row in rows:
            row["probability"] = str(probability(row["label"] == "PNEUMONIA", float(row["probability"])))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        files["predictions.csv"] = text.getvalue().encode()
        if another_file:
            files["model.tflite"] += time.monotonic_ns().to_bytes(16, "big")
        if threshold is not None:
            manifest["threshold"] = threshold
        for name, body in files.items():
            manifest["files"][name] = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            s3.put_object(Bucket=bucket, Key=target + name, Body=body)
        raw = json.dumps(manifest).encode()
        version = s3.put_object(Bucket=bucket, Key=f"{target}bundle.json", Body=raw)["VersionId"]
        release = Release("0", bucket, f"{target}bundle.json", version, hashlib.sha256(raw).hexdigest(), "arn:old/0")
        pointer = PointerStore(s3, bucket)
        written = pointer.promote(release, pointer.read(), Move("test", "a variant"))
        return written.pointer.as_json()

    return serve


@pytest.fixture
def run(aws: Deployed, metadata: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run a DAG with `dag.test()`: every task in this process, nothing mocked."""
    from airflow.dag_processing.dagbag import DagBag

    def run_dag(dag_id: str, conf: dict[str, Any] | None = None, **how: Any) -> Run:
        bag = DagBag(str(DAGS))  # a fresh one: dag.test() writes the run's parameters into the DAG
        assert bag.import_errors == {}
        capfd.readouterr()
        done = bag.dags[dag_id].test(run_conf=conf or {}, **how)
        out, err = capfd.readouterr()
        instances = done.get_task_instances()
        return Run(
            state=str(done.state),
            tasks={t.task_id: str(t.state) for t in instances},
            returned={t.task_id: t.xcom_pull(task_ids=t.task_id) for t in instances},
            log=out + err,
            headlines=[line.split("headline: ", 1)[1] for line in out.splitlines() if "headline: " in line],
        )

    return run_dag
