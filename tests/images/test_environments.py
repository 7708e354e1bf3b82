"""Each container's locked packages alone carry its entry point: it starts, and does its work, without our own lock.

Needs the package index and a Python 3.12 (`make test-images`); every other test runs without a network.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cxr.bundle import sha256_of
from infra.images import INFERENCE, TRAINING
from local_aws.server import LocalAWS
from tests.inference_lambda import tiny_model
from tests.poison import poison_corpus
from tests.training_job.conftest import make_base, write_tiny_dataset

pytestmark = pytest.mark.images
LIMIT_MB = 250  # of the Lambda's packages, bytecode included
BUCKETS = {f"CXR_{name.upper()}_BUCKET": f"image-{name}" for name in ("uploads", "results", "models")}


def inside(folder: Path, **more: str) -> dict[str, str]:
    """Variables of a container's process: nothing of the developer's own."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3", **more}


@pytest.fixture(scope="module")
def inference(environment):
    return environment(INFERENCE)


@pytest.fixture(scope="module")
def training(environment):
    return environment(TRAINING)


@pytest.mark.parametrize("name", ["inference", "training"])
def test_the_check_at_the_end_of_the_build_passes(name, request, tmp_path):
    container = request.getfixturevalue(name)
    check = [str(container.python), "-c", container.build_check()]
    subprocess.run(check, check=True, cwd=container.program, env=inside(tmp_path))
    print(f"{name}: {container.megabytes:.0f} MB of packages with bytecode")


def test_the_lambda_s_packages_stay_below_their_limit(inference):
    assert inference.megabytes < LIMIT_MB


def test_the_lambda_answers_films_of_every_codec(inference, pytestconfig):
    """The image's own command under the Runtime API; each decoder's shared library is loaded for a film."""
    films = {f"films/{file.name}": file for file in poison_corpus.corpus() if file.judged}
    assert {"films/jpeg_2000.dcm", "films/jpeg_ls.dcm", "films/jpeg_lossless.dcm", "films/plain.png"} <= set(films)
    with LocalAWS(images={"inference": inference.command()}, cwd=inference.program) as aws:
        s3 = aws.client("s3")
        for bucket in BUCKETS.values():
            s3.create_bucket(Bucket=bucket)
        files = tiny_model.bundle_files(Path(pytestconfig.cache.mkdir("tiny_model")))
        for name, data in files.items():
            s3.put_object(Bucket=BUCKETS["CXR_MODELS_BUCKET"], Key=f"models/job/{name}", Body=data)
        release = {"bucket": BUCKETS["CXR_MODELS_BUCKET"], "key": "models/job/bundle.json",
                   "sha256": sha256_of(files["bundle.json"])}  # fmt: skip
        pointer = {"schema_version": 1, "serial": 1, "version": "1", "bundle": release, "previous": None}
        s3.put_object(Bucket=BUCKETS["CXR_MODELS_BUCKET"], Key="models/current.json", Body=json.dumps(pointer))
        for key, film in films.items():
            s3.put_object(Bucket=BUCKETS["CXR_UPLOADS_BUCKET"], Key=key, Body=film.data)
        role = aws.client("iam").create_role(RoleName="image", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        function = aws.client("lambda")
        function.create_function(
            FunctionName="image-classify",
            PackageType="Image",
            Code={"ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/image-inference:1"},
            Role=role,
            Timeout=120,
            MemorySize=1769,
            Environment={"Variables": BUCKETS},
        )
        event = {"objects": [{"bucket": BUCKETS["CXR_UPLOADS_BUCKET"], "key": key} for key in films]}
        answer = json.loads(function.invoke(FunctionName="image-classify", Payload=json.dumps(event))["Payload"].read())
        assert sorted(answer["done"]) == sorted(films), answer
        for key in films:
            result = s3.get_object(Bucket=BUCKETS["CXR_RESULTS_BUCKET"], Key=f"results/{key}.json")["Body"].read()
            assert json.loads(result)["status"] != "unreadable", (key, json.loads(result)["reasons"])


def test_the_training_job_trains_and_exports_a_bundle(training, tmp_path):
    write_tiny_dataset(tmp_path / "dataset")
    settings = {"weights": "random", "epochs": "2", "augment_copies": "0", "alpha": "0.2", "dense_units": "16"}
    base = make_base(tmp_path / "ml", tmp_path / "dataset", **settings)
    job = [*training.command(), "train"]  # SageMaker appends the word
    variables = inside(tmp_path, SAGEMAKER_BASE_DIR=str(base), TRAINING_JOB_NAME="image")
    done = subprocess.run(job, cwd=training.program, env=variables, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    bundle = json.loads((base / "model/bundle.json").read_text())
    assert {"model.keras", "model.tflite", "golden.npz"} <= set(bundle["files"])
    assert os.path.getsize(base / "model/model.tflite") == bundle["files"]["model.tflite"]["bytes"]
