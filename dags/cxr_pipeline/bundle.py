"""Nothing of an archive is trusted: only the files that bundle.json names leave it, checked for size and sha256.

Members are read one by one, regular files only, into temporary files that no name can lead astray. bundle.json itself
is judged by cxr.bundle, as the function judges it later.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, TypedDict

from cxr.bundle import MANIFEST, MAX_MANIFEST_BYTES, Bundle, BundleError
from cxr.pointer import Release
from cxr_pipeline.objects import find, read_bytes, split_uri

REQUIRED = ("model.keras", "model.tflite", "golden.npz", "metrics.json", "predictions.csv")
OPTIONAL = ("report.html", "model_card.md")
MAX_FILE_BYTES = 2 << 30  # VGG16 with its head is 60 to 130 MB; ten times that is not ours
MAX_ARCHIVE_BYTES = 8 << 30
CHUNK = 1 << 20
CONTENT_TYPES = {"json": "application/json", "csv": "text/csv", "html": "text/html", "md": "text/markdown"}


class BundleRefused(Exception):
    """The training job's archive is not a bundle that can be put into service."""


class Reference(TypedDict):
    """Which bundle.json: its place, its version there and the sha256 of its bytes."""

    bucket: str
    key: str
    version_id: str | None
    sha256: str


def read(s3: Any, release: Release) -> Bundle:
    """Return bundle.json of a model that serves."""
    return Bundle.from_json(read_bytes(s3, release.bucket, release.key))


def publish(s3: Any, model_data: str, bucket: str, prefix: str) -> tuple[Reference, Bundle]:
    """Unpack the archive ``model_data`` (s3://) beside ``prefix``bundle.json in ``bucket``.

    bundle.json is written last: where it lies, the bundle is whole, and a second call returns it without reading the
    archive. Raises BundleRefused.
    """
    key = prefix + MANIFEST
    if present := find(s3, bucket, key):
        raw = present["Body"].read()
        return _reference(bucket, key, present.get("VersionId"), raw), _manifest(raw)
    with _archive(s3, model_data) as archive:
        members = _members(archive, model_data)
        raw = _read_manifest(archive, members)
        manifest = _manifest(raw)
        for name, expected in manifest.files.items():
            with _checked(archive, members, name, expected) as content:
                s3.upload_fileobj(content, bucket, f"{prefix}{name}", ExtraArgs={"ContentType": _content_type(name)})
    answer = s3.put_object(Bucket=bucket, Key=key, Body=raw, ContentType="application/json")
    return _reference(bucket, key, answer.get("VersionId"), raw), manifest


def _reference(bucket: str, key: str, version_id: str | None, raw: bytes) -> Reference:
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
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BundleRefused(f"{model_data} is no readable model.tar.gz: {error}") from error


def _members(archive: tarfile.TarFile, model_data: str) -> dict[str, tarfile.TarInfo]:
    """Map the plain names of the regular files at the archive's root to their members; a name must be there once."""
    members: dict[str, tarfile.TarInfo] = {}
    left = MAX_ARCHIVE_BYTES
    for member in archive:
        left -= member.size
        if member.size < 0 or left < 0:
            raise BundleRefused(f"{model_data} unpacks to more than {MAX_ARCHIVE_BYTES} bytes, the limit")
        name = member.name.removeprefix("./")
        if not member.isreg() or "/" in name:
            continue
        if name in members:
            raise BundleRefused(f"{model_data} holds {name} twice; which one was meant cannot be known")
        members[name] = member
    return members


def _read_manifest(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> bytes:
    member = members.get(MANIFEST)
    if member is None:
        raise BundleRefused(f"the archive has no {MANIFEST} at its root; it holds {len(members)} other files there")
    if member.size > MAX_MANIFEST_BYTES:
        raise BundleRefused(f"{MANIFEST} has {member.size} bytes; at most {MAX_MANIFEST_BYTES} are read")
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


def _manifest(raw: bytes) -> Bundle:
    """Return bundle.json, or refuse it where it is unsound, or lacks a file or names an unknown one."""
    try:
        manifest = Bundle.from_json(raw)
    except (BundleError, RecursionError) as error:
        raise BundleRefused(str(error)) from error
    missing, unknown = set(REQUIRED) - set(manifest.files), set(manifest.files) - {*REQUIRED, *OPTIONAL}
    if missing or unknown:
        raise BundleRefused(f"{MANIFEST} lacks {sorted(missing)} and names unknown {sorted(unknown)}")
    return manifest


@contextmanager
def _checked(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, expected: dict[str, Any]
) -> Iterator[IO[bytes]]:
    """Yield the member's bytes once they are known to be the ones that bundle.json names."""
    member = members.get(name)
    if member is None:
        raise BundleRefused(f"{MANIFEST} names {name}, but the archive does not hold it")
    if member.size != expected["bytes"] or member.size > MAX_FILE_BYTES:
        raise BundleRefused(
            f"{name} has {member.size} bytes; {MANIFEST} says {expected['bytes']}, the limit is {MAX_FILE_BYTES}"
        )
    source = archive.extractfile(member)
    assert source is not None
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as copy:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        if digest.hexdigest() != expected["sha256"]:
            raise BundleRefused(f"{name} has sha256 {digest.hexdigest()}; {MANIFEST} says {expected['sha256']}")
        copy.seek(0)
        yield copy


def _content_type(name: str) -> str:
    return CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
