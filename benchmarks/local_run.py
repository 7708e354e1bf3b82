"""One run of the pipeline benchmark on a fresh local AWS: the deployed stacks, the uploads, the queues, and the figures
from S3's own versions.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks import audit as audits
from benchmarks.faults import Journal
from benchmarks.load import Files, Put, Uploader
from benchmarks.releases import Releases
from infra.config import Config
from infra.session import open_session
from infra.stacks import deploy
from local_aws.deployment import local_config
from local_aws.server import LocalAWS

VISIBILITY_SECONDS = 30
"""720 s in production: a batch that was killed would come back after twelve minutes, and five such after an hour."""
PROMISES = ("lost", "wrong_version", "wrong_bytes", "dishonest", "stuck", "dlq_unexplained")
"""Figures that must be 0."""


@dataclass(frozen=True)
class Stored:
    """What S3 holds of a run."""

    uploads: list[audits.Version]
    results: list[audits.Result]
    documents: dict[str, dict[str, Any]]

    def audit(self, puts: Sequence[Put], dead_keys: Sequence[str], prefix: str = "") -> audits.Audit:
        """The judgement on the uploads whose key begins with `prefix`."""
        uploads = [version for version in self.uploads if version.key.startswith(prefix)]
        return audits.audit(uploads, self.results, self.documents, puts, dead_keys)


@dataclass
class Run:
    """One run on a fresh local AWS."""

    aws: LocalAWS
    config: Config
    outputs: dict[str, str]
    journal: Journal
    seed: int

    def __post_init__(self) -> None:
        self.s3, self.sqs = self.aws.client("s3"), self.aws.client("sqs")
        self.queue, self.dead = self.outputs["UploadsQueueUrl"], self.outputs["UploadsDeadLetterQueueUrl"]
        self.sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)})
        self.uploader = Uploader(self.s3, self.outputs["UploadsBucket"], self.waiting)
        self.files = Files(self.seed)
        self.releases = Releases(self.s3, self.outputs["ModelsBucket"])

    def waiting(self) -> int:
        """Messages that could be received now."""
        return self.depth(self.queue, "")

    def depth(self, url: str, *kinds: str) -> int:
        """Messages of a queue: those that wait (""), NotVisible and Delayed ones, or all."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in kinds or ("", "NotVisible", "Delayed")]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(answer.get(name, 0)) for name in names)

    def settle(self, timeout: float, *queues: str) -> int:
        """Wait until nothing waits, is delayed or is in flight; what is left after `timeout` seconds (stuck)."""
        deadline = time.monotonic() + timeout
        while (left := sum(self.depth(url) for url in (self.queue, *queues))) and time.monotonic() < deadline:
            say(f"{left} messages to go")
            time.sleep(2.0)
        return left

    def dead_letters(self) -> list[tuple[str, str]]:
        """(message id, body) of each dead letter; they are left where they are, visible."""
        found: list[dict[str, Any]] = []
        call = {"QueueUrl": self.dead, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600}
        while batch := self.sqs.receive_message(**call).get("Messages"):
            found += batch
        for message in found:
            handle = message["ReceiptHandle"]
            self.sqs.change_message_visibility(QueueUrl=self.dead, ReceiptHandle=handle, VisibilityTimeout=0)
        return [(message["MessageId"], message["Body"]) for message in found]

    def redrive(self) -> int:
        """Send the dead letters back to their queue, as the runbook says; messages left when all has settled."""
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]
        self.sqs.start_message_move_task(SourceArn=attributes["QueueArn"])
        return self.settle(300) + self.depth(self.dead)

    def read(self) -> Stored:
        """Every version of every upload and result."""
        say("reading every version of every upload and result")
        objects = self.aws.objects()
        results = audits.read_results(self.s3, objects, self.outputs["ResultsBucket"])
        documents = audits.read_documents(self.s3, self.outputs["ResultsBucket"], {result.key for result in results})
        uploads = audits.read_uploads(self.s3, objects, self.outputs["UploadsBucket"])
        return Stored(uploads, results, documents)

    def audit(self, stored: Stored, dead_keys: Sequence[str]) -> audits.Audit:
        """What S3's versions say about this run so far."""
        found = stored.audit(self.uploader.puts, dead_keys)
        for name in PROMISES[:4]:
            for key in getattr(found, name)[:10]:
                say(f"{name}: {key}")
        return found

    def report(self, stored: Stored, stuck: int, letters: list[dict[str, Any]]) -> dict[str, Any]:
        """The figures of this run, from S3's versions."""
        found = self.audit(stored, [key for letter in letters for key in letter["uploads"]])
        delivered = sum(len(delivery.messages) for delivery in self.journal.deliveries)
        return {
            **found.summary(),
            "stuck": stuck,
            "dlq": len(letters),
            "dlq_unexplained": sum(not letter["explained"] for letter in letters),
            "dlq_causes": dict(sum((Counter(letter["causes"]) for letter in letters), Counter())),
            "dlq_entries": letters,
            "invocations": len(self.journal.deliveries),
            "messages_delivered": delivered,
            "deliveries_per_upload": round(delivered / max(1, found.upload_versions), 3),
        }


def on_local_aws(body: Callable[[Run], dict[str, Any]], seed: int) -> dict[str, Any]:
    """Deploy the project's stacks on a fresh local AWS, run `body` there, and add when it began (UTC), how busy the
    machine was before, and the seconds it took.
    """
    journal, begun = Journal(), time.monotonic()
    before = {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    with LocalAWS(on_delivery=journal.delivered) as aws:
        config = local_config(aws.endpoint)
        outputs = deploy(open_session(config), config, say=say)
        report = body(Run(aws, config, outputs, journal, seed))
    return {**before, **report, "seconds": round(time.monotonic() - begun, 1)}


def good(report: dict[str, Any]) -> bool:
    """Whether a run kept every promise."""
    return not any(report[name] for name in PROMISES) and not any((report.get("after_redrive") or {}).values())


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
