"""Only what bundle.json names leaves the archive, and only if size and sha256 agree."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from cxr_pipeline.bundle import REQUIRED, BundleRefused, publish


class Missing(Exception):
    def __init__(self) -> None:
        self.response = {"Error": {"Code": "NoSuchKey"}}


class Store:
    """Objects by (bucket, key), with the calls that `publish` makes."""

    class exceptions:
        ClientError = Missing

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if (Bucket, Key) not in self.objects:
            raise Missing
        return {"Body": io.BytesIO(self.objects[Bucket, Key]), "VersionId": "v1"}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **_: Any) -> dict[str, Any]:
        self.objects[Bucket, Key] = Body
        return {"VersionId": "v1"}

    def download_fileobj(self, bucket: str, key: str, file: Any) -> None:
        file.write(self.objects[bucket, key])

    def upload_fileobj(self, file: Any, bucket: str, key: str, **_: Any) -> None:
        self.objects[bucket, key] = file.read()


FILES = {name: name.encode() * 3 for name in REQUIRED}


def manifest(files: dict[str, bytes]) -> bytes:
    entries = {n: {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in files.items()}
    return json.dumps({"files": entries}).encode()


def store_with(members: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], None] = lambda m: None) -> Store:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, body in members:
            member = tarfile.TarInfo(name)
            member.size = len(body)
            change(member)
            archive.addfile(member, io.BytesIO(body))
    store = Store()
    store.objects["models", "training/j/output/model.tar.gz"] = packed.getvalue()
    return store


def put(store: Store) -> dict[str, Any]:
    return publish(store, "s3://models/training/j/output/model.tar.gz", "models", "models/j/")


def test_a_good_bundle_is_unpacked_beside_its_manifest() -> None:
    raw = manifest(FILES)
    store = store_with([("./bundle.json", raw), *FILES.items()])
    assert put(store) == {
        "bucket": "models", "key": "models/j/bundle.json", "version_id": "v1",
        "sha256": hashlib.sha256(raw).hexdigest(),
    }  # fmt: skip
    assert {k for _, k in store.objects if k.startswith("models/")} == {
        f"models/j/{n}" for n in (*FILES, "bundle.json")
    }


def test_a_published_bundle_is_not_read_from_the_archive_again() -> None:
    store = store_with([("bundle.json", manifest(FILES)), *FILES.items()])
    first = put(store)
    del store.objects["models", "training/j/output/model.tar.gz"]
    assert put(store) == first


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("bundle.json", manifest(FILES)), *list(FILES.items())[1:]], "does not hold it"),
        ([("bundle.json", manifest(FILES)), *FILES.items(), ("model.tflite", b"other")], "twice"),
        ([("bundle.json", manifest({**FILES, "x.sh": b""})), *FILES.items()], "unknown"),
        ([("bundle.json", manifest({"model.keras": b""})), *FILES.items()], "lacks"),
        ([("bundle.json", b"{"), *FILES.items()], "cannot be read"),
        ([("sub/bundle.json", manifest(FILES)), *FILES.items()], "no bundle.json at its root"),
        ([("bundle.json", b" " * (1 << 20) + b"{} "), *FILES.items()], "at most"),
    ],
    ids=[
        "missing member",
        "double member",
        "unknown file",
        "file not named",
        "bad json",
        "not at root",
        "huge manifest",
    ],
)
def test_a_bad_archive_is_refused(members: list[tuple[str, bytes]], why: str) -> None:
    with pytest.raises(BundleRefused, match=why):
        put(store_with(members))


@pytest.mark.parametrize("wrong", [b"model.tfliteX" * 3, b"m" * 36], ids=["size", "sha256"])
def test_bytes_that_the_manifest_does_not_name_are_refused(wrong: bytes) -> None:
    store = store_with([("bundle.json", manifest(FILES)), *{**FILES, "model.tflite": wrong}.items()])
    with pytest.raises(BundleRefused, match=r"model\.tflite has"):
        put(store)
    assert ("models", "models/j/bundle.json") not in store.objects


def test_a_link_is_not_followed() -> None:
    def link(member: tarfile.TarInfo) -> None:
        if member.name == "model.tflite":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"

    with pytest.raises(BundleRefused, match="does not hold it"):
        put(store_with([("bundle.json", manifest(FILES)), *FILES.items()], link))


def test_what_is_no_archive_is_refused() -> None:
    store = Store()
    store.objects["models", "training/j/output/model.tar.gz"] = b"not gzip"
    with pytest.raises(BundleRefused, match="no readable"):
        put(store)
