"""Images are built from pinned bases, pushed once, deployed by digest; a recording `docker` stands for the engine."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
import subprocess

import boto3
import pytest
from botocore.exceptions import ClientError

from infra import image_script, images
from infra.__main__ import main
from infra.config import Config
from infra.images import Docker, DockerFault, ImageMissing, build_and_push, current

REPOSITORIES = {
    kind: f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/cxr-{kind.lower()}" for kind in ("Inference", "Training")
}
BASE_DIGEST = "sha256:" + "b" * 64
DLC = "763104351884.dkr.ecr.{}.amazonaws.com/tensorflow-training:2.21-gpu-py312"
HERE = DLC.format("eu-central-1")
OLD = "sha256:" + "0" * 64

DOCKER = f"""#!/bin/sh
echo "$@" >> "$CALLS"
case "$1 $2" in
  "login "*) cat >> "$CALLS" ; echo >> "$CALLS" ;;
  "buildx imagetools") echo "{BASE_DIGEST}" ;;
  "push "*) echo "$2" >> "$PUSHED" ;;
esac
exit ${{DOCKER_STATUS:-0}}
"""
# The three calls that the script makes, with the answers of `--output text`.
AWS = """#!/bin/sh
echo "aws $@" >> "$CALLS"
case "$1 $2 $8" in
  "ecr get-login-password "*) echo secret-password ;;
  *InferenceRepositoryUri*) echo "{Inference}" ;;
  *TrainingRepositoryUri*) echo "{Training}" ;;
  "ecr describe-images "*) grep -q "$6:${{8#imageTag=}}" "$PUSHED" ;;
  *) exit 254 ;;
esac
""".format(**REPOSITORIES)


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
def programs(tmp_path, monkeypatch):
    """A docker and an aws on PATH that record how they are called."""
    for name, program in (("docker", DOCKER), ("aws", AWS)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(program)
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PUSHED", str(tmp_path / "pushed"))


@pytest.fixture
def bench(programs, tmp_path, monkeypatch):
    """Runs the build against the recording programs and an ECR behind `client`; returns what it says, and the calls."""
    ecr = Ecr(tmp_path / "pushed")
    monkeypatch.setattr(images, "client", lambda *_: ecr)
    monkeypatch.setattr(images, "training_base", lambda region: DLC.format(region))

    def run(region="eu-central-1", **options):
        (tmp_path / "calls").write_text("")
        bases = images.Bases(images.bases(region), run.lock, **options)
        pushed = build_and_push(boto3.Session(region_name=region), Config(), REPOSITORIES, bases, Docker())
        return pushed, (tmp_path / "calls").read_text()

    def deployed(image, lock=None):
        session = boto3.Session(region_name="eu-central-1")
        return current(session, Config(), image, REPOSITORIES[image.kind], lock or run.lock)

    run.lock, run.deployed, run.calls, run.pushed = (
        tmp_path / "images.lock.json", deployed, tmp_path / "calls", tmp_path / "pushed",
    )  # fmt: skip
    return run


def test_both_images_are_built_from_bases_pinned_by_digest_and_pushed(bench):
    pushed, calls = bench()
    builds = [line for line in calls.splitlines() if line.startswith("build ")]
    assert len(builds) == 2
    for build, base in zip(builds, (images.LAMBDA_BASE, HERE), strict=True):
        assert f"--build-arg BASE={base}@{BASE_DIGEST}" in build
        assert "--platform linux/amd64 --provenance=false" in build
    for kind, uri in pushed.items():
        assert uri.startswith(f"{REPOSITORIES[kind]}@sha256:")
    assert json.loads(bench.lock.read_text()) == {images.LAMBDA_BASE: BASE_DIGEST, HERE: BASE_DIGEST}


def test_the_registry_password_never_appears_on_a_command_line(bench):
    _, calls = bench()
    logins = [line for line in calls.splitlines() if line.startswith("login")]
    assert [line.split()[-1] for line in logins] == [uri.partition("/")[0] for uri in (REPOSITORIES["Inference"], HERE)]
    assert not [line for line in logins if "secret" in line]
    assert calls.count("secret-password") == 2, "it went through stdin"


def test_unchanged_sources_are_not_built_again_and_digests_are_not_resolved_again(bench):
    first, _ = bench()
    again, calls = bench()
    assert again == first
    assert "build " not in calls and "push " not in calls and "imagetools" not in calls


def test_refresh_resolves_the_digests_anew(bench):
    bench.lock.write_text(json.dumps({images.LAMBDA_BASE: OLD}))
    assert f"{images.LAMBDA_BASE}@{OLD}" in bench()[1]
    _, calls = bench(refresh=True)
    assert calls.count("imagetools") == 2 and OLD not in bench.lock.read_text()


def test_two_regions_are_recorded_side_by_side(bench):
    bench()
    first = json.loads(bench.lock.read_text())
    bench("us-east-1")
    assert json.loads(bench.lock.read_text()) == first | {DLC.format("us-east-1"): BASE_DIGEST}
    assert "imagetools" not in bench()[1]


def test_the_record_lies_in_the_repository_wherever_the_command_is_run():
    assert images.LOCK == images.ROOT / "images.lock.json"


HOSTILE = ["a/b;id", "a/$(id)", "a/b\nEND\nid", "a/`id`", "-a/b", "a/b c", "a/b'", 'a/b"', "a", "", "a/b\x1b[2J", "A/b"]


def test_a_failing_docker_is_named_with_its_command(bench, monkeypatch):
    monkeypatch.setenv("DOCKER_STATUS", "1")
    with pytest.raises(DockerFault, match=r"`docker login .*` failed with status 1.*docker info"):
        bench()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"a/b:1": "latest"}', "to digests"),
        ("[]", "to digests"),
        *((json.dumps({address: OLD}), "to digests") for address in HOSTILE),
    ],
)
def test_a_record_that_cannot_be_read_is_named(bench, text, says):
    bench.lock.write_text(text)
    with pytest.raises(DockerFault, match=rf"images.lock.json .*{says}.*; delete it"):
        bench()


def test_without_docker_the_remedy_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DockerFault, match="docker is not on PATH; install Docker"):
        Docker()


@pytest.fixture
def script(bench, tmp_path):
    """Runs the printed script at the root of a checkout; returns bash's status."""
    checkout = tmp_path / "checkout"
    for folder in ("cxr", "inference_lambda", "training_job"):
        shutil.copytree(images.ROOT / folder, checkout / folder)
    (checkout / "cxr/__pycache__").mkdir(exist_ok=True)
    (checkout / "cxr/__pycache__/film.pyc").write_bytes(b"not a source")

    def run(folder=checkout, **options):
        bench.calls.write_text("")
        text = image_script.text(Config(region="eu-central-1"), lock=bench.lock, **options)
        done = subprocess.run(["bash"], input=text, text=True, cwd=folder, check=False)
        return done.returncode, bench.calls.read_text()

    run.lock = checkout / bench.lock.name
    return run


def test_the_script_of_a_dry_run_pushes_what_a_deployment_looks_for(bench, script):
    status, calls = script()
    assert status == 0
    for image in images.IMAGES:
        uri = bench.deployed(image, script.lock)
        assert uri.startswith(REPOSITORIES[image.kind])
    logins = [line.split()[-1] for line in calls.splitlines() if line.startswith("login")]
    assert {uri.partition("/")[0] for uri in (REPOSITORIES["Inference"], HERE)} == set(logins)
    assert calls.count("\nsecret-password\n") == len(logins), "the password goes through stdin"


def test_the_script_runs_docker_as_the_command_does(bench, script):
    """The same builds and pushes, and the same record."""
    work = ("build ", "push ", "buildx ")
    script()
    by_script = [line for line in bench.calls.read_text().splitlines() if line.startswith(work)]
    bench.pushed.unlink()
    by_command = [line for line in bench()[1].splitlines() if line.startswith(work)]
    assert sorted(by_script) == sorted(by_command)
    assert script.lock.read_text() == bench.lock.read_text()


def test_the_script_uses_recorded_digests_and_leaves_alone_what_is_there(bench, script):
    bench.lock.write_text(json.dumps({images.LAMBDA_BASE: OLD, HERE: OLD, "elsewhere/base:1": OLD}))
    _, calls = script()
    assert "imagetools" not in calls and f"BASE={HERE}@{OLD}" in calls
    assert json.loads(script.lock.read_text()) == json.loads(bench.lock.read_text())
    status, calls = script()
    assert status == 0 and not re.search(r"^(build|push) ", calls, re.MULTILINE)
    assert script(refresh=True)[1].count("imagetools") == 2


def test_the_script_stops_at_the_first_failure(bench, script, monkeypatch, tmp_path):
    status, calls = script(folder=tmp_path)
    assert status != 0 and not re.search(r"^(build|push) ", calls, re.MULTILINE), "not the root of a checkout"
    monkeypatch.setenv("DOCKER_STATUS", "1")
    status, calls = script()
    assert status != 0 and len(re.findall(r"^(?!aws|secret)\S", calls, re.MULTILINE)) == 1
    assert not script.lock.exists()


def test_a_dry_run_makes_no_call_and_needs_neither_credentials_nor_docker(monkeypatch, capsys):
    def forbidden(*_, **__):
        raise AssertionError("a call was made")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", forbidden)
    monkeypatch.setattr(images, "training_base", DLC.format)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["images", "--dry-run", "--region", "eu-central-1"]) == 0
    assert capsys.readouterr().out.startswith("#!/usr/bin/env bash\n")
    assert main(["images", "--dry-run"]) == 1
    assert "No AWS region is set" in capsys.readouterr().err


def test_a_region_without_a_training_container_is_refused_before_any_call(programs, monkeypatch, capsys):
    def unknown(framework, region, **_):
        raise ValueError(f"Unsupported region: {region}")

    monkeypatch.setattr("sagemaker.core.image_uris.retrieve", unknown)
    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", lambda *_: pytest.fail("a call was made"))
    for arguments in (["images"], ["images", "--dry-run"]):
        assert main([*arguments, "--region", "xx-north-1"]) == 1
        said = capsys.readouterr().err
        assert "no TensorFlow 2.21 training container for the region 'xx-north-1'; correct `region`" in said


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


def test_the_image_of_these_sources_is_deployed_by_its_digest_whoever_pushed_last(bench):
    pushed, _ = bench()
    with bench.pushed.open("a") as registry:
        registry.write(f"{REPOSITORIES['Inference']}:ffffffffffffffff\n")
    assert {image.kind: bench.deployed(image) for image in images.IMAGES} == pushed


def test_an_image_that_was_not_pushed_says_which_command_pushes_it_and_what_else_helps(bench):
    bench()
    bench.pushed.unlink()
    with pytest.raises(ImageMissing) as caught:
        bench.deployed(images.INFERENCE)
    said = str(caught.value)
    assert f"{REPOSITORIES['Inference']} holds no image" in said and "run `python -m infra images`" in said
    for remedy in ("--dry-run", "another checkout", "images.lock.json", "inference_image", "describe-images"):
        assert remedy in said


def test_without_a_record_of_base_images_the_same_remedy_is_told(bench):
    with pytest.raises(ImageMissing, match=r"images\.lock\.json has no digest of .*; run `python -m infra images`"):
        bench.deployed(images.TRAINING)


def test_the_local_aws_needs_no_image():
    config = Config(endpoint_url="http://127.0.0.1:5000")
    uri = current(boto3.Session(region_name="us-east-1"), config, images.INFERENCE, REPOSITORIES["Inference"])
    assert uri == f"{REPOSITORIES['Inference']}:local"


def test_the_training_base_is_the_address_that_aws_s_sdk_gives():
    assert images.training_base("eu-central-1") == HERE
