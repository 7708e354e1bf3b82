"""What `images` does, as a shell script: for a machine that has Docker and the AWS CLI, but not this environment.

The script is images.sh; only the settings above it differ. It makes the same tags and the same record of base images as
`images`, so `deploy` finds what it pushed.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import boto3

from infra import images, stacks
from infra.config import Config
from infra.errors import Fault

SCRIPT = Path(__file__).with_name("images.sh")


def text(config: Config, *, refresh: bool = False, lock: Path = images.LOCK) -> str:
    """The script for the configured project and region. Makes no call and needs no credentials; running it does.

    Raises:
        Fault: no region is set, or AWS has no training container there.
    """
    region = config.region or boto3.Session(profile_name=config.profile or None).region_name
    if not region:
        raise Fault("No AWS region is set; set `region` in infra.toml, pass --region, or export AWS_DEFAULT_REGION")
    known = images.recorded(lock)
    addresses = images.bases(region)
    others = [word for address in sorted(set(known) - set(addresses.values())) for word in (address, known[address])]
    settings = {"region": region, "stack": stacks.names(config)[0], "lock": lock.name, "others": " ".join(others)}
    for image, address in addresses.items():
        kind = image.kind.lower()
        settings |= {f"{kind}_base": address, f"{kind}_digest": "" if refresh else known.get(address, "")}
    lines = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    lines += [f"{image.kind.lower()}_sources=({shlex.join(image.copied())})" for image in addresses]
    return "\n".join(["#!/usr/bin/env bash", *lines, "", SCRIPT.read_text(encoding="utf-8").rstrip()])
