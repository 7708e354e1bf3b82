"""Only what bundle.json names leaves the archive, and only if size and sha256 agree."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from cxr_pipeline import bundle
from cxr_pipeline.bundle import REQUIRED, BundleRefused, Reference, publish

from cxr.bundle import Bundle


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


Members = list[tuple[str, Any]]
"""(name, bytes) of an archive; a dict of files stands for their manifest."""


@pytest.fixture
def store_with(made_bundle: Callable[..., Bundle]) -> Callable[..., Store]:
    def make(members: Members, change: Callable[[tarfile.TarInfo], None] = lambda m: None) -> Store:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in members:
                body = made_bundle(content).to_json() if isinstance(content, dict) else content
                member = tarfile.TarInfo(name)
                member.size = len(body)
                change(member)
                archive.addfile(member, io.BytesIO(body))
        store = Store()
        store.objects["models", "training/j/output/model.tar.gz"] = packed.getvalue()
        return store

    return make


def put(store: Store) -> Reference:
    return publish(store, "s3://models/training/j/output/model.tar.gz", "models", "models/j/")[0]


def test_a_good_bundle_is_unpacked_beside_its_manifest(
    store_with: Callable[..., Store], made_bundle: Callable[..., Bundle]
) -> None:
    raw = made_bundle(FILES).to_json()
    store = store_with([("./bundle.json", raw), *FILES.items()])
    assert put(store) == {
        "bucket": "models", "key": "models/j/bundle.json", "version_id": "v1",
        "sha256": hashlib.sha256(raw).hexdigest(),
    }  # fmt: skip
    assert {k for _, k in store.objects if k.startswith("models/")} == {
        f"models/j/{n}" for n in (*FILES, "bundle.json")
    }


def test_a_published_bundle_is_not_read_from_the_archive_again(store_with: Callable[..., Store]) -> None:
    store = store_with([("bundle.json", FILES), *FILES.items()])
    first = put(store)
    del store.objects["models", "training/j/output/model.tar.gz"]
    assert put(store) == first


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("bundle.json", FILES), *list(FILES.items())[1:]], "does not hold it"),
        ([("bundle.json", FILES), *FILES.items(), ("model.tflite", b"other")], "twice"),
        ([("bundle.json", FILES | {"x.sh": b""}), *FILES.items()], "unknown"),
        ([("bundle.json", {"model.tflite": b""}), *FILES.items()], "lacks"),
        ([("bundle.json", b"{"), *FILES.items()], "no JSON"),
        ([("bundle.json", b"[" * 200_000), *FILES.items()], "recursion"),
        ([("bundle.json", b'{"files": {"model.tflite": 7}}'), *FILES.items()], "bundle.json"),
        ([("sub/bundle.json", FILES), *FILES.items()], "no bundle.json at its root"),
        ([("bundle.json", b" " * (1 << 20) + b"{} "), *FILES.items()], "at most"),
    ],
    ids=[
        "missing member",
        "double member",
        "unknown file",
        "file not named",
        "bad json",
        "deep json",
        "unsound",
        "not at root",
        "huge manifest",
    ],
)
def test_a_bad_archive_is_refused(members: Members, why: str, store_with: Callable[..., Store]) -> None:
    with pytest.raises(BundleRefused, match=why):
        put(store_with(members))


@pytest.mark.parametrize("wrong", [b"model.tfliteX" * 3, b"m" * 36], ids=["size", "sha256"])
def test_bytes_that_the_manifest_does_not_name_are_refused(wrong: bytes, store_with: Callable[..., Store]) -> None:
    store = store_with([("bundle.json", FILES), *{**FILES, "model.tflite": wrong}.items()])
    with pytest.raises(BundleRefused, match=r"model\.tflite has"):
        put(store)
    assert ("models", "models/j/bundle.json") not in store.objects


def test_a_link_is_not_followed(store_with: Callable[..., Store]) -> None:
    def link(member: tarfile.TarInfo) -> None:
        if member.name == "model.tflite":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"

    with pytest.raises(BundleRefused, match="does not hold it"):
        put(store_with([("bundle.json", FILES), *FILES.items()], link))


@pytest.mark.parametrize("cut", [0, 100, 300], ids=["empty", "cut off in its manifest", "cut off later"])
def test_what_is_no_whole_archive_is_refused(cut: int, store_with: Callable[..., Store]) -> None:
    store = store_with([("bundle.json", FILES), *FILES.items()])
    key = ("models", "training/j/output/model.tar.gz")
    for broken in (store.objects[key][:cut], b"not gzip", store.objects[key][:200] + b"x" * 200):
        store.objects[key] = broken
        with pytest.raises(BundleRefused, match="no readable"):
            put(store)


def test_an_archive_that_unpacks_without_end_is_refused(
    store_with: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_ARCHIVE_BYTES", 10_000)
    with pytest.raises(BundleRefused, match="unpacks to more than 10000 bytes"):
        put(store_with([("bundle.json", FILES), *FILES.items(), ("zeros", bytes(20_000))]))
