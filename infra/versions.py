"""Every version of every object: what a versioned bucket still holds after an object was overwritten or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from infra.errors import Fault

_AT_ONCE = 1000  # DeleteObjects takes so many


@dataclass(frozen=True)
class Version:
    """size: bytes; a delete marker has none."""

    key: str
    id: str
    size: int | None

    def read(self, s3: Any, bucket: str) -> Any:
        """The stream of its bytes."""
        return s3.get_object(Bucket=bucket, Key=self.key, VersionId=self.id)["Body"]


def versions(s3: Any, bucket: str, prefix: str = "") -> Iterator[Version]:
    """Versions and delete markers of all keys below a prefix."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Versions", ()):
            yield Version(found["Key"], found["VersionId"], found["Size"])
        for found in page.get("DeleteMarkers", ()):
            yield Version(found["Key"], found["VersionId"], None)


def delete(s3: Any, bucket: str, found: Iterable[Version]) -> int:
    """Deletes versions for ever; returns how many.

    Raises:
        Fault: S3 keeps one.
    """
    remaining, deleted = iter(found), 0
    while batch := list(islice(remaining, _AT_ONCE)):
        objects = [{"Key": version.key, "VersionId": version.id} for version in batch]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        if errors := answer.get("Errors"):
            raise Fault(
                f"s3://{bucket}: {len(errors)} object versions cannot be deleted, the first because of "
                f"{errors[0]['Code']} ({errors[0]['Message']}); run the command again"
            )
        deleted += len(batch)
    return deleted
