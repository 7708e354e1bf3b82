"""Objects of S3: listings, JSON, and None for what is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cxr.pointer import error_code

MAX_KEY_BYTES = 1024  # S3's bound


def listing(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield ``{"Key", "Size", "ETag", "LastModified"}`` of every object under ``prefix``, in S3's order."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", ())


def find(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """Return S3's answer for an object, or None where there is none."""
    try:
        answer: dict[str, Any] = s3.get_object(Bucket=bucket, Key=key)
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("NoSuchKey", "404"):
            return None
        raise
    return answer


def find_bytes(s3: Any, bucket: str, key: str) -> bytes | None:
    """Return an object's bytes, or None where there is none."""
    found = find(s3, bucket, key)
    return None if found is None else found["Body"].read()


def read_bytes(s3: Any, bucket: str, key: str) -> bytes:
    """Return an object's bytes."""
    content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def find_json(s3: Any, bucket: str, key: str) -> Any:
    """Return what an object of JSON says, or None where there is none."""
    content = find_bytes(s3, bucket, key)
    return None if content is None else json.loads(content)


def read_json(s3: Any, bucket: str, key: str) -> Any:
    """Return what an object of JSON says."""
    return json.loads(read_bytes(s3, bucket, key))


def write_json(s3: Any, bucket: str, key: str, document: Any) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode(), ContentType="application/json")


def copy_bytes(s3: Any, source: tuple[str, str], target: tuple[str, str]) -> None:
    """Copy an object, (bucket, key) to (bucket, key), without its metadata and tags, which may name a patient."""
    s3.copy_object(
        Bucket=target[0], Key=target[1], CopySource={"Bucket": source[0], "Key": source[1]},
        MetadataDirective="REPLACE", TaggingDirective="REPLACE",
    )  # fmt: skip


def split_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of an s3:// address; a key may hold any character, ``#`` and ``?`` too.

    Raises ValueError for any other address.
    """
    scheme, _, rest = uri.partition("://")
    bucket, slash, key = rest.partition("/")
    if scheme != "s3" or not bucket or not slash:
        raise ValueError(f"{uri!r} is no s3://bucket/key address")
    return bucket, key
