"""Load and faults: thousands of uploads through S3, queue, Lambda and back, first undisturbed, then under faults.

`python -m benchmarks.pipeline [--uploads N] [--bundle FOLDER]`. benchmarks.undisturbed and benchmarks.disturbed say
what each run does; benchmarks.capacity predicts the first.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.disturbed import BUSY_SHARE, OVERWRITTEN, disturbed
from benchmarks.local_run import VISIBILITY_SECONDS, Run, good, on_local_aws, say
from benchmarks.record import Table, arguments, record, table
from benchmarks.releases import find_bundle, load
from benchmarks.undisturbed import undisturbed

KILL_SECONDS = 5.0


def documented(reports: dict[str, dict[str, Any]]) -> Table:
    """The table of the documents: a row per run."""
    rows = [
        [
            {"clean": "undisturbed", "faults": "under faults"}[name],
            report["upload_versions"],
            report["uploads_per_second"],
            report["latency_s"]["p50"],
            report["latency_s"]["p95"],
            *(report[promise] for promise in ("lost", "wrong_version", "stuck", "dlq")),
        ]
        for name, report in reports.items()
    ]
    loads = ", ".join(str(report["load_average_before"]) for report in reports.values())
    note = (
        "Faults: 10 % of events twice, 5 % out of order, 3 % of uploads overwritten, the function killed every few "
        "seconds, 2 % of S3 calls answered 503, a promotion midway, its model damaged once. Latency: upload to result. "
        "Speed of the undisturbed run: its part under full load. Local AWS with two function processes and a tiny "
        f"model: it measures the path, not VGG16. Load average of the machine before each run: {loads}."
    )
    return table(
        "run | uploads | uploads/s | p50 (s) | p95 (s) | lost | wrong version | stuck | dead letters", rows, note
    )


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if a promise was broken."""
    parser = arguments("pipeline", __doc__)
    parser.add_argument("--uploads", type=int, default=2000, help="files per run (default 2000)")
    parser.add_argument("--bundle", type=Path, help="a bundle to serve (default: a tiny untrained network)")
    parser.add_argument("--only", choices=("clean", "faults"), help="one of the two runs")
    parser.add_argument("--kill-seconds", type=float, default=KILL_SECONDS, help="mean time between kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    logging.getLogger("local_aws").setLevel(logging.ERROR)
    model = load(find_bundle(options.bundle))
    runs: dict[str, Callable[[Run], dict[str, Any]]] = {
        "clean": lambda run: undisturbed(run, model, options.uploads),
        "faults": lambda run: disturbed(run, model, options.uploads, options.kill_seconds),
    }
    reports = {}
    for name in [options.only] if options.only else list(runs):
        say(f"run: {name}")
        reports[name] = on_local_aws(runs[name], options.seed)
    settings = {
        "uploads": options.uploads,
        "model": {"precision": model.bundle.precision, "weights": model.bundle.weights.get("label")},
        "visibility_timeout_s": VISIBILITY_SECONDS,
        "kill_every_s": options.kill_seconds,
        "s3_503_share": BUSY_SHARE,
        "overwritten_share": OVERWRITTEN,
        "seed": options.seed,
    }
    payload = {"settings": settings, **reports, "tables": {"pipeline": documented(reports)}}
    print(f"written to {record('pipeline', payload, options.publish)}")
    return 0 if all(good(report) for report in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
