"""How the path scales past one machine, by simulation: `python -m benchmarks.capacity [--no-check]`.

Rule: the model (benchmarks.queueing) is believed only while it predicts what was measured: runs on the local AWS
(benchmarks.local_check, done each time) and the last undisturbed run of benchmarks.pipeline. Both are recorded with
all their inputs, and a difference above the tolerance fails the command. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks import film_times, local_check, pipeline_prediction, scale
from benchmarks.assumptions import assumptions
from benchmarks.costs import PRICES, idle, kb_per_film, per_million, per_retraining
from benchmarks.record import record
from benchmarks.regimes import TOLERANCE


def tables(inference: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every simulated or computed table, by name, from a result of benchmarks.inference."""
    servings, kb = film_times.servings(inference), kb_per_film()
    fastest, slowest = servings[0], servings[-1]
    seeds = f"Medians of {len(scale.SEEDS)} seeds. p50 to p99: arrival to result."
    return {
        "capacity_assumptions": {
            "kind": "computed",
            "columns": ["assumption", "value", "source"],
            "rows": assumptions(inference, kb),
        },
        "film_times": {
            "kind": "computed",
            "columns": ["CPU, model", "network ms", "rest of the function ms", "S3 ms (assumed)", "together ms"],
            "rows": [serving.row() for serving in servings],
            "note": film_times.NOTE,
        },
        "capacity_backlog": {
            "kind": "simulated",
            "columns": ["CPU, model", "concurrency", "hours", "films/s", "cold starts", "compute $"],
            "rows": list(scale.backlog(servings)),
            "note": film_times.SHORT_NOTE,
        },
        "capacity_stream": {
            "kind": "simulated",
            "columns": [
                *("CPU, model", "concurrency", "keeps up", "p50 (s)", "p95 (s)", "p99 (s)"),
                *("peak", "films/invocation"),
            ],
            "rows": list(scale.stream(servings)),
            "note": f"{seeds} {film_times.SHORT_NOTE}",
        },
        "capacity_batch_size": {
            "kind": "simulated",
            "columns": [
                *("batch_size", "overhead $", "requests $", "SQS $", "Lambda's log $", "together $"),
                *(f"p50 (s), {serving.name}" for serving in (fastest, slowest)),
            ],
            "rows": list(scale.batch_sizes((fastest, slowest))),
            "note": f"Dollars per million films, from list prices. {seeds}",
        },
        "capacity_bad_day": {
            "kind": "simulated",
            "columns": ["trouble", "deliveries/film", "dead letters", "p50 (s)", "p99 (s)", "p99.9 (s)", "minutes"],
            "rows": list(scale.bad_day(slowest)),
            "note": f"{slowest.name}, concurrency {scale.BAD_DAY_CONCURRENCY}. {seeds}",
        },
        "cost_per_million": {
            "kind": "computed",
            "columns": ["$ per million films", *(serving.name for serving in servings)],
            "rows": list(per_million(servings, kb)),
            "note": f"List prices. {film_times.SHORT_NOTE}",
        },
        "cost_per_retraining": {
            "kind": "computed",
            "columns": ["what is trained", "instance", "minutes (assumed)", "$"],
            "rows": list(per_retraining()),
            "note": "List prices; spot takes 50 to 70 % off.",
        },
        "cost_idle": {
            "kind": "computed",
            "columns": ["idle", "$ a month"],
            "rows": list(idle()),
            "note": "List prices.",
        },
    }


def check_tables(check: Mapping[str, Any], pipeline: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Measured and predicted side by side, a row per run."""
    regimes = {one["inputs"]["name"]: one for one in check["regimes"]}
    uploads = pipeline["inputs"]["uploads"]
    parts = {f"{uploads[part]} uploads {words}": pipeline["parts"][part] for part, words in PARTS.items()}
    apart = f"Measured / predicted; at most {check['tolerance']:.0%} apart."
    return {
        "capacity_check": {
            "columns": ["run", *LOCAL_FIGURES.values(), "largest difference %"],
            "rows": [side_by_side(name, one, LOCAL_FIGURES) for name, one in regimes.items()],
            "note": f"{apart} Load average of the machine before: {check['load_average_before']}.",
        },
        "capacity_pipeline": {
            "columns": ["part of the undisturbed run", *PIPELINE_FIGURES.values(), "largest difference %"],
            "rows": [side_by_side(name, one, PIPELINE_FIGURES) for name, one in parts.items()],
            "note": f"{apart} Run of {pipeline['measured_at'][:10]}.",
        },
    }


PARTS = {"load": "as fast as the queue takes them", "alone": "one at a time"}
LOCAL_FIGURES = {
    "films_per_s": "films/s",
    "p50_s": "p50 (s)",
    "p95_s": "p95 (s)",
    "deliveries_per_film": "deliveries/film",
    "films_per_invocation": "films/invocation",
    "dead_share": "dead letters' share",
}
PIPELINE_FIGURES = {
    "uploads_per_second": "uploads/s",
    "p50_s": "p50 (s)",
    "p95_s": "p95 (s)",
    "invocations": "invocations",
}


def side_by_side(name: str, one: Mapping[str, Any], figures: Mapping[str, str]) -> list[Any]:
    measured, predicted = one["measured"], one["predicted"]
    pairs = [f"{measured[figure]} / {predicted[figure]}" if figure in measured else "" for figure in figures]
    return [name, *pairs, round(100 * max(one["difference"].values()), 1)]


def main(argv: list[str]) -> int:
    """Writes build/bench/capacity.json; 1 if the model does not predict what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--no-check", action="store_true", help="simulate only; the result cannot be published then")
    options = parser.parse_args(argv)
    logging.getLogger("local_aws").setLevel(logging.CRITICAL)
    payload: dict[str, Any] = {"prices": PRICES}
    off, found = 0.0, {}
    if not options.no_check:
        pipeline = pipeline_prediction.compared(pipeline_prediction.last_run())
        check = local_check.check(say)
        payload |= {"check": check, "pipeline": pipeline}
        found = check_tables(check, pipeline)
        off = max(largest(one) for one in (*check["regimes"], *pipeline["parts"].values()))
    say("tables")
    payload["tables"] = {**tables(film_times.committed()), **found}
    for name, table in payload["tables"].items():
        print(f"\n{name}")
        for cells in [table["columns"], *table["rows"]]:
            print("  ".join(f"{cell!s:>14}" for cell in cells))
    print(f"\nwritten to {record('capacity', payload)}")
    if off > TOLERANCE:
        print(f"model and run differ by {off:.0%}, more than {TOLERANCE:.0%}", file=sys.stderr)
        return 1
    return 0


def largest(one: Mapping[str, Any]) -> float:
    return max(one["difference"].values())


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
