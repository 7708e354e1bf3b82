"""Which image runs is always written down with its digest, so that a tag that moves changes nothing.

An image's tag is the digest of what it is built from: the same sources are never built or pushed twice. The digests of
the base images are resolved once, recorded in `images.lock.json`, and used until `--refresh` asks for new ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from infra.config import Config
from infra.errors import Fault
from infra.session import client, is_local

ROOT = Path(__file__).resolve().parent.parent
LOCK = Path("images.lock.json")
LAMBDA_BASE = "public.ecr.aws/lambda/python:3.12"
TENSORFLOW = "2.21"  # AWS patches this container until 2027-07; Keras 3.15.1 inside, as in requirements.txt
_INSTANCE = "ml.g5.xlarge"  # any GPU instance: it chooses between the GPU and the CPU image


class ImageMissing(Fault):
    """Nothing has been pushed to a repository yet."""


class DockerFault(Fault):
    """Docker is missing, not running, or a build or push failed."""


@dataclass(frozen=True)
class Image:
    """One of the two containers."""

    kind: str  # Inference or Training, as in the stacks' outputs
    dockerfile: str  # relative to the repository's root, which is the build context

    def sources(self, root: Path = ROOT) -> list[Path]:
        """Every file that the Dockerfile copies from the context, and the Dockerfile itself, in a fixed order."""
        text = (root / self.dockerfile).read_text(encoding="utf-8")
        found = {root / self.dockerfile}
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                path = root / source
                if not path.exists():
                    raise DockerFault(f"{self.dockerfile} copies {source}, which does not exist; restore it")
                found |= {path} if path.is_file() else {p for p in path.rglob("*") if p.is_file()}
        return sorted(p for p in found if "__pycache__" not in p.parts)

    def tag(self, base: str, root: Path = ROOT) -> str:
        """Digest of the sources and the base image: 16 hexadecimal digits."""
        digest = hashlib.sha256(base.encode())
        for path in self.sources(root):
            digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]


INFERENCE = Image("Inference", "inference_lambda/Dockerfile")
TRAINING = Image("Training", "training_job/Dockerfile")


def newest(session: boto3.Session, config: Config, repository_uri: str) -> str:
    """URI with digest of the image pushed last; on the local AWS, which runs no images, the tag `local`.

    Raises:
        ImageMissing: the repository is empty.
    """
    if is_local(config):
        return f"{repository_uri}:local"
    pages = client(session, config, "ecr").get_paginator("describe_images")
    found = [i for page in pages.paginate(repositoryName=_repository(repository_uri)) for i in page["imageDetails"]]
    if not found:
        raise ImageMissing(
            f"{repository_uri} holds no image; run `python -m infra images` (it needs Docker), then deploy again"
        )
    return f"{repository_uri}@{max(found, key=lambda image: image['imagePushedAt'])['imageDigest']}"


def training_base(region: str) -> str:
    """Regional address of AWS's TensorFlow training container."""
    from sagemaker.core import image_uris  # two seconds and pandas: only where it is needed

    return str(
        image_uris.retrieve(
            "tensorflow",
            region,
            version=TENSORFLOW,
            py_version="py312",
            instance_type=_INSTANCE,
            image_scope="training",
        )
    )


class Docker:
    """The docker command. `dry` prints what would be run, and runs nothing."""

    def __init__(self, dry: bool = False) -> None:
        self.dry = dry
        if not dry and shutil.which("docker") is None:
            raise DockerFault(
                "docker is not on PATH; install Docker Engine with buildx, or build in AWS CodeBuild "
                "(docs/deploy.md), or print the commands with --dry-run"
            )

    def run(self, arguments: Sequence[str], *, stdin: str | None = None, output: bool = False) -> str:
        """Runs `docker <arguments>`; its output goes to the terminal, or is returned if `output`."""
        line = shlex.join(["docker", *arguments])
        if self.dry:
            print(line)
            return ""
        done = subprocess.run(
            ["docker", *arguments],
            input=stdin,
            text=True,
            stdout=subprocess.PIPE if output else None,
            cwd=ROOT,
            check=False,
        )
        if done.returncode:
            raise DockerFault(
                f"`{line}` failed with status {done.returncode}; its message is above. Is the daemon "
                "running (`docker info`), and the network there?"
            )
        return done.stdout or ""

    def login(self, ecr: Any, registry: str) -> None:
        """Logs in to a private registry; the password goes through stdin and appears on no command line."""
        if self.dry:
            self.run(["login", "--username", "AWS", "--password-stdin", registry])
            return
        token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        user, _, password = base64.b64decode(token).decode().partition(":")
        self.run(["login", "--username", user, "--password-stdin", registry], stdin=password)

    def digest(self, reference: str) -> str:
        """Digest of an image in a registry, without pulling it."""
        if self.dry:
            self.run(["buildx", "imagetools", "inspect", reference, "--format", "{{.Manifest.Digest}}"])
            return "sha256:<digest>"
        found = self.run(
            ["buildx", "imagetools", "inspect", reference, "--format", "{{.Manifest.Digest}}"], output=True
        ).strip()
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
            raise DockerFault(f"{reference}: {found!r} is no digest; update Docker's buildx plugin")
        return found


def build_and_push(
    session: boto3.Session,
    config: Config,
    repositories: dict[str, str],
    docker: Docker,
    *,
    refresh: bool = False,
    lock: Path = LOCK,
) -> dict[str, str]:
    """Builds both images and pushes them; returns {"Inference": uri with digest, "Training": ...}.

    `repositories` maps the two kinds to their repository URIs (outputs of the base stack). What is there already, by
    its tag, is left alone. Base images are used by the digest in `lock`, which is written if it is not there.

    Raises:
        DockerFault: docker is missing or fails.
    """
    ecr = client(session, config, "ecr")
    docker.login(ecr, repositories["Inference"].partition("/")[0])
    addresses = {"Inference": LAMBDA_BASE, "Training": training_base(session.region_name)}
    docker.login(ecr, addresses["Training"].partition("/")[0])
    bases = _pinned(docker, addresses, lock, refresh)
    pushed = {}
    for image in (INFERENCE, TRAINING):
        repository, base = repositories[image.kind], bases[image.kind]
        tag = image.tag(base)
        digest = None if docker.dry else _pushed(ecr, repository, tag)
        if digest is None:
            _build(docker, image, base, f"{repository}:{tag}")
            docker.run(["push", f"{repository}:{tag}"])
            digest = "sha256:<digest>" if docker.dry else _pushed(ecr, repository, tag)
        pushed[image.kind] = f"{repository}@{digest}"
    return pushed


def _build(docker: Docker, image: Image, base: str, target: str) -> None:
    # Lambda refuses the image index that buildx makes when it attaches a provenance statement.
    docker.run(["build", "--platform", "linux/amd64", "--provenance=false", "--file", image.dockerfile,
                "--build-arg", f"BASE={base}", "--tag", target, "."])  # fmt: skip


def _pinned(docker: Docker, addresses: dict[str, str], lock: Path, refresh: bool) -> dict[str, str]:
    """Each address with its digest: from the lock if it names the same address, else from the registry."""
    known: dict[str, str] = {}
    if lock.is_file() and not refresh:
        try:
            known = json.loads(lock.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DockerFault(f"{lock} is not JSON ({error}); delete it to resolve the digests anew") from error
    pinned = {}
    for kind, address in addresses.items():
        recorded = known.get(kind, "")
        pinned[kind] = recorded if recorded.startswith(address + "@") else f"{address}@{docker.digest(address)}"
    if not docker.dry:
        lock.write_text(json.dumps(pinned, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return pinned


def _pushed(ecr: Any, repository_uri: str, tag: str) -> str | None:
    try:
        found = ecr.describe_images(repositoryName=_repository(repository_uri), imageIds=[{"imageTag": tag}])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ImageNotFoundException":
            return None
        raise
    return str(found["imageDetails"][0]["imageDigest"])


def _repository(uri: str) -> str:
    return uri.partition("/")[2]
