"""Sums of list prices, each with what it assumes; nothing here was billed.

The tables of docs/costs.md are made by `python -m benchmarks.capacity` from these functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PRICES = {
    "Lambda, x86, GB-s": 0.0000166667,
    "Lambda, million requests": 0.20,
    "S3, million GET": 0.40,
    "S3, million PUT": 5.00,
    "S3, GB-month": 0.023,
    "SQS, million requests": 0.40,
    "CloudWatch Logs, GB": 0.50,
    "CloudWatch, alarm-month": 0.10,
    "CloudWatch, metric-month": 0.30,
    "KMS, key-month": 1.00,
    "KMS, million requests": 3.00,
    "ECR, GB-month": 0.10,
    "ml.g5.xlarge training, hour": 1.408,
    "ml.g4dn.xlarge training, hour": 0.736,
    "MWAA mw1.small, hour": 0.49,
}
"""Dollars, us-east-1 list prices from memory; check them before you rely on a sum."""
KB_PER_FILM = {"result": 1.5, "heat map": 60.0, "log": 0.7}
BUCKET_KEY = 0.02
"""Share of S3's calls that reach KMS although the buckets use bucket keys; an assumption."""


def per_million(vnni_seconds: float, avx2_seconds: float, memory_gb: float) -> Iterator[list[Any]]:
    """Rows of the table: a million films through the uploads queue in batches of ten, dollars on either CPU."""
    compute = (1e6 * seconds * memory_gb * PRICES["Lambda, x86, GB-s"] for seconds in (vnni_seconds, avx2_seconds))
    written_gb = (KB_PER_FILM["result"] + KB_PER_FILM["heat map"]) * 1e6 / 1e6
    shares = [
        ("Lambda compute", *compute),
        ("Lambda requests (batches of 10)", *[0.1 * PRICES["Lambda, million requests"]] * 2),
        ("S3: HEAD and GET", *[2 * PRICES["S3, million GET"]] * 2),
        ("S3: PUT of upload, result, heat map", *[3 * PRICES["S3, million PUT"]] * 2),
        ("SQS: send, receive and delete by ten", *[1.2 * PRICES["SQS, million requests"]] * 2),
        ("KMS (bucket keys)", *[5 * BUCKET_KEY * PRICES["KMS, million requests"]] * 2),
        ("logs and metrics", *[KB_PER_FILM["log"] * PRICES["CloudWatch Logs, GB"]] * 2),
    ]
    yield from ([name, round(vnni, 2), round(avx2, 2)] for name, vnni, avx2 in shares)
    yield ["together", round(sum(v for _, v, _ in shares), 2), round(sum(a for _, _, a in shares), 2)]
    yield [
        f"and each month that the {written_gb:.0f} GB of results are kept",
        *[round(written_gb * PRICES["S3, GB-month"], 2)] * 2,
    ]


def per_retraining() -> Iterator[list[Any]]:
    """Rows of the table: 5,216 films, dollars; minutes from start to upload, of which three are image and data."""
    for work, instance, minutes in (
        ("frozen base, features once", "ml.g4dn.xlarge", 6),
        ("frozen base, features once", "ml.g5.xlarge", 5),
        ("two blocks fine-tuned, 8 epochs", "ml.g4dn.xlarge", 12),
        ("two blocks fine-tuned, 8 epochs", "ml.g5.xlarge", 8),
    ):
        yield [work, instance, minutes, round(minutes / 60 * PRICES[f"{instance} training, hour"], 2)]


def idle(
    alarms: int = 9, watched: int = 16, own: int = 11, images_gb: float = 9.0, dataset_gb: float = 1.2
) -> Iterator[list[Any]]:
    """Rows of the table: a month in which nothing happens, dollars."""
    rows = [
        ["KMS key", PRICES["KMS, key-month"]],
        [f"{alarms} alarms over {watched} metrics", watched * PRICES["CloudWatch, alarm-month"]],
        [f"{own} metrics of the function, in a month with films", own * PRICES["CloudWatch, metric-month"]],
        [
            f"images ({images_gb:.0f} GB, most of it the base of the training image)",
            images_gb * PRICES["ECR, GB-month"],
        ],
        [f"data set ({dataset_gb} GB)", dataset_gb * PRICES["S3, GB-month"]],
        [
            "polling of two empty queues (5 pollers each, 20 s)",
            2 * 5 * 3 * 60 * 24 * 30 / 1e6 * PRICES["SQS, million requests"],
        ],
    ]
    yield from ([name, round(dollars, 2)] for name, dollars in rows)
    yield ["together", round(sum(dollars for _, dollars in rows), 2)]
    yield ["Amazon MWAA, smallest environment, if it is used", round(PRICES["MWAA mw1.small, hour"] * 730, 2)]
