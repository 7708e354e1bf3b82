"""A promotion is believed when the Lambda itself, asked for a few golden films, answers as the training job did."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError

from cxr_pipeline.dataset import listing

PREFIX = "_smoke/"
ATTEMPTS = 5  # how often films that the function hands back as unfinished are asked for again
PAUSE_SECONDS = 2.0


class SmokeFailed(Exception):
    """The function does not answer as the promoted model should."""


@dataclass(frozen=True)
class Golden:
    """A test film with the probability that the training job measured on the deployed graph."""

    file: str
    probability: float


def choose(predictions_csv: bytes, films: int) -> list[Golden]:
    """Choose ``films`` test films, half of each class, spread over the range of probabilities."""
    by_label: dict[str, list[Golden]] = {}
    for row in csv.DictReader(io.StringIO(predictions_csv.decode())):
        if row["probability"]:
            by_label.setdefault(row["label"], []).append(Golden(row["file"], float(row["probability"])))
    chosen: list[Golden] = []
    for rank, golden in enumerate(by_label.values()):
        wanted = (films + 1 - rank) // 2
        golden.sort(key=lambda g: (g.probability, g.file))
        step = max(1, len(golden) // max(1, wanted))
        chosen += golden[::step][:wanted]
    return chosen


@dataclass(frozen=True)
class Places:
    """Where golden films come from, where they go, and where the answers lie."""

    datasets_bucket: str
    dataset: str
    uploads_bucket: str
    results_bucket: str
    function_name: str


def run(
    s3: Any, function: Any, places: Places, golden: list[Golden], run_key: str, model_sha256: str, tolerance: float
) -> float:
    """Put the golden films through the function; return the largest difference of probability.

    ``function`` is a Lambda client that does not retry. Raises SmokeFailed, naming every film that differs.
    """
    if not golden:
        raise SmokeFailed("predictions.csv names no film with a probability: nothing can be asked")
    keys = {f"{PREFIX}{run_key}/{g.file.replace('/', '_')}": g for g in golden}
    try:
        for key, film in keys.items():
            source = {"Bucket": places.datasets_bucket, "Key": places.dataset + film.file}
            s3.copy_object(Bucket=places.uploads_bucket, Key=key, CopySource=source)
        _ask(function, places, list(keys), model_sha256)
        return _compare(s3, places, keys, model_sha256, tolerance)
    finally:
        _clean(s3, places, run_key)


def _ask(function: Any, places: Places, keys: list[str], model_sha256: str) -> None:
    objects = [{"bucket": places.uploads_bucket, "key": key} for key in keys]
    unanswered = ""
    for _ in range(ATTEMPTS):
        payload = json.dumps({"objects": objects, "expect_sha256": model_sha256})
        try:
            answer = function.invoke(FunctionName=places.function_name, Payload=payload.encode())
        except (ClientError, HTTPClientError) as error:
            if isinstance(error, ClientError) and not _passing(error):
                raise
            unanswered = f"; the last call failed: {error}"
            time.sleep(PAUSE_SECONDS)
            continue
        body = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            raise SmokeFailed(f"the function failed: {body.get('errorType')}: {body.get('errorMessage')}")
        if body.get("failed"):
            raise SmokeFailed(f"the function could not classify {len(body['failed'])} golden films: {body['failed']}")
        objects = body["unfinished"]
        if not objects:
            return
        time.sleep(PAUSE_SECONDS)
    raise SmokeFailed(f"{len(objects)} golden films are unfinished after {ATTEMPTS} calls{unanswered}")


def _passing(error: ClientError) -> bool:
    """Throttles and faults of the service say nothing about the model."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status == 429 or status >= 500


def _compare(s3: Any, places: Places, keys: dict[str, Golden], model_sha256: str, tolerance: float) -> float:
    wrong, largest = [], 0.0
    for key, film in keys.items():
        body = s3.get_object(Bucket=places.results_bucket, Key=f"results/{key}.json")["Body"].read()
        result = json.loads(body)
        answered = result["probability"]
        if result["model"]["sha256"] != model_sha256:
            wrong.append(f"{film.file}: answered by model {result['model']['sha256'][:16]}")
        elif answered is None:
            wrong.append(f"{film.file}: {result['status']} instead of {film.probability:.4f}")
        else:
            largest = max(largest, abs(answered - film.probability))
            if abs(answered - film.probability) > tolerance:
                wrong.append(f"{film.file}: {answered:.4f} instead of {film.probability:.4f}")
    if wrong:
        raise SmokeFailed(
            f"{len(wrong)} of {len(keys)} golden films differ (tolerance {tolerance:g}): {'; '.join(wrong)}"
        )
    return largest


def _clean(s3: Any, places: Places, run_key: str) -> None:
    """Delete the golden films and what was answered (the buckets' history keeps them until it expires)."""
    folder = f"{PREFIX}{run_key}/"
    for bucket, prefix in (
        (places.uploads_bucket, folder),
        (places.results_bucket, f"results/{folder}"),
        (places.results_bucket, f"heatmaps/{folder}"),
    ):
        for item in listing(s3, bucket, prefix):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
