"""How fast, and in how much memory, the backlog of 100,000 uploads is found, written as manifests and queued.

The work runs in a process of its own, so that its peak memory is not the local AWS's; the listings come over HTTP from
the local AWS, whose pages of 1,000 keys cost moto some 0.3 s of CPU each: real S3 answers one in tens of milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT, arguments, record
from training_job.memory import peak_mib

KEYS = 100_000
ANSWERED = 0.6  # share of the uploads that have a result
MANIFEST_SIZE = 300
UPLOADS, RESULTS, QUEUE = "backlog-uploads", "backlog-results", "backlog"


def work(queue_url: str) -> dict[str, Any]:
    """Find, write and queue; runs in the child process. Seconds per step, peak memory in MiB."""
    sys.path.insert(0, str(ROOT / "dags"))
    import boto3
    from cxr_pipeline import submission
    from cxr_pipeline.ledger import filled
    from cxr_pipeline.manifests import Manifests, size_for

    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    seconds: dict[str, float] = {}
    before = peak_mib()
    started = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        seconds[name] = round(time.perf_counter() - started, 2)
        started = time.perf_counter()

    with filled(s3, UPLOADS, RESULTS, "") as ledger:
        lap("list")
        later = datetime.now(UTC) + timedelta(minutes=1)
        total = sum(1 for _ in ledger.unanswered(later))
        lap("join")
        manifests = Manifests(s3, RESULTS, "manifests/bench/")
        parts = manifests.write("unanswered", UPLOADS, ledger.unanswered(later), size_for(total, MANIFEST_SIZE))
        lap("manifests")
    messages = 0
    for part in parts:
        objects = json.loads(s3.get_object(Bucket=RESULTS, Key=part)["Body"].read())["objects"]
        messages += submission.enqueue(sqs, queue_url, objects)
    lap("queue")
    return {
        "unanswered": total,
        "manifests": len(parts),
        "messages": messages,
        "seconds": seconds,
        "memory_mib": {"imports": before, "peak": peak_mib()},
    }


def run(keys: int, publish: bool) -> Path:
    """Seed the buckets, let the child work, write build/bench/backlog.json."""
    from local_aws.server import LocalAWS

    with LocalAWS() as aws:
        s3, objects = aws.client("s3"), aws.objects()
        for bucket in (UPLOADS, RESULTS):
            s3.create_bucket(Bucket=bucket)
        queue_url = aws.client("sqs").create_queue(QueueName=QUEUE)["QueueUrl"]
        names = [f"ward-{number % 37:02d}/2026/{number:06d}.png" for number in range(keys)]
        for name in names:
            objects.write(UPLOADS, name, b"x")
        answered = [name for number, name in enumerate(names) if number % 10 < ANSWERED * 10]
        for name in answered:
            objects.write(RESULTS, f"results/{name}.json", b"{}")
        command = [sys.executable, "-m", "benchmarks.backlog", "--child", queue_url]
        environment = {**os.environ, **aws.environment, "AIRFLOW_CONN_AWS_DEFAULT": "aws://"}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    expected = keys - len(answered)
    if measured["unanswered"] != expected:
        raise RuntimeError(f"{measured['unanswered']} unanswered uploads were found, {expected} were made")
    spent = sum(measured["seconds"].values())
    joined = spent - measured["seconds"]["list"]
    paces = {"keys_per_second": round(keys / spent), "keys_per_second_without_listing": round(keys / joined)}
    return record("backlog", {"keys": keys, **measured, **paces}, publish)


def main(argv: list[str]) -> int:
    """Measure, or (as the child) do the work; prints JSON."""
    parser = arguments("backlog", __doc__)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--child", metavar="QUEUE_URL", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(work(options.child)))
    else:
        print(run(options.keys, options.publish).read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
