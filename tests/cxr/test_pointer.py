"""The pointer moves by compare-and-swap alone, its serial never falls, and nothing falls back to a withdrawn model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
from moto import mock_aws

from cxr import pointer
from cxr.pointer import Move, PointerError, PointerMoved, PointerStore, Release

BUCKET = "models"
BY = Move("test", "because")
SCHEMA = json.loads(Path(pointer.__file__).with_name("pointer.schema.json").read_text())
GOOD: dict[str, Any] = {
    "schema_version": 1,
    "serial": 7,
    "version": "7",
    "bundle": {"bucket": "b", "key": "models/j/bundle.json", "version_id": None, "sha256": "0" * 64},
    "model_package_arn": "arn",
    "previous": None,
}


def release(name: str) -> Release:
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:model-package/cxr/{name}"
    return Release(name, BUCKET, f"models/{name}/bundle.json", "v", name * 64, arn)


@pytest.fixture
def store() -> Iterator[PointerStore]:
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield PointerStore(s3, BUCKET)


def test_no_pointer_reads_as_none(store: PointerStore) -> None:
    assert store.read() is None


def test_a_promotion_names_its_predecessor_and_raises_the_serial(store: PointerStore) -> None:
    first = store.promote(release("1"), None, BY)
    second = store.promote(release("2"), first, BY)
    assert store.read() == second
    assert (second.pointer.current.serial, second.pointer.previous) == (2, first.pointer.current)


def test_of_two_promotions_over_one_model_the_second_is_refused(store: PointerStore) -> None:
    first = store.promote(release("1"), None, BY)
    second = store.promote(release("2"), first, BY)
    for over in (first, None):
        with pytest.raises(PointerMoved):
            store.promote(release("3"), over, BY)
    assert store.read() == second


def test_a_rollback_serves_the_predecessor_under_a_new_serial_and_names_no_model_to_fall_back_to(
    store: PointerStore,
) -> None:
    bad = store.promote(release("2"), store.promote(release("1"), None, BY), BY)
    restored = store.roll_back(bad, BY)
    assert restored is not None and restored.pointer.previous is None
    assert (restored.pointer.current.serial, restored.pointer.current.sha256) == (3, release("1").sha256)
    with pytest.raises(PointerMoved):
        store.roll_back(bad, BY)


def test_the_serial_goes_on_after_the_first_model_was_withdrawn(store: PointerStore) -> None:
    first = store.promote(release("1"), None, BY)
    assert store.roll_back(first, BY) is None and store.read() is None
    with pytest.raises(PointerMoved):
        store.roll_back(first, BY)
    assert store.promote(release("2"), None, BY).pointer.current.serial == 2


def test_history_tells_under_which_serial_a_bundle_answered_last(store: PointerStore) -> None:
    seen = None
    for name in ("1", "2", "1"):
        seen = store.promote(release(name), seen, BY)
    assert store.served_as(release("1").sha256) == 3
    assert store.served_as(release("9").sha256) is None


def test_every_document_that_is_written_fits_the_schema_and_reads_as_it_was(store: PointerStore) -> None:
    first = store.promote(release("1"), None, BY)
    restored = store.roll_back(store.promote(release("2"), first, BY), BY)
    assert restored is not None
    for written in store.history():
        jsonschema.validate(written.as_json(), SCHEMA)
        assert pointer.parse(written.to_bytes()) == written


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"serial": "7"},
        {"serial": True},
        {"serial": -1},
        {"serial": 1e400},
        {"version": None},
        {"version": ["7"]},
        {"model_package_arn": 7},
        {"reason": {}},
        {"bundle": None},
        {"bundle": {**GOOD["bundle"], "sha256": "xyz"}},
        {"bundle": {**GOOD["bundle"], "key": ""}},
        {"bundle": {**GOOD["bundle"], "bucket": 7}},
        {"bundle": {**GOOD["bundle"], "version_id": 7}},
        {"previous": {"serial": 6}},
        {"previous": []},
    ],
)
def test_a_pointer_of_the_wrong_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PointerError):
        pointer.parse(json.dumps({**GOOD, **changes}).encode())


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[" * 100_000, b'{"serial": ' + b"9" * 5000 + b"}", b"[1]", b"7"])
def test_what_is_no_pointer_ends_in_one_refusal(text: bytes) -> None:
    with pytest.raises(PointerError):
        pointer.parse(text)


def test_files_lie_beside_the_manifest() -> None:
    found = pointer.parse(json.dumps(GOOD).encode())
    assert found.current.beside("model.tflite") == "models/j/model.tflite" and found.previous is None
