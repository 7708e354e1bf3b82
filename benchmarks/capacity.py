"""How the path scales past one machine, calculated: a million films at once, a hundred a second, a day with trouble.

`python -m benchmarks.capacity [pipeline.json]` prints the tables and compares the calculation with an undisturbed run
of benchmarks.pipeline (the committed one unless another is named), of which it is given the calibration alone. No row
goes beyond what S3 and an account allow.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as File
from typing import Any

import numpy as np

from benchmarks import costs, film_times
from benchmarks.assumptions import FILMS_PER_MESSAGE, assumptions
from benchmarks.film_times import Serving
from benchmarks.queueing import DEPLOYED, Path, Served, begun, streamed
from benchmarks.record import RESULTS, Table, table

MILLION = 1_000_000
BACKLOG_CONCURRENCIES = (DEPLOYED.backlog_concurrency, 100, 300)
STREAM_CONCURRENCIES = (20, DEPLOYED.uploads_concurrency, 100)
BATCH_SIZES = (10, 5, 1)
RATE, SECONDS, SEED = 100.0, 600.0, 0
"""Films a second, for how long, and the seed of their random moments."""
SLACK_SECONDS = 30.0
"""A stream whose last film is answered later than so long after its end has not been kept up with."""
BAD_DAYS = {
    "nothing": (0.0, 0.0),
    "one film in a thousand kills its function once": (0.0, 0.001),
    "2 % of a film's deliveries fail": (0.02, 0.0),
    "every fourth delivery of a film fails": (0.25, 0.0),
}
"""Share of deliveries that fail, and of films whose first delivery kills the function."""
BAD_DAY_CONCURRENCY = 100
TOLERANCE = 0.20
"""Largest relative difference from the measured run in any of the figures."""


@functools.cache
def backlog(serving: Serving, concurrency: int) -> list[Any]:
    """A million films that lie there already, one message of ten to an invocation."""
    path = Path(serving.film_seconds, concurrency, FILMS_PER_MESSAGE)
    begins, processes = begun(MILLION // path.batch, lambda number, earlier: 0.0, path)
    seconds = float(begins.max()) + path.batch_seconds
    dollars = costs.compute(len(begins) * path.batch_seconds + processes * path.cold_seconds)
    hours, pace = round(seconds / 3600, 2), round(MILLION / seconds)
    return [serving.name, concurrency, hours, pace, processes, round(dollars, 2)]


@functools.cache
def hundred_a_second(path: Path) -> Served:
    """Films at random moments through a path, from a standing start."""
    return streamed(np.cumsum(np.random.default_rng(SEED).exponential(1 / RATE, round(RATE * SECONDS))), path)


def stream(serving: Serving, concurrency: int) -> list[Any]:
    """Whether the path keeps up with 100 films a second, and how long a film waits for its answer."""
    served = hundred_a_second(Path(serving.film_seconds, concurrency))
    kept_up = served.answered.max() < SECONDS + SLACK_SECONDS
    waited = (round(value, 1) for value in served.waited(0.5, 0.95, 0.99))
    return [serving.name, concurrency, "yes" if kept_up else "no", *waited, served.processes]


def batch_size(batch: int, servings: Sequence[Serving]) -> list[Any]:
    """What depends on `batch_size`: dollars per million films, and the stream's median wait on each serving."""
    dollars = costs.per_batch_size(batch).values()
    waited = (hundred_a_second(Path(serving.film_seconds, batch=batch)).waited(0.5)[0] for serving in servings)
    return [batch, *(round(value, 2) for value in (*dollars, sum(dollars))), *(round(value, 1) for value in waited)]


def bad_day(serving: Serving, name: str, failing: float, killing: float) -> list[Any]:
    """The same stream in trouble. Each failure costs a film the visibility timeout. A killed function leaves its whole
    batch to be delivered again, though the films before the one that killed it are answered.
    """
    served = hundred_a_second(Path(serving.film_seconds, BAD_DAY_CONCURRENCY))
    random, receives = np.random.default_rng(SEED), DEPLOYED.max_receive_count
    failed = random.geometric(1 - failing, served.arrived.shape) - 1
    kills = random.random(served.arrived.shape) < killing
    again = failed + kills.any(axis=1, keepdims=True)
    late = (failed + np.maximum.accumulate(kills, axis=1)) * DEPLOYED.visibility_timeout
    waited = (served.answered + late - served.arrived)[again < receives]
    last = served.answered + np.minimum(again, receives - 1) * DEPLOYED.visibility_timeout
    deliveries = round(float(np.minimum(again + 1, receives).mean()), 3)
    quantiles = np.quantile(waited, (0.5, 0.99, 0.999)).round(1).tolist()
    return [name, deliveries, int((again >= receives).sum()), *quantiles, round(float(last.max()) / 60)]


def predicted(clean: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of both parts of an undisturbed run, from its settings and its calibration. Its uploader sends a
    batch at a time, and only while not too many messages wait: the path waits for it and it for the path.
    """
    given, calibration, parts = clean["path"], clean["calibration"], clean["parts"]
    size, burst = given["batch"], calibration["burst_s"]
    path = Path(calibration["load"]["mean_s"] / size, given["concurrency"], size, 0.0, 0.0, given["concurrency"])
    ahead, complete = given["waits_above"] // size + 1, np.zeros(parts["load"]["uploads"] // size)

    def sent(number: int, begins: Sequence[float]) -> float:
        looks = begins[number - ahead] + given["looks_every_s"] / 2 if number >= ahead else 0.0
        complete[number] = max(complete[number - 1], looks) + burst
        return float(complete[number])

    begins, processes = begun(len(complete), sent, path)
    arrived = complete[:, None] - burst * (1 - np.arange(1, size + 1) / size)
    served = Served(arrived, path.answers(begins), processes)
    pace = arrived.size / float(served.answered.max() - arrived.min())
    p50, p95 = served.waited(0.5, 0.95)
    alone = given["window_s"] + calibration["alone"]["mean_s"]
    return {
        "load": {"uploads_per_second": pace, "p50_s": p50, "p95_s": p95, "invocations": len(begins)},
        "alone": {"p50_s": alone, "p95_s": alone, "invocations": parts["alone"]["uploads"]},
    }


def compared(clean: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Measured and predicted figures side by side, and the largest difference in percent of the measured one."""
    words = {"load": "as fast as the queue takes them", "alone": "one at a time"}
    for name, expected in predicted(clean).items():
        part = clean["parts"][name]
        found = {**part, **{f"{quantile}_s": part["latency_s"][quantile] for quantile in ("p50", "p95")}}
        cells = {figure: f"{found[figure]} / {round(value, 3)}" for figure, value in expected.items()}
        off = max(abs(value / found[figure] - 1) for figure, value in expected.items())
        row = (cells.get(figure, "") for figure in ("uploads_per_second", "p50_s", "p95_s", "invocations"))
        yield [f"{part['uploads']} uploads {words[name]}", *row, round(100 * off, 1)]


def tables(run: Mapping[str, Any] | None = None) -> dict[str, Table]:
    """The calculated tables, from the code's constants and the committed results, or another run of the pipeline."""
    run = run or json.loads((RESULTS / "pipeline.json").read_text())
    inference, kb = film_times.committed(), costs.kb_per_film()
    found = film_times.servings(inference)
    shown = film_times.extremes(found)
    ends, waits = (shown[0], shown[-1]), "p50 and more: from arrival to answer."
    return {
        "capacity_assumptions": table("assumption | value | source", assumptions(inference, kb)),
        "film_times": table(
            "CPU, model | network ms | rest of the function ms | S3 ms (assumed) | together ms",
            [[name, *(round(1000 * part) for part in (*parts, sum(parts)))] for name, *parts in found],
            "AVX2 at 224 px: measured, benchmarks/results/inference.json; at 112 px a quarter of it, as are the "
            f"operations. float16 is taken to be as fast as float32. {film_times.NOTE} The rest is that of AVX2.",
        ),
        "capacity_backlog": table(
            "CPU, model | concurrency | hours | films/s | cold starts | compute $",
            [backlog(serving, concurrency) for serving in shown for concurrency in BACKLOG_CONCURRENCIES],
            film_times.NOTE,
        ),
        "capacity_stream": table(
            "CPU, model | concurrency | keeps up | p50 (s) | p95 (s) | p99 (s) | processes",
            [stream(serving, concurrency) for serving in shown for concurrency in STREAM_CONCURRENCIES],
            f"{waits} {film_times.NOTE}",
        ),
        "capacity_batch_size": table(
            "batch_size | overhead $ | requests $ | SQS $ | Lambda's log $ | together $"
            f" | p50 (s), {ends[0].name} | p50 (s), {ends[1].name}",
            [batch_size(batch, ends) for batch in BATCH_SIZES],
            f"Dollars per million films, from list prices. {waits}",
        ),
        "capacity_bad_day": table(
            "trouble | deliveries/film | dead letters | p50 (s) | p99 (s) | p99.9 (s) | minutes",
            [bad_day(ends[1], name, *shares) for name, shares in BAD_DAYS.items()],
            f"{ends[1].name}, concurrency {BAD_DAY_CONCURRENCY}. {waits}",
        ),
        "capacity_pipeline": table(
            "part of the undisturbed run | uploads/s | p50 (s) | p95 (s) | invocations | largest difference %",
            list(compared(run["clean"])),
            f"Measured / calculated; at most {TOLERANCE:.0%} apart. Run of {run['measured_at'][:10]}.",
        ),
        **costs.tables(found, kb),
    }


def main(argv: list[str]) -> int:
    """Print the tables; 1 if the calculation does not predict what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("pipeline", nargs="?", type=File, default=RESULTS / "pipeline.json", help="result of a run")
    found = tables(json.loads(parser.parse_args(argv).pipeline.read_text()))
    for name, one in found.items():
        print(f"\n{name}")
        for cells in [one["columns"], *one["rows"]]:
            print("  ".join(f"{cell!s:>14}" for cell in cells))
    off = max(row[-1] for row in found["capacity_pipeline"]["rows"]) / 100
    if off > TOLERANCE:
        print(f"calculation and run are {off:.0%} apart, more than {TOLERANCE:.0%}", file=sys.stderr)
    return int(off > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
