"""Where the start weights may lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cxr_pipeline.dataset import DatasetRefused
from cxr_pipeline.start_weights import locate

BUCKET = "datasets"


class Listing:
    """S3's listing of one bucket: key -> ETag."""

    def __init__(self, **etags: str) -> None:
        self.etags = {key.replace("__", "/"): etag for key, etag in etags.items()}

    def get_paginator(self, name: str) -> Listing:
        assert name == "list_objects_v2"
        return self

    def paginate(self, Bucket: str, Prefix: str, **_: Any) -> Iterator[dict[str, Any]]:
        assert Bucket == BUCKET
        yield {
            "Contents": [
                {"Key": f"{key}.weights.h5", "ETag": etag, "Size": 7}
                for key, etag in self.etags.items()
                if key.startswith(Prefix)
            ]
        }


def test_weights_that_the_job_downloads_itself_need_no_channel() -> None:
    assert locate(Listing(), BUCKET, {"weights": "imagenet", "weights_uri": None}) == (None, "")


def test_the_digest_follows_the_file() -> None:
    found = [
        locate(Listing(weights__vgg16__notop=etag), BUCKET, {"weights": "channel", "weights_uri": None})
        for etag in ("one", "another")
    ]
    assert [uri for uri, _ in found] == ["s3://datasets/weights/vgg16/"] * 2
    assert found[0][1] != found[1][1]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("s3://elsewhere/vgg16/", "another bucket than datasets.*copy the file there"),
        ("s3://datasets/empty/", r"holds 0 files \*\.weights\.h5"),
        ("s3://datasets/two/", r"holds 2 files \*\.weights\.h5"),
    ],
)
def test_weights_that_the_job_could_not_read_are_refused_before_it_is_paid_for(uri: str, why: str) -> None:
    with pytest.raises(DatasetRefused, match=why):
        locate(Listing(two__a="x", two__b="y"), BUCKET, {"weights": "channel", "weights_uri": uri})
