"""The pointer moves by compare-and-swap alone, and its serial never falls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cxr_pipeline import pointer

pytestmark = pytest.mark.heavy


def bundle(name: str) -> dict[str, Any]:
    return {"bucket": "b", "key": f"models/{name}/bundle.json", "version_id": "v", "sha256": name * 8}


@pytest.fixture
def promote(aws: Any) -> Callable[..., pointer.Pointer]:
    aws.empty("models_bucket", pointer.KEY)

    def write(name: str, champion: pointer.Pointer | None) -> pointer.Pointer:
        return pointer.promote(
            aws.client("s3"), aws.settings["models_bucket"], champion, bundle=bundle(name),
            package_arn=f"arn:{name}", version=name, actor="test", reason="because",
        )  # fmt: skip

    return write


def read(aws: Any) -> pointer.Pointer | None:
    return pointer.read(aws.client("s3"), aws.settings["models_bucket"])


def test_no_pointer_reads_as_none(aws: Any, promote: Callable[..., pointer.Pointer]) -> None:
    assert read(aws) is None


def test_a_promotion_names_its_predecessor_and_raises_the_serial(
    aws: Any, promote: Callable[..., pointer.Pointer]
) -> None:
    promote("2", promote("1", None))
    document = read(aws).document
    assert (document["serial"], document["version"]) == (2, "2")
    assert document["previous"] == {
        "serial": 1, "version": "1", "bundle": bundle("1"), "model_package_arn": "arn:1",
    }  # fmt: skip


def test_of_two_promotions_over_one_champion_the_second_is_refused(
    aws: Any, promote: Callable[..., pointer.Pointer]
) -> None:
    champion = promote("1", None)
    promote("2", champion)
    with pytest.raises(pointer.ChampionChanged):
        promote("3", champion)
    with pytest.raises(pointer.ChampionChanged):
        promote("3", None)
    assert read(aws).document["version"] == "2"


def test_a_rollback_serves_the_predecessor_under_a_new_serial(
    aws: Any, promote: Callable[..., pointer.Pointer]
) -> None:
    bad = promote("2", promote("1", None))
    s3, bucket = aws.client("s3"), aws.settings["models_bucket"]
    restored = pointer.roll_back(s3, bucket, bad, actor="test", reason="smoke")
    assert (restored.serial, restored.document["bundle"]) == (3, bundle("1"))
    with pytest.raises(pointer.ChampionChanged):
        pointer.roll_back(s3, bucket, bad, actor="test", reason="again")


def test_the_serial_goes_on_after_the_first_model_was_withdrawn(
    aws: Any, promote: Callable[..., pointer.Pointer]
) -> None:
    first = promote("1", None)
    s3, bucket = aws.client("s3"), aws.settings["models_bucket"]
    assert pointer.roll_back(s3, bucket, first, actor="test", reason="smoke") is None
    assert read(aws) is None
    assert promote("2", None).serial == 2


def test_history_tells_under_which_serial_a_bundle_served_last(
    aws: Any, promote: Callable[..., pointer.Pointer]
) -> None:
    promote("1", promote("2", promote("1", None)))
    s3, bucket = aws.client("s3"), aws.settings["models_bucket"]
    assert pointer.served_as(s3, bucket, bundle("1")["sha256"]) == 3
    assert pointer.served_as(s3, bucket, bundle("9")["sha256"]) is None
