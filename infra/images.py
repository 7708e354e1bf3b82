"""Which image runs is always written down with its digest, so that a tag that moves changes nothing."""

from __future__ import annotations

import boto3
from botocore.exceptions import ClientError

from infra.config import Config
from infra.errors import Fault
from infra.session import client, is_local


class ImageMissing(Fault):
    """Nothing has been pushed to a repository yet."""


def newest(session: boto3.Session, config: Config, repository_uri: str) -> str:
    """URI with digest of the image pushed last; on the local AWS, which runs no images, the tag `local`.

    Raises:
        ImageMissing: the repository is empty.
    """
    if is_local(config):
        return f"{repository_uri}:local"
    repository = repository_uri.partition("/")[2]
    pages = client(session, config, "ecr").get_paginator("describe_images")
    try:
        found = [image for page in pages.paginate(repositoryName=repository) for image in page["imageDetails"]]
    except ClientError as error:
        raise Fault(f"The images in {repository_uri} cannot be listed: {error}") from error
    if not found:
        raise ImageMissing(
            f"{repository_uri} holds no image; run `python -m infra images` (it needs Docker), then deploy again"
        )
    return f"{repository_uri}@{max(found, key=lambda image: image['imagePushedAt'])['imageDigest']}"
