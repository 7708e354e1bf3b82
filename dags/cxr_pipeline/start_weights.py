"""Start weights are one file in the datasets bucket, all that the training role reads; its digest marks the job."""

from __future__ import annotations

from typing import Any

from cxr_pipeline.dataset import DatasetRefused, digest_of
from cxr_pipeline.objects import listing, split_uri

SUFFIX = ".weights.h5"


def locate(s3: Any, datasets_bucket: str, params: dict[str, Any]) -> tuple[str | None, str]:
    """Return (the weights channel's address, the digest of what lies there), or (None, "") without a channel.

    Raises DatasetRefused.
    """
    if params["weights"] != "channel":
        return None, ""
    uri = params["weights_uri"] or f"s3://{datasets_bucket}/weights/vgg16/"
    bucket, prefix = split_uri(uri)
    if bucket != datasets_bucket:
        raise DatasetRefused(
            f"{uri} lies in another bucket than {datasets_bucket}, the only one whose weights the training role reads; "
            "copy the file there"
        )
    files = [
        f"{o['Key']}\t{o['Size']}\t{o['ETag']}\n" for o in listing(s3, bucket, prefix) if o["Key"].endswith(SUFFIX)
    ]
    if len(files) != 1:
        raise DatasetRefused(f"{uri} holds {len(files)} files *{SUFFIX}; exactly one is expected")
    return uri, digest_of(files)
