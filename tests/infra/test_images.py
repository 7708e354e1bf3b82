"""Images are built from pinned bases, pushed once, deployed by digest; a recording `docker` stands for the engine."""

from __future__ import annotations

import base64
import datetime
import json
import os
import stat

import boto3
import pytest
from botocore.exceptions import ClientError

from infra import images
from infra.__main__ import main
from infra.config import Config
from infra.images import Docker, DockerFault, ImageMissing, build_and_push, newest

REPOSITORIES = {
    kind: f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/cxr-{kind.lower()}" for kind in ("Inference", "Training")
}
BASE_DIGEST = "sha256:" + "b" * 64
DLC = "763104351884.dkr.ecr.eu-central-1.amazonaws.com"

DOCKER = f"""#!/bin/sh
echo "$@" >> "$DOCKER_CALLS"
case "$1 $2" in
  "login "*) cat >> "$DOCKER_CALLS" ; echo >> "$DOCKER_CALLS" ;;
  "buildx imagetools") echo "{BASE_DIGEST}" ;;
  "push "*) echo "$2" >> "$DOCKER_PUSHED" ;;
esac
exit ${{DOCKER_STATUS:-0}}
"""


class Ecr:
    """A registry that holds what the recording docker has pushed."""

    def __init__(self, pushed):
        self.pushed = pushed

    def get_authorization_token(self):
        token = base64.b64encode(b"AWS:secret-password").decode()
        return {"authorizationData": [{"authorizationToken": token}]}

    def describe_images(self, repositoryName, imageIds):
        tag = imageIds[0]["imageTag"]
        known = self.pushed.read_text() if self.pushed.exists() else ""
        if f"{repositoryName}:{tag}\n" not in known:
            raise ClientError({"Error": {"Code": "ImageNotFoundException", "Message": "no"}}, "DescribeImages")
        return {"imageDetails": [{"imageDigest": "sha256:" + tag * 4}]}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A docker on PATH, an ECR behind `client`, and what was called."""
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(docker.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{docker.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("DOCKER_PUSHED", str(tmp_path / "pushed"))
    ecr = Ecr(tmp_path / "pushed")
    monkeypatch.setattr(images, "client", lambda *_: ecr)
    monkeypatch.setattr(images, "training_base", lambda region: f"{DLC}/tensorflow-training:2.21-gpu-py312")

    def run(**options):
        (tmp_path / "calls").write_text("")
        session = boto3.Session(region_name="eu-central-1")
        pushed = build_and_push(session, Config(), REPOSITORIES, Docker(), lock=tmp_path / "lock.json", **options)
        return pushed, (tmp_path / "calls").read_text()

    run.lock = tmp_path / "lock.json"
    return run


def test_both_images_are_built_from_bases_pinned_by_digest_and_pushed(bench):
    pushed, calls = bench()
    builds = [line for line in calls.splitlines() if line.startswith("build ")]
    assert len(builds) == 2
    for build, base in zip(builds, (images.LAMBDA_BASE, f"{DLC}/tensorflow-training:2.21-gpu-py312"), strict=True):
        assert f"--build-arg BASE={base}@{BASE_DIGEST}" in build
        assert "--platform linux/amd64 --provenance=false" in build
    for kind, uri in pushed.items():
        assert uri.startswith(f"{REPOSITORIES[kind]}@sha256:")
    assert json.loads(bench.lock.read_text())["Inference"] == f"{images.LAMBDA_BASE}@{BASE_DIGEST}"


def test_the_registry_password_never_appears_on_a_command_line(bench):
    _, calls = bench()
    logins = [line for line in calls.splitlines() if line.startswith("login")]
    assert [line.split()[-1] for line in logins] == [REPOSITORIES["Inference"].partition("/")[0], DLC]
    assert not [line for line in logins if "secret" in line]
    assert calls.count("secret-password") == 2, "it went through stdin"


def test_unchanged_sources_are_not_built_again_and_digests_are_not_resolved_again(bench):
    first, _ = bench()
    again, calls = bench()
    assert again == first
    assert "build " not in calls and "push " not in calls and "imagetools" not in calls


def test_refresh_resolves_the_digests_anew(bench):
    bench.lock.write_text(json.dumps({"Inference": f"{images.LAMBDA_BASE}@sha256:old"}))
    assert "@sha256:old" in bench()[1]
    _, calls = bench(refresh=True)
    assert calls.count("imagetools") == 2 and "sha256:old" not in bench.lock.read_text()


def test_another_region_or_version_of_the_base_is_resolved_even_if_something_is_recorded(bench):
    bench.lock.write_text(json.dumps({"Training": "763104351884.dkr.ecr.us-east-1.amazonaws.com/other:1@sha256:old"}))
    bench()
    assert json.loads(bench.lock.read_text())["Training"].startswith(DLC)


def test_a_failing_docker_is_named_with_its_command(bench, monkeypatch):
    monkeypatch.setenv("DOCKER_STATUS", "1")
    with pytest.raises(DockerFault, match=r"`docker login .*` failed with status 1.*docker info"):
        bench()


def test_a_lock_that_is_no_json_is_named(bench):
    bench.lock.write_text("{")
    with pytest.raises(DockerFault, match="is not JSON"):
        bench()


def test_without_docker_the_remedy_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DockerFault, match="docker is not on PATH; install Docker"):
        Docker()


def test_a_dry_run_prints_the_commands_and_runs_none(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(
        "infra.stacks.base_outputs", lambda *_: {f"{k}RepositoryUri": v for k, v in REPOSITORIES.items()}
    )
    monkeypatch.setattr(images, "training_base", lambda region: f"{DLC}/tensorflow-training:2.21-gpu-py312")
    assert main(["images", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "docker build --platform linux/amd64" in said and "docker push" in said
    assert not (tmp_path / "images.lock.json").exists()


def test_the_tag_changes_with_the_sources_and_with_the_base(tmp_path):
    for path, text in (("job/Dockerfile", "ARG BASE\nFROM ${BASE}\nCOPY job/ /x/\n"), ("job/a.py", "1")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    image = images.Image("Training", "job/Dockerfile")
    tag = image.tag("base@sha256:1", tmp_path)
    assert image.tag("base@sha256:1", tmp_path) == tag
    assert image.tag("base@sha256:2", tmp_path) != tag
    (tmp_path / "job/a.py").write_text("2")
    assert image.tag("base@sha256:1", tmp_path) != tag


def test_the_newest_image_is_deployed_by_its_digest(monkeypatch):
    class Pages:
        def get_paginator(self, name):
            return self

        def paginate(self, repositoryName):
            assert repositoryName == "cxr-inference"
            day = lambda n: datetime.datetime(2026, 11, n, tzinfo=datetime.UTC)  # noqa: E731
            yield {"imageDetails": [{"imageDigest": "sha256:old", "imagePushedAt": day(1)}]}
            yield {"imageDetails": [{"imageDigest": "sha256:new", "imagePushedAt": day(2)}]}

    monkeypatch.setattr(images, "client", lambda *_: Pages())
    uri = newest(boto3.Session(region_name="eu-central-1"), Config(), REPOSITORIES["Inference"])
    assert uri == f"{REPOSITORIES['Inference']}@sha256:new"


def test_an_empty_repository_says_which_command_fills_it(monkeypatch):
    class Pages:
        get_paginator = paginate = lambda self, *_, **__: self

        def __iter__(self):
            return iter([{"imageDetails": []}])

    monkeypatch.setattr(images, "client", lambda *_: Pages())
    with pytest.raises(ImageMissing, match="run `python -m infra images`"):
        newest(boto3.Session(region_name="eu-central-1"), Config(), REPOSITORIES["Inference"])


def test_the_training_base_is_the_address_that_aws_s_sdk_gives():
    assert images.training_base("eu-central-1") == f"{DLC}/tensorflow-training:2.21-gpu-py312"
