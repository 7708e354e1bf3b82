"""A promotion is believed when the Lambda itself, asked for a few golden films, answers as the training job did.

A golden film is known by its row of predictions.csv: its name may be a patient's, and what is said here is logged.
"""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError

from cxr_pipeline.model import Model
from cxr_pipeline.objects import listing, read_bytes, read_json
from cxr_pipeline.settings import Settings

PREFIX = "_smoke/"
ATTEMPTS = 5  # how often films that the function hands back as unfinished are asked for again
PAUSE_SECONDS = 2.0


class SmokeFailed(Exception):
    """The function does not answer as the promoted model should."""


@dataclass(frozen=True)
class Golden:
    """A test film with the probability that the training job measured on the deployed graph. row: 2 is the first."""

    row: int
    file: str
    probability: float


def choose(predictions_csv: bytes, films: int) -> list[Golden]:
    """Choose ``films`` test films, half of each class, spread over the range of probabilities."""
    by_label: dict[str, list[Golden]] = {}
    for number, row in enumerate(csv.DictReader(io.StringIO(predictions_csv.decode())), start=2):
        if row["probability"]:
            by_label.setdefault(row["label"], []).append(Golden(number, row["file"], float(row["probability"])))
    chosen: list[Golden] = []
    for rank, golden in enumerate(by_label.values()):
        wanted = (films + 1 - rank) // 2
        golden.sort(key=lambda g: (g.probability, g.file))
        step = max(1, len(golden) // max(1, wanted))
        chosen += golden[::step][:wanted]
    return chosen


@dataclass(frozen=True)
class SmokeTest:
    """Golden films through the deployed function. function: a Lambda client that does not retry.

    folder: where the films go in the uploads bucket, with its slash.
    """

    s3: Any
    function: Any
    names: Settings
    model: Model
    folder: str

    def run(self, films: int, tolerance: float) -> float:
        """Put ``films`` test films through the function; return the largest difference of probability.

        Raises SmokeFailed, naming the row of every film that differs by more than ``tolerance``.
        """
        bucket, job = self.model["bundle"]["bucket"], self.model["job"]
        golden = choose(read_bytes(self.s3, bucket, f"models/{job}/predictions.csv"), films)
        if not golden:
            raise SmokeFailed("predictions.csv names no film with a probability: nothing can be asked")
        try:
            for film in golden:
                source = {"Bucket": self.names.datasets_bucket, "Key": self.model["dataset"] + film.file}
                self.s3.copy_object(
                    Bucket=self.names.uploads_bucket,
                    Key=self._key(film),
                    CopySource=source,
                    MetadataDirective="REPLACE",
                )
            self._ask([self._key(film) for film in golden])
            return self._compare(golden, tolerance)
        finally:
            self._clean()

    def _key(self, film: Golden) -> str:
        return f"{self.folder}{film.row}"

    def _ask(self, keys: list[str]) -> None:
        objects = [{"bucket": self.names.uploads_bucket, "key": key} for key in keys]
        unanswered = ""
        for _ in range(ATTEMPTS):
            payload = json.dumps({"objects": objects, "expect_sha256": self.model["model_sha256"]})
            try:
                answer = self.function.invoke(FunctionName=self.names.function_name, Payload=payload.encode())
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
                raise SmokeFailed(f"the function could not classify {len(body['failed'])} of {len(keys)} golden films")
            objects = body["unfinished"]
            if not objects:
                return
            time.sleep(PAUSE_SECONDS)
        raise SmokeFailed(f"{len(objects)} golden films are unfinished after {ATTEMPTS} calls{unanswered}")

    def _compare(self, golden: list[Golden], tolerance: float) -> float:
        wrong, largest = [], 0.0
        for film in golden:
            result = read_json(self.s3, self.names.results_bucket, f"results/{self._key(film)}.json")
            answered, expected = result["probability"], f"instead of {film.probability:.4f}"
            if result["model"]["sha256"] != self.model["model_sha256"]:
                wrong.append(f"row {film.row}: answered by model {result['model']['sha256'][:16]}")
            elif answered is None:
                wrong.append(f"row {film.row}: {result['status']} {expected}")
            else:
                largest = max(largest, abs(answered - film.probability))
                if abs(answered - film.probability) > tolerance:
                    wrong.append(f"row {film.row}: {answered:.4f} {expected}")
        if wrong:
            raise SmokeFailed(
                f"{len(wrong)} of {len(golden)} golden films of predictions.csv differ (tolerance {tolerance:g}): "
                f"{'; '.join(wrong)}"
            )
        return largest

    def _clean(self) -> None:
        """Delete the golden films and what was answered (the buckets' history keeps them until it expires)."""
        for bucket, prefix in (
            (self.names.uploads_bucket, self.folder),
            (self.names.results_bucket, f"results/{self.folder}"),
            (self.names.results_bucket, f"heatmaps/{self.folder}"),
        ):
            for item in listing(self.s3, bucket, prefix):
                self.s3.delete_object(Bucket=bucket, Key=item["Key"])


def _passing(error: ClientError) -> bool:
    """Throttles and faults of the service say nothing about the model."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return bool(status == 429 or status >= 500)
