"""A manifest names the films of one call of the function; they are patients' names, so it goes when its run ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cxr_pipeline.objects import find_json, write_json

MOST = 999  # and one more where films are of two kinds: S3 deletes 1,000 objects in one call, Airflow maps 1,024 tasks


@dataclass(frozen=True)
class Manifests:
    """The manifests of a run below ``folder`` of ``bucket``. s3: a boto3 client."""

    s3: Any
    bucket: str
    folder: str

    def write(self, name: str, uploads_bucket: str, keys: Iterator[str], size: int) -> list[str]:
        """Write ``keys`` as manifests of at most ``size`` films; return their keys, which begin with ``name``."""
        written: list[str] = []
        while part := list(islice(keys, size)):
            key = f"{self.folder}{name}/part-{len(written):05d}.json"
            films = {"objects": [{"bucket": uploads_bucket, "key": film} for film in part]}
            write_json(self.s3, self.bucket, key, films)
            written.append(key)
        return written

    def read(self, key: str) -> list[dict[str, str]] | None:
        """Return the ``{"bucket", "key"}`` of a manifest, or None where it is gone."""
        found = find_json(self.s3, self.bucket, key)
        return None if found is None else list(found["objects"])

    def delete(self, keys: list[str]) -> None:
        """Delete manifests of the run, all at once or none."""
        objects = [{"Key": key} for key in keys]
        failed = self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}).get("Errors")
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(keys)} manifests were not deleted: {failed[0].get('Code')}")


def size_for(films: int, size: int) -> int:
    """Return how many films a manifest takes: ``size``, or more where there were more than MOST manifests."""
    return max(size, -(-films // MOST))
