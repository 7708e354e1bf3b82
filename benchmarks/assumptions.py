"""Every constant behind the tables of docs/costs.md, its value and where it comes from: the list is made from the
constants themselves, so that none is used without being stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.costs import BUCKET_KEY, DATASET_GB, IMAGES_GB, PLATFORM_LOG_KB
from benchmarks.film_times import S3_CALL_SECONDS, URGENT, VNNI_INFER_SECONDS
from benchmarks.queueing import COLD_SECONDS, OVERHEAD_SECONDS, PER_MINUTE, READERS, START
from infra.config import Config

FILMS_PER_MESSAGE = 10
"""Of a backlog message, as the DAG classify_backlog writes it."""
S3_PUTS_PER_SECOND = 3_500
"""AWS's documentation: per partitioned prefix; each film is one PUT below results/ and at most one below heatmaps/."""
ACCOUNT_CONCURRENCY, UNRESERVED = 1_000, 100
"""AWS's documentation: default limit of an account in a region, and what must stay unreserved of it."""
SETTING, DOCUMENTED, ASSUMED = "default of infra/config.py", "AWS's documentation, from memory", "assumed"
MEASURED, SIZED = "measured: benchmarks/results/inference.json", "measured: benchmarks/results/film_sizes.json"


def assumptions(inference: Mapping[str, Any], kb: Mapping[str, float]) -> list[list[str]]:
    """Rows of the table, from a result of benchmarks.inference and the kilobytes of benchmarks.film_sizes."""
    deployed, handler = Config(), inference["function"]["threads_1"]["wall_ms"]["handler"]
    start = inference["cold_start"]["function"]["wall_ms"] / 1000
    vnni = ", ".join(
        f"{seconds * 1000:.0f} ms ({name}, {side} px)" for (name, side), seconds in VNNI_INFER_SECONDS.items()
    )
    receives = f"{deployed.visibility_timeout} s, {deployed.max_receive_count}"
    return [
        ["the function without S3, AVX2, int8, 224 px", f"{handler:.0f} ms", MEASURED],
        ["the network alone, AVX-512 VNNI", vnni, "the design's notes, another machine; not measured here"],
        ["the network alone at 112 px, AVX2", "a quarter of that at 224 px", "as many operations as that"],
        ["films that are urgent: those with a picture of the heat map", f"{URGENT:.0%}", ASSUMED],
        ["S3 for each call: HEAD, GET, PUT of result and picture", f"{1000 * S3_CALL_SECONDS:.0f} ms", ASSUMED],
        ["films differ in time", "not at all", ASSUMED],
        ["overhead of an invocation", f"{OVERHEAD_SECONDS * 1000:.0f} ms", ASSUMED],
        ["cold start", f"{COLD_SECONDS} s", f"assumed; {start:.1f} s measured without image and download"],
        ["memory", f"{deployed.memory_size} MB, one virtual CPU", SETTING],
        ["batch and window", f"{deployed.batch_size} films, {deployed.batching_window} s", SETTING],
        ["visibility timeout and deliveries", receives, SETTING],
        ["films in a backlog message", f"{FILMS_PER_MESSAGE}, one message to an invocation", "DAG classify_backlog"],
        ["growth of an event source", f"{START} at a time, then {PER_MINUTE} more a minute", DOCUMENTED],
        ["batches that it gathers at the same time", f"{READERS}", ASSUMED],
        ["S3's writes", f"{S3_PUTS_PER_SECOND} PUT/s for a partitioned prefix", DOCUMENTED],
        ["an account's concurrency", f"{ACCOUNT_CONCURRENCY}, {UNRESERVED} of them unreserved", DOCUMENTED],
        ["result and heat map of a film", f"{kb['result']} and {kb['heat map']} KB", SIZED],
        ["log of a film", f"{kb['log']} KB", SIZED],
        ["Lambda's own log of an invocation", f"{PLATFORM_LOG_KB} KB", ASSUMED],
        ["S3's calls that reach KMS in spite of bucket keys", f"{BUCKET_KEY:.0%}", ASSUMED],
        ["images and data set", f"{IMAGES_GB} and {DATASET_GB} GB", ASSUMED],
        ["prices", "us-east-1, no free tier, no discount", "list prices from memory: benchmarks/costs.py"],
    ]
