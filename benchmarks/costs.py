"""Sums of list prices, each with what it assumes; nothing here was billed.

The tables of docs/costs.md are made from these functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.film_times import NOTE, URGENT, Serving
from benchmarks.queueing import OVERHEAD_SECONDS, START
from benchmarks.record import RESULTS, Table, table
from infra.config import Config

PRICES = {
    "Lambda, x86, GB-s": 0.0000166667,
    "Lambda, arm64, GB-s": 0.0000133334,
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
"""Dollars, us-east-1 list prices from memory; check them before you rely on a sum. No free tier is taken off."""
MEMORY_GB = Config().memory_size / 1024
BUCKET_KEY = 0.02
"""Share of S3's calls that reach KMS although the buckets use bucket keys; an assumption."""
PLATFORM_LOG_KB = 1.0
"""Lambda's own records of an invocation in the log (start, report); an assumption."""
IMAGES_GB, DATASET_GB = 9.0, 1.2
"""Stored images (the training image's base alone has 8) and one data set of 5,856 films at camera size; assumptions."""
ALARMS, WATCHED, OWN_METRICS = 9, 16, 11
"""Alarms of infra/service.yaml, metrics that they watch, and metrics that the function writes."""
POLL_SECONDS = 20
"""AWS's long poll of an empty queue."""
HOURS_A_MONTH = 730


def kb_per_film() -> dict[str, float]:
    """Kilobytes of result, heat map and log, as benchmarks.film_sizes measured them (committed)."""
    return json.loads((RESULTS / "film_sizes.json").read_text())["kb_per_film"]


def compute(seconds: float) -> float:
    """Dollars for billed seconds of the function."""
    return seconds * MEMORY_GB * PRICES["Lambda, x86, GB-s"]


def per_batch_size(batch: int) -> dict[str, float]:
    """Dollars of a million films that depend on how many come in one invocation."""
    return {
        "overhead": compute(1e6 * OVERHEAD_SECONDS / batch),
        "Lambda requests": PRICES["Lambda, million requests"] / batch,
        "SQS": (1 + 2 / batch) * PRICES["SQS, million requests"],
        "platform log": PLATFORM_LOG_KB / batch * PRICES["CloudWatch Logs, GB"],
    }


def shared(kb: Mapping[str, float], batch: int = Config().batch_size) -> dict[str, float]:
    """Dollars of a million films through the uploads queue in full batches, of which `URGENT` get a picture: all but
    the function's time.
    """
    by_batch, put = per_batch_size(batch), PRICES["S3, million PUT"]
    calls = 4 + URGENT  # HEAD and GET, the PUTs of upload and result, and those of the pictures
    return {
        f"Lambda requests (batches of {batch})": by_batch["Lambda requests"],
        "S3: HEAD and GET": 2 * PRICES["S3, million GET"],
        "S3: PUT of the upload": put,
        "S3: PUT of the result": put,
        f"S3: PUT of the heat map's picture ({URGENT:.0%} of films)": URGENT * put,
        f"SQS: send each, receive and delete by {batch}": by_batch["SQS"],
        "KMS (bucket keys)": calls * BUCKET_KEY * PRICES["KMS, million requests"],
        "log": kb["log"] * PRICES["CloudWatch Logs, GB"] + by_batch["platform log"],
    }


def per_million(servings: Sequence[Serving], kb: Mapping[str, float]) -> Iterator[list[Any]]:
    """Rows of the table: a million films on each serving; dollars of the function's time, and with all the rest."""
    rest, overhead = sum(shared(kb).values()), per_batch_size(Config().batch_size)["overhead"]
    for serving in servings:
        dollars = compute(1e6 * serving.film_seconds) + overhead
        yield [serving.name, round(1000 * serving.film_seconds), round(dollars, 2), round(dollars + rest, 2)]


def per_retraining() -> Iterator[list[Any]]:
    """Rows of the table: 5,216 films, dollars; minutes from start to upload, of which three are image and data."""
    for work, instance, minutes in (
        ("frozen base, features once", "ml.g4dn.xlarge", 6),
        ("frozen base, features once", "ml.g5.xlarge", 5),
        ("two blocks fine-tuned, 8 epochs", "ml.g4dn.xlarge", 12),
        ("two blocks fine-tuned, 8 epochs", "ml.g5.xlarge", 8),
    ):
        yield [work, instance, minutes, round(minutes / 60 * PRICES[f"{instance} training, hour"], 2)]


def idle() -> Iterator[list[Any]]:
    """Rows of the table: a month in which nothing happens, dollars."""
    polls = 2 * START * HOURS_A_MONTH * 3600 / POLL_SECONDS
    rows = {
        "KMS key": PRICES["KMS, key-month"],
        f"{ALARMS} alarms over {WATCHED} metrics": WATCHED * PRICES["CloudWatch, alarm-month"],
        f"{OWN_METRICS} metrics of the function, in a month with films": OWN_METRICS
        * PRICES["CloudWatch, metric-month"],
        f"images ({IMAGES_GB:.0f} GB, most of it the base of the training image)": IMAGES_GB * PRICES["ECR, GB-month"],
        f"data set ({DATASET_GB} GB)": DATASET_GB * PRICES["S3, GB-month"],
        f"polling of two empty queues ({START} pollers each, {POLL_SECONDS} s)": polls
        / 1e6
        * PRICES["SQS, million requests"],
    }
    yield from ([name, round(dollars, 2)] for name, dollars in rows.items())
    yield ["together", round(sum(rows.values()), 2)]
    mwaa = round(PRICES["MWAA mw1.small, hour"] * HOURS_A_MONTH, 2)
    yield ["Amazon MWAA, class mw1.small with one worker, if it is used", mwaa]


def tables(found: Sequence[Serving], kb: Mapping[str, float]) -> dict[str, Table]:
    """What films, a retraining and a month without either cost."""
    parts = [[name, round(dollars, 2)] for name, dollars in shared(kb).items()]
    kept = kb["result"] + URGENT * kb["heat map"]  # GB of a million films
    month = [f"and each month that the {kept:.0f} GB of results are kept", round(kept * PRICES["S3, GB-month"], 2)]
    return {
        "cost_per_million": table(
            "CPU, model | ms a film | Lambda compute $ | together $",
            list(per_million(found, kb)),
            f"Per million films, list prices. {NOTE}",
        ),
        "cost_shared": table(
            "$ per million films, on every host | $",
            [*parts, ["all but compute", round(sum(shared(kb).values()), 2)], month],
            "List prices.",
        ),
        "cost_per_retraining": table(
            "what is trained | instance | minutes (assumed) | $",
            list(per_retraining()),
            "List prices; spot takes 50 to 70 % off.",
        ),
        "cost_idle": table("idle | $ a month", list(idle()), "List prices."),
    }
