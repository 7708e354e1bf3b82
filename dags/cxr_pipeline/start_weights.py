"""Start weights are one file in the datasets bucket, all that the training role reads; its digest marks the job."""

from __future__ import annotations

from typing import Any

from cxr_pipeline.bundle import split_uri
from cxr_pipeline.dataset import DatasetRefused, digest_of, listing

SUFFIX = ".weights.h5"


def locate(s3: Any, datasets_bucket: str, params: dict[str, Any]) -> tuple[str, str]:
    """Return the weights channel's address and the digest of what lies there, or two empty strings without a channel.

    Raises DatasetRefused.
    """
    if params["weights"] != "channel":
        return "", ""
    uri = params["weights_uri"] or f"s3://{datasets_bucket}/weights/vgg16/"
    bucket, prefix = split_uri(uri)
    if bucket != datasets_bucket:
        raise DatasetRefused(
            f"{uri} lies in another bucket than {datasets_bucket}, the only one whose weights the training role reads; "
            "copy the file there"
        )
    digest, files = digest_of(listing(s3, bucket, prefix), suffix=SUFFIX)
    if files != 1:
        raise DatasetRefused(f"{uri} holds {files} files *{SUFFIX}; exactly one is expected")
    return uri, digest
