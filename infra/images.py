"""Which image runs is always written down with its digest, so that a tag that moves changes nothing.

An image's tag is the digest of what it is built from: the same sources are never built or pushed twice, and what is
deployed is what these sources made, whoever pushed last. The digests of the base images are resolved once, recorded in
`images.lock.json` by their address, and used until `--refresh` asks for new ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from infra.config import Config
from infra.errors import Fault
from infra.session import client, is_local

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "images.lock.json"
LAMBDA_BASE = "public.ecr.aws/lambda/python:3.12"
TENSORFLOW = "2.21"  # AWS patches this container until 2027-07; Keras 3.15.1 inside, as in requirements.txt
_INSTANCE = "ml.g5.xlarge"  # any GPU instance: it chooses between the GPU and the CPU image
_DIGEST = r"sha256:[0-9a-f]{64}"
_ADDRESS = r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"


class ImageMissing(Fault):
    """The image of these sources is in no repository."""


class DockerFault(Fault):
    """Docker is missing, not running, or a build or push failed."""


@dataclass(frozen=True)
class Image:
    """One of the two containers."""

    kind: str  # Inference or Training, as in the stacks' outputs
    dockerfile: str  # relative to the repository's root, which is the build context

    def address(self, region: str) -> str:
        """Address of the base image.

        Raises:
            Fault: there is none in this region.
        """
        return LAMBDA_BASE if self.kind == "Inference" else training_base(region)

    def copied(self, root: Path = ROOT) -> list[str]:
        """The Dockerfile itself, and the files and folders that it copies from the context."""
        text = (root / self.dockerfile).read_text(encoding="utf-8")
        lines = re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        return [self.dockerfile, *(source.rstrip("/") for line in lines for source in line.split()[:-1])]

    def sources(self, root: Path = ROOT) -> list[Path]:
        """Every file of `copied`, in a fixed order."""
        found: set[Path] = set()
        for source in self.copied(root):
            path = root / source
            if not path.exists():
                raise DockerFault(f"{self.dockerfile} copies {source}, which does not exist; restore it")
            found |= {path} if path.is_file() else {p for p in path.rglob("*") if p.is_file()}
        return sorted((p for p in found if "__pycache__" not in p.parts), key=Path.as_posix)

    def tag(self, base: str, root: Path = ROOT) -> str:
        """Digest of the sources and the base image: 16 hexadecimal digits."""
        digest = hashlib.sha256(base.encode())
        for path in self.sources(root):
            digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]


INFERENCE = Image("Inference", "inference_lambda/Dockerfile")
TRAINING = Image("Training", "training_job/Dockerfile")
IMAGES = (INFERENCE, TRAINING)


def bases(region: str) -> dict[Image, str]:
    """Addresses of the base images in a region.

    Raises:
        Fault: AWS has no training container there.
    """
    return {image: image.address(region) for image in IMAGES}


def current(session: boto3.Session, config: Config, image: Image, repository_uri: str, lock: Path = LOCK) -> str:
    """URI with digest of the image of these sources; on the local AWS, which runs no images, the tag `local`.

    Raises:
        ImageMissing: nobody has pushed it, or `lock` does not say from which base it is built.
    """
    if is_local(config):
        return f"{repository_uri}:local"
    remedy = (
        "run `python -m infra images` (it needs Docker; with --dry-run it prints a script for a machine that has it). "
        "If it was pushed from another checkout, deploy from there or take over its sources and its images.lock.json, "
        f"or name an image as `{image.kind.lower()}_image` in infra.toml: `aws ecr describe-images --repository-name "
        f"{_repository(repository_uri)}` lists them"
    )
    address = image.address(session.region_name)
    digest = recorded(lock).get(address)
    if digest is None:
        raise ImageMissing(f"{lock} has no digest of {address}, so the image of these sources is unknown; {remedy}")
    tag = image.tag(f"{address}@{digest}")
    pushed = _pushed(client(session, config, "ecr"), repository_uri, tag)
    if pushed is None:
        raise ImageMissing(f"{repository_uri} holds no image {tag}, the one of these sources; {remedy}")
    return f"{repository_uri}@{pushed}"


def training_base(region: str) -> str:
    """Regional address of AWS's TensorFlow training container.

    Raises:
        Fault: there is none in this region.
    """
    from sagemaker.core import image_uris  # two seconds and pandas: only where it is needed

    try:
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
    except ValueError as error:
        raise Fault(
            f"AWS's SDK knows no TensorFlow {TENSORFLOW} training container for the region {region!r}; correct "
            "`region`, or, if the region is new, update the package `sagemaker-core`"
        ) from error


class Docker:
    """The docker command."""

    def __init__(self) -> None:
        if shutil.which("docker") is None:
            raise DockerFault(
                "docker is not on PATH; install Docker Engine with buildx, or print a script for a machine that has "
                "it: `python -m infra images --dry-run`"
            )

    def run(self, arguments: Sequence[str], *, stdin: str | None = None, output: bool = False) -> str:
        """Runs `docker <arguments>`; its output goes to the terminal, or is returned if `output`."""
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
                f"`{shlex.join(['docker', *arguments])}` failed with status {done.returncode}; its message is above. "
                "Is the daemon running (`docker info`), and the network there?"
            )
        return done.stdout or ""

    def login(self, ecr: Any, registry: str) -> None:
        """Logs in to a private registry; the password goes through stdin and appears on no command line."""
        token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        user, _, password = base64.b64decode(token).decode().partition(":")
        self.run(["login", "--username", user, "--password-stdin", registry], stdin=password)

    def digest(self, reference: str) -> str:
        """Digest of an image in a registry, without pulling it."""
        found = self.run(
            ["buildx", "imagetools", "inspect", reference, "--format", "{{.Manifest.Digest}}"], output=True
        ).strip()
        if not re.fullmatch(_DIGEST, found):
            raise DockerFault(f"{reference}: {found!r} is no digest; update Docker's buildx plugin")
        return found


def build(image: Image, address: str, digest: str, repository: str, tag: str) -> list[str]:
    """Arguments of docker that build an image from its base at `address` with `digest`."""
    # Lambda refuses the image index that buildx makes when it attaches a provenance statement.
    return ["build", "--platform", "linux/amd64", "--provenance=false", "--file", image.dockerfile,
            "--build-arg", f"BASE={address}@{digest}", "--build-arg", f"BASE_NAME={address}",
            "--build-arg", f"BASE_DIGEST={digest}", "--build-arg", f"VERSION={tag}",
            "--tag", f"{repository}:{tag}", "."]  # fmt: skip


@dataclass(frozen=True)
class Bases:
    """The base images: their addresses, and the record of their digests. refresh: resolve the digests anew."""

    addresses: Mapping[Image, str]
    lock: Path = LOCK
    refresh: bool = False

    def pinned(self, docker: Docker) -> dict[str, str]:
        """Digests by address, from the record or else from the registry, and recorded."""
        known = recorded(self.lock)
        fresh = {a: docker.digest(a) for a in self.addresses.values() if self.refresh or a not in known}
        if (found := known | fresh) != known:
            self.lock.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return found


def build_and_push(
    session: boto3.Session, config: Config, repositories: Mapping[str, str], bases: Bases, docker: Docker
) -> dict[str, str]:
    """Builds both images and pushes them; returns {"Inference": uri with digest, "Training": ...}.

    `repositories` maps the two kinds to their repository URIs (outputs of the base stack). What is there already, by
    its tag, is left alone.

    Raises:
        DockerFault: docker is missing or fails.
    """
    ecr = client(session, config, "ecr")
    docker.login(ecr, repositories["Inference"].partition("/")[0])
    docker.login(ecr, bases.addresses[TRAINING].partition("/")[0])
    digests = bases.pinned(docker)
    pushed = {}
    for image, address in bases.addresses.items():
        repository = repositories[image.kind]
        tag = image.tag(f"{address}@{digests[address]}")
        digest = _pushed(ecr, repository, tag)
        if digest is None:
            docker.run(build(image, address, digests[address], repository, tag))
            docker.run(["push", f"{repository}:{tag}"])
            digest = _pushed(ecr, repository, tag)
        pushed[image.kind] = f"{repository}@{digest}"
    return pushed


def recorded(lock: Path = LOCK) -> dict[str, str]:
    """Digests of base images by their address, as recorded; none if there is no record."""
    if not lock.is_file():
        return {}
    remedy = "delete it to resolve the digests anew"
    try:
        found = json.loads(lock.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DockerFault(f"{lock} is not JSON ({error}); {remedy}") from error
    pairs = found.items() if isinstance(found, dict) else [("", "")]
    if not all(re.fullmatch(_ADDRESS, address) and re.fullmatch(_DIGEST, str(digest)) for address, digest in pairs):
        raise DockerFault(f"{lock} does not map addresses of base images to digests (sha256:...); {remedy}")
    return found


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
