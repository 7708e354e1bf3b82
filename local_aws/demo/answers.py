"""What became of the uploads, read from the buckets and the dead-letter queue: a lost upload cannot hide in it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from rich.table import Table
from rich.text import Text

from cxr.labels import STATUSES
from infra.terminal import plain
from local_aws.demo.inputs import NewFile
from local_aws.demo.steps import Step

ANSWER_SECONDS = 180.0
STYLES = {"ok": "green", "uncertain": "yellow", "out_of_distribution": "magenta", "unreadable": "red"}


@dataclass(frozen=True)
class Upload:
    """One uploaded file: its key, the S3 version it got, and what the person who uploaded it knows it to be."""

    key: str
    version_id: str
    truth: str


@dataclass
class Answers:
    """The uploads, the result document of each that has one (by key), and the keys of dead letters."""

    uploads: Sequence[Upload]
    results: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)

    def missing(self) -> list[str]:
        """Keys of uploads whose version has no result."""
        return [
            upload.key
            for upload in self.uploads
            if upload.key not in self.results or self.results[upload.key]["image"]["version_id"] != upload.version_id
        ]

    def lost(self) -> list[str]:
        """Keys of uploads that have neither a result of their version nor a dead letter."""
        return [key for key in self.missing() if key not in self.dead]

    def statuses(self) -> dict[str, int]:
        """How many results have each status."""
        found = [result["status"] for result in self.results.values()]
        return {status: found.count(status) for status in STATUSES}

    def table(self) -> Table:
        """A row per upload: what it was known to be, and what the function answered."""
        table = Table("upload", "truth", "status", "label", "p", "priority", "reasons", header_style="bold")
        for column in table.columns[:-1]:
            column.no_wrap = True
        for upload in self.uploads:
            key, result = Text(plain(upload.key)), self.results.get(upload.key)
            if result is None:
                table.add_row(key, upload.truth, Text("no result", "bold red"))
                continue
            status, probability = result["status"], result["probability"]
            table.add_row(
                key,
                upload.truth,
                Text(status, STYLES[status]),
                result["label"] or "",
                "" if probability is None else f"{probability:.3f}",
                result["priority"],
                ", ".join(reason["code"] for reason in result["reasons"]),
            )
        return table


def keys_of(letter: str) -> set[str]:
    """Keys of the objects that a dead letter's S3 event names."""
    records = json.loads(letter).get("Records", [])
    return {unquote_plus(record["s3"]["object"]["key"]) for record in records}


def upload(s3: Any, bucket: str, files: Sequence[NewFile]) -> Answers:
    """Put the files into the uploads bucket as a person would; nothing is answered yet."""
    versions = [s3.put_object(Bucket=bucket, Key=file.key, Body=file.body)["VersionId"] for file in files]
    return Answers([Upload(file.key, version, file.truth) for file, version in zip(files, versions, strict=True)])


def wait(answers: Answers, s3: Any, sqs: Any, outputs: Mapping[str, str], step: Step) -> None:
    """Fill in results and dead letters until every upload has one of them or ANSWER_SECONDS are over."""
    step.total(len(answers.uploads))
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline and answers.lost():
        time.sleep(0.5)
        for key in answers.lost():
            try:
                body = s3.get_object(Bucket=outputs["ResultsBucket"], Key=f"results/{key}.json")["Body"].read()
            except s3.exceptions.NoSuchKey:
                continue
            answers.results[key] = json.loads(body)
            step.advance()
        received = sqs.receive_message(QueueUrl=outputs["UploadsDeadLetterQueueUrl"], MaxNumberOfMessages=10)
        for message in received.get("Messages", []):
            answers.dead |= keys_of(message["Body"])
