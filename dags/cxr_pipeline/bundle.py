"""Nothing of an archive is trusted: only the files that bundle.json names leave it, checked for size and sha256.

No extractall: members are read one by one, regular files only, into temporary files that no name can lead astray.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlsplit

from cxr_pipeline.clients import error_code

REQUIRED = ("model.keras", "model.tflite", "golden.npz", "metrics.json", "predictions.csv")
OPTIONAL = ("report.html", "model_card.md")
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 2 << 30  # VGG16 with its head is 60 to 130 MB; ten times that is not ours
CHUNK = 1 << 20
CONTENT_TYPES = {"json": "application/json", "csv": "text/csv", "html": "text/html", "md": "text/markdown"}


class BundleRefused(Exception):
    """The training job's archive is not a bundle that can be put into service."""


def split_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of an s3:// address."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError(f"{uri!r} is no s3://bucket/key address")
    return parts.netloc, parts.path.lstrip("/")


def publish(s3: Any, model_data: str, bucket: str, prefix: str) -> dict[str, Any]:
    """Unpack the archive ``model_data`` (s3://) beside ``prefix``bundle.json in ``bucket``.

    Returns ``{"bucket", "key", "version_id", "sha256"}`` of bundle.json, which is written last: where it lies, the
    bundle is whole, and a second call returns it without reading the archive. Raises BundleRefused.
    """
    key = f"{prefix}bundle.json"
    present = _present(s3, bucket, key)
    if present:
        return present
    with _archive(s3, model_data) as archive:
        members = _members(archive, model_data)
        raw = _read_small(archive, members, "bundle.json")
        for name, expected in _files(raw).items():
            with _checked(archive, members, name, expected) as content:
                s3.upload_fileobj(content, bucket, f"{prefix}{name}", ExtraArgs={"ContentType": _content_type(name)})
    answer = s3.put_object(Bucket=bucket, Key=key, Body=raw, ContentType="application/json")
    return _reference(bucket, key, answer.get("VersionId"), raw)


def read_json(s3: Any, bucket: str, key: str) -> dict[str, Any]:
    """Return a JSON object of S3."""
    return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def _present(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("NoSuchKey", "404"):
            return None
        raise
    return _reference(bucket, key, answer.get("VersionId"), answer["Body"].read())


def _reference(bucket: str, key: str, version_id: str | None, raw: bytes) -> dict[str, Any]:
    return {"bucket": bucket, "key": key, "version_id": version_id, "sha256": hashlib.sha256(raw).hexdigest()}


@contextmanager
def _archive(s3: Any, model_data: str) -> Iterator[tarfile.TarFile]:
    bucket, key = split_uri(model_data)
    with tempfile.TemporaryFile() as file:
        s3.download_fileobj(bucket, key, file)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:gz") as archive:
                yield archive
        except tarfile.TarError as error:
            raise BundleRefused(f"{model_data} is no readable model.tar.gz: {error}") from error


def _members(archive: tarfile.TarFile, model_data: str) -> dict[str, tarfile.TarInfo]:
    """Map the plain names of the regular files at the archive's root to their members; a name must be there once."""
    members: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        name = member.name.removeprefix("./")
        if not member.isreg() or "/" in name:
            continue
        if name in members:
            raise BundleRefused(f"{model_data} holds {name} twice; which one was meant cannot be known")
        members[name] = member
    return members


def _read_small(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    member = members.get(name)
    if member is None:
        raise BundleRefused(f"the archive has no {name} at its root; it holds {sorted(members) or 'no regular file'}")
    if member.size > MAX_MANIFEST_BYTES:
        raise BundleRefused(f"{name} has {member.size} bytes; at most {MAX_MANIFEST_BYTES} are read")
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


def _files(raw: bytes) -> dict[str, dict[str, Any]]:
    """Return bundle.json's files, or refuse it where one is missing or not known."""
    try:
        files: dict[str, dict[str, Any]] = json.loads(raw)["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleRefused(f"bundle.json cannot be read: {error!r}") from error
    missing, unknown = set(REQUIRED) - set(files), set(files) - {*REQUIRED, *OPTIONAL}
    if missing or unknown:
        raise BundleRefused(f"bundle.json lacks {sorted(missing)} and names unknown {sorted(unknown)}")
    return files


@contextmanager
def _checked(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, expected: dict[str, Any]
) -> Iterator[IO[bytes]]:
    """Yield the member's bytes once they are known to be the ones that bundle.json names."""
    member = members.get(name)
    if member is None:
        raise BundleRefused(f"bundle.json names {name}, but the archive does not hold it")
    if member.size != expected["bytes"] or member.size > MAX_FILE_BYTES:
        raise BundleRefused(
            f"{name} has {member.size} bytes; bundle.json says {expected['bytes']}, the limit is {MAX_FILE_BYTES}"
        )
    source = archive.extractfile(member)
    assert source is not None
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as copy:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        if digest.hexdigest() != expected["sha256"]:
            raise BundleRefused(f"{name} has sha256 {digest.hexdigest()}; bundle.json says {expected['sha256']}")
        copy.seek(0)
        yield copy


def _content_type(name: str) -> str:
    return CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
