"""Airflow's UI on the local AWS: one command, one port, state that survives."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from moto.sagemaker.models import sagemaker_backends

from cxr.pointer import KEY, Move, PointerStore, Release
from local_aws.airflow import command, home, state
from local_aws.airflow.components import Components, NotReady
from local_aws.server import ACCOUNT, REGION, PortTaken

LONG_KEY = "ж" * 150  # 300 bytes of UTF-8, 900 percent-encoded; a file name has at most 255


def test_a_taken_port_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.main(["--port", str(port), "--home", str(tmp_path)]) == 1
        with pytest.raises(PortTaken):
            command.must_be_free(port)
    assert f"port {port} on 127.0.0.1 is taken" in capsys.readouterr().out


def test_the_laptop_s_defaults_are_parameters_of_the_form() -> None:
    from cxr_pipeline.retrain_form import FORM, with_defaults

    changed = with_defaults(FORM, home.LAPTOP_DEFAULTS)
    assert {name: changed[name].resolve() for name in home.LAPTOP_DEFAULTS} == home.LAPTOP_DEFAULTS


def test_a_component_that_ends_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "scheduler.log").write_text("boom\n")
    airflow = Components(tmp_path)
    try:
        ended = airflow.children.start(["false"], env={}, cwd=tmp_path, output=subprocess.DEVNULL)
        ended.wait(10)
        airflow.running["scheduler"] = ended
        with pytest.raises(NotReady, match=r"airflow scheduler ended with 1; .*:\nboom"):
            airflow.check()
    finally:
        airflow.children.close()


def test_the_dags_folder_is_laid_out_again_over_what_airflow_compiled_there(tmp_path: Path) -> None:
    for _ in range(2):
        home.lay_out_dags(tmp_path / "dags")
        (tmp_path / "dags" / "__pycache__").mkdir()
    home.lay_out_dags(tmp_path / "dags")
    assert {path.name for path in (tmp_path / "dags").iterdir()} >= {"retrain.py", "cxr_pipeline", "cxr"}


@pytest.mark.heavy
def test_what_a_person_made_survives_a_restart(aws: Any, job_request: Any, tmp_path: Path) -> None:
    from cxr_pipeline import registry
    from cxr_pipeline.training import TrainingOperator

    aws.empty("models_bucket", KEY)
    aws.put("uploads_bucket", LONG_KEY, b"no film")
    for bucket in ("uploads_bucket", "models_bucket"):
        aws.put(bucket, "models/j/bundle.json" if bucket == "models_bucket" else "ward 1/ä.jpeg", b"{}")
    s3, sagemaker = aws.client("s3"), aws.client("sagemaker")
    package = registry.Package("s3://b/model.tar.gz", "image", "s3://b/metrics.json", {"a": "b"})
    arn = registry.register(sagemaker, aws.settings["model_package_group"], "survivor", package)
    registry.decide(sagemaker, arn, "Approved", "good")
    pointer = PointerStore(s3, aws.settings["models_bucket"])
    release = Release("1", aws.settings["models_bucket"], "models/j/bundle.json", "lost", "0" * 64, arn)
    pointer.promote(release, None, Move("a", "r"))
    done = TrainingOperator(task_id="train", config=job_request("quick", "survivor"), check_interval=1).execute({})
    described = sagemaker.describe_training_job(TrainingJobName="survivor")
    state.save(aws.local, aws.settings, tmp_path / "aws")

    del sagemaker_backends[ACCOUNT][REGION].training_jobs["survivor"]
    aws.empty("models_bucket", "training/survivor/")
    aws.empty("models_bucket", "models/")
    aws.empty("uploads_bucket", "")
    group = aws.settings["model_package_group"]
    for package in sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]:
        sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    assert state.restore(aws.local, aws.settings, tmp_path / "aws")

    assert aws.text("uploads_bucket", "ward 1/ä.jpeg") == "{}"
    assert aws.text("uploads_bucket", LONG_KEY) == "no film"
    restored = pointer.read()
    assert restored is not None
    version = restored.pointer.current.version_id
    body = s3.get_object(Bucket=aws.settings["models_bucket"], Key="models/j/bundle.json", VersionId=version)["Body"]
    assert json.loads(body.read()) == {}
    assert (
        sagemaker.describe_training_job(TrainingJobName="survivor").items()
        >= {name: value for name, value in described.items() if name != "ResponseMetadata"}.items()
    )
    assert aws.local.objects().read(aws.settings["models_bucket"], done["model_data"].split("/", 3)[3])
    again = registry.find(sagemaker, group, "survivor") or ""
    assert registry.status(sagemaker, again) == ("Approved", "good")
    aws.empty("models_bucket", "models/")
    aws.empty("uploads_bucket", "")


@pytest.mark.heavy
def test_a_key_longer_than_a_file_name_is_kept_in_each_bucket_that_has_it(aws: Any, tmp_path: Path) -> None:
    for bucket in ("uploads_bucket", "datasets_bucket"):
        aws.put(bucket, LONG_KEY, bucket.encode())
    state.save(aws.local, aws.settings, tmp_path / "aws")
    index = json.loads((tmp_path / "aws" / state.INDEX).read_text())
    for bucket in ("uploads_bucket", "datasets_bucket"):
        (file,) = (file for file, key in index[bucket].items() if key == LONG_KEY)
        assert (tmp_path / "aws" / bucket / file).read_bytes() == bucket.encode()
        aws.empty(bucket, LONG_KEY)


def test_a_folder_of_an_older_version_is_named_and_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"{tmp_path} has no index.json: .* move the folder away"):
        state.restore(None, {}, tmp_path)  # type: ignore[arg-type]


def test_nothing_kept_is_nothing_restored(tmp_path: Path) -> None:
    assert state.restore(None, {}, tmp_path / "absent") is False  # type: ignore[arg-type]
