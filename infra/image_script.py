"""What `images` does, as a shell script: for a machine that has Docker and the AWS CLI, but not this environment.

It makes the same tags and the same record of base images as `images`, so `deploy` finds what it pushed.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import boto3

from infra import images, stacks
from infra.config import Config
from infra.errors import Fault

_FUNCTIONS = r"""
login() {
  aws ecr get-login-password --region "$region" | docker login --username AWS --password-stdin "$1"
}
output() {  # of the base stack
  aws cloudformation describe-stacks --region "$region" --stack-name "$stack" \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue" --output text
}
tag() {  # the digest of the base image and the sources: `python -m infra deploy` looks for it
  {
    printf %s "$1"
    shift
    find "$@" -type f -not -path '*/__pycache__/*' | LC_ALL=C sort -u | while IFS= read -r file; do
      printf '\0%s\0' "$file"
      cat "$file"
    done
  } | sha256sum | cut -c1-16
}
pushed() {
  aws ecr describe-images --region "$region" --repository-name "${repository#*/}" --image-ids "imageTag=$tag"
}
"""


def text(config: Config, *, refresh: bool = False, lock: Path = images.LOCK) -> str:
    """The script for the configured project and region. Makes no call and needs no credentials; running it does.

    Raises:
        Fault: no region is set, or AWS has no training container there.
    """
    region = config.region or boto3.Session(profile_name=config.profile or None).region_name
    if not region:
        raise Fault("No AWS region is set; set `region` in infra.toml, pass --region, or export AWS_DEFAULT_REGION")
    stack, _ = stacks.names(config)
    known = images.recorded(lock)
    addresses = images.bases(region)
    lines = [
        "#!/usr/bin/env bash",
        "# Builds and pushes the images as `python -m infra images` does. Run it in the root of a checkout; it needs",
        f"# Docker, the AWS CLI and credentials. Bring {lock.name}, which it writes, to where you deploy.",
        "set -euo pipefail",
        f"region={shlex.quote(region)}",
        f"stack={stack}",
        _FUNCTIONS,
        f"login {addresses[images.TRAINING].partition('/')[0]}",
    ]
    for image, address in addresses.items():
        name = image.kind.lower()
        digest = None if refresh else known.get(address)
        lines += [
            "",
            f"repository=$(output {image.kind}RepositoryUri)",
            'login "${repository%%/*}"',
            f"{name}={digest or f'$({_docker(images.inspection(address))})'}",
            f'tag=$(tag "{address}@${name}" {shlex.join(image.copied())})',
            "if ! pushed > /dev/null 2>&1; then",
            f"  {_docker(images.build(image, address, f'${name}', '$repository', '$tag'))}",
            '  docker push "$repository:$tag"',
            "fi",
            f'echo "{name} $repository:$tag"',
        ]
    digests = known | {address: f"${image.kind.lower()}" for image, address in addresses.items()}
    return "\n".join([*lines, "", f"cat > {lock.name} <<END", f"{images.as_lock(digests)}END"])


def _docker(arguments: list[str]) -> str:
    """The command with its variables quoted for the shell."""
    return " ".join(["docker", *(f'"{a}"' if "$" in a else shlex.quote(a) for a in arguments)])
