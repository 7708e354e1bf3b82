"""Speed, memory, cold start and cost of one film: `python -m benchmarks.inference [--bundle DIR] [--rounds N]`.

Every engine runs in a process of its own with one thread; the rounds take turns, so that a busy minute of the machine
hits all of them. Without a bundle the network has random weights: as fast, but the agreement of the engines then says
little. ONNX Runtime and OpenVINO take part where they are installed:

    uv pip install --python .venv/bin/python --target build/bench-engines -r benchmarks/requirements.txt
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.costs import PRICES
from benchmarks.engines import ENGINES, FILM, INT8, available
from benchmarks.film_times import S3_CALL_SECONDS, URGENT
from benchmarks.record import ROOT, arguments, record, table
from benchmarks.timing import median
from cxr.bundle import SIDE
from inference_lambda.config import MB_PER_VCPU

DEFAULT_BUNDLE = ROOT / "build" / "demo" / "bundle"
GOP_PER_PX = 30.69 / 224**2
"""Multiplications and additions of VGG16's convolutions: 15,346,630,656 of each at 224x224."""
REQUIRED = {
    "infer_of_keras_predict": 0.20,
    "decode_of_infer": 0.25,
    "handler_of_infer": 1.5,
    "peak_rss_mb": 250.0,
    "cold_start_of_tensorflow": 0.25,
}
"""Upper limits; the first holds on chips with int8 dot products (VNNI) only."""
OF_KERAS_AT_224 = {True: 0.07, False: 0.15}
"""Upper limit of the served network's time as a share of VGG16's at 224 px in Keras, with VNNI and without."""
MEMORY_MB = (512, 1024, 1769, 3538)


def main(argv: list[str]) -> int:
    parser = arguments("inference", __doc__)
    parser.add_argument(
        "--bundle", type=Path, help=f"unpacked bundle with model.keras (default: {DEFAULT_BUNDLE} if there)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns that every engine takes (5)")
    parser.add_argument("--runs", type=int, default=20, help="films per turn (20)")
    parser.add_argument("--random-weights", action="store_true", help="take no bundle, even if there is one")
    parser.add_argument("--dataset", type=Path, help="compare the engines on its test split (default: synthetic films)")
    parser.add_argument("--films", type=int, default=24, help="films to compare the engines on (24)")
    parser.add_argument("--side", type=int, default=SIDE, help=f"px of the films of a network without bundle ({SIDE})")
    options = parser.parse_args(argv)
    bundle = None if options.random_weights else options.bundle or found_bundle()
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as name:
        folder = Path(name)
        say("writing every engine's file of one network")
        network = worker("engine_files", str(folder), *preparation(options, bundle))
        engines = measure_engines(folder, options.rounds, options.runs)
        function = measure_function(folder, options.rounds, options.runs)
        cold = measure_cold_starts(folder, options.rounds)
        sizes = {"litert_int8_mb": round((folder / INT8).stat().st_size / 1e6, 1)}
    peak, gop = int8_peak(), GOP_PER_PX * network["side"] ** 2
    agreed = agreement(engines, network.pop("labels"))
    for values in engines.values():
        values.pop("probabilities")
    payload: dict[str, Any] = {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "engines": engines,
        "function": function,
        "cold_start": cold,
        "int8_peak": {**peak, **fractions(engines, peak, gop)},
        "agreement": agreed,
        "network": {**network, **sizes, "bundle": bundle is not None, "gop_per_film": round(gop, 2)},
        "required": judged(engines, function, cold, peak["instruction"]),
    }
    print(record("inference", {**payload, "tables": tables(payload)}, options.publish))
    return 0


def found_bundle() -> Path | None:
    return DEFAULT_BUNDLE if (DEFAULT_BUNDLE / "model.keras").is_file() else None


def preparation(options: argparse.Namespace, bundle: Path | None) -> list[str]:
    given = {"--bundle": bundle, "--dataset": options.dataset, "--films": options.films, "--side": options.side}
    return [text for name, value in given.items() if value is not None for text in (name, str(value))]


def worker(module: str, *given: str) -> dict[str, Any]:
    """What one process measured. Raises RuntimeError with its last words if it failed."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *given]
    done = subprocess.run(command, cwd=ROOT, env=single_threaded(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(given)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def single_threaded() -> dict[str, str]:
    """TensorFlow's oneDNN and numpy read these; the engines' own settings say the same."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def measure_engines(folder: Path, rounds: int, runs: int) -> dict[str, dict[str, Any]]:
    """name -> medians (ms) over all rounds, peak memory, probabilities of the comparison films."""
    collected: dict[str, list[dict[str, Any]]] = {name: [] for name in ENGINES if available(name)}
    for number in range(rounds):
        for name, turns in collected.items():
            say(f"round {number + 1} of {rounds}: {name}")
            turns.append(worker("engines", name, str(folder), "--runs", str(runs)))
    return {name: merged(turns) for name, turns in collected.items()}


def merged(turns: list[dict[str, Any]]) -> dict[str, Any]:
    wall = [value for turn in turns for value in turn["wall_ms"]]
    cpu = [value for turn in turns for value in turn["cpu_ms"]]
    return {
        "infer_ms": median(wall),
        "infer_min_ms": min(wall),
        "cpu_ms": median(cpu),
        "load_ms": median([turn["load_ms"] for turn in turns]),
        "peak_rss_mb": max(turn["peak_rss_mb"] for turn in turns),
        "n": len(wall),
        "probabilities": turns[0]["probabilities"],
    }


def measure_function(folder: Path, rounds: int, runs: int) -> dict[str, Any]:
    """Steps of the Lambda function on a 2000x1500 JPEG with one and two threads; S3 is a dictionary."""
    answer: dict[str, Any] = {}
    for threads in (1, 2):
        say(f"the function with {threads} thread{'s' * (threads > 1)}")
        given = (str(folder), "--threads", str(threads), "--runs", str(runs))
        turns = [worker("function", *given) for _ in range(rounds)]
        answer[f"threads_{threads}"] = {
            "wall_ms": {step: median(pooled(turns, step, "wall_ms")) for step in turns[0]["steps"]},
            "cpu_ms": {step: median(pooled(turns, step, "cpu_ms")) for step in turns[0]["steps"]},
            "peak_rss_mb": max(turn["peak_rss_mb"] for turn in turns),
            "n": rounds * runs,
        }
    return answer


def pooled(turns: list[dict[str, Any]], step: str, kind: str) -> list[float]:
    return [value for turn in turns for value in turn["steps"][step][kind]]


def measure_cold_starts(folder: Path, rounds: int) -> dict[str, Any]:
    """Process start to first verdict, model on disk, ms of wall and CPU; the golden self-test is part of ours."""
    ours = [sys.executable, "-m", "inference_lambda.classify", str(folder / FILM), "--bundle", str(folder / "bundle")]
    theirs = [sys.executable, "-m", "benchmarks.engines", "first_answer", str(folder)]
    times: dict[str, list[tuple[float, float]]] = {"function": [], "tensorflow": []}
    for number in range(rounds + 1):
        for name, command in (("function", ours), ("tensorflow", theirs)):
            say(f"cold start {number} of {rounds}: {name}")
            took = timed_process(command)
            if number:
                times[name].append(took)
    return {
        name: {
            "wall_ms": median([wall for wall, _ in values]),
            "cpu_ms": median([cpu for _, cpu in values]),
            "n": rounds,
        }
        for name, values in times.items()
    }


def timed_process(command: list[str]) -> tuple[float, float]:
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=single_threaded(), check=True, capture_output=True)
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall * 1000, cpu * 1000


def int8_peak() -> dict[str, Any]:
    """Gop/s of int8 multiply-adds on one core, by benchmarks/int8_peak.c; None without a C compiler."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        compiler = ["cc", "-O3", "-march=native", str(ROOT / "benchmarks" / "int8_peak.c"), "-o", str(program)]
        try:
            subprocess.run(compiler, check=True, capture_output=True)
            instruction, speed = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
        except (OSError, subprocess.CalledProcessError):
            return {"instruction": None, "gop_per_s": None}
    return {"instruction": instruction, "gop_per_s": float(speed) or None}


def fractions(engines: dict[str, dict[str, Any]], peak: dict[str, Any], gop: float) -> dict[str, float]:
    """Share of the peak that each int8 engine reaches, by CPU time; gop: operations of a film (10^9)."""
    if not peak["gop_per_s"]:
        return {}
    return {
        f"{name}_fraction": round(gop / (values["cpu_ms"] / 1000) / peak["gop_per_s"], 3)
        for name, values in engines.items()
        if name.endswith("int8")
    }


def agreement(engines: dict[str, dict[str, Any]], labels: list[int]) -> dict[str, dict[str, float]]:
    """Against Keras on the comparison films: largest difference of probability, labels that differ at 0.5, AUROC."""
    reference = engines["keras_predict"]["probabilities"]
    said = {}
    for name, values in engines.items():
        if name == "keras_vgg16_224":  # another network
            continue
        ours, theirs = np.array(values["probabilities"]), np.array(reference)
        said[name] = {
            "max_abs": round(float(np.abs(ours - theirs).max()), 5),
            "labels_differ": int(((ours >= 0.5) != (theirs >= 0.5)).sum()),
            "auroc": round(float(roc_auc_score(labels, ours)), 4),
            "n": len(labels),
        }
    return said


def judged(
    engines: dict[str, Any], function: dict[str, Any], cold: dict[str, Any], instruction: str | None
) -> dict[str, dict[str, Any]]:
    """Each requirement with its value and whether it is met; None where it asks for instructions this chip lacks."""
    one = function["threads_1"]
    steps = one["wall_ms"]
    values = {
        "infer_of_keras_predict": engines["litert_int8"]["infer_ms"] / engines["keras_predict"]["infer_ms"],
        "infer_of_keras_at_224": engines["litert_int8"]["infer_ms"] / engines["keras_vgg16_224"]["infer_ms"],
        "decode_of_infer": steps["decode"] / steps["infer"],
        "handler_of_infer": steps["handler"] / steps["infer"],
        "peak_rss_mb": one["peak_rss_mb"],
        "cold_start_of_tensorflow": cold["function"]["wall_ms"] / cold["tensorflow"]["wall_ms"],
    }
    vnni = "vnni" in (instruction or "")
    limits = {**REQUIRED, "infer_of_keras_at_224": OF_KERAS_AT_224[vnni]}
    return {
        name: {
            "value": round(value, 3),
            "limit": limits[name],
            "met": None if name == "infer_of_keras_predict" and not vnni else value <= limits[name],
        }
        for name, value in values.items()
    }


def costs(function: dict[str, Any]) -> list[list[Any]]:
    """Rows of the table: dollars per million films, by memory size."""
    times = [function[f"threads_{threads}"]["wall_ms"] for threads in (1, 2)]
    one, two = (steps["handler"] - (1 - URGENT) * steps["heatmap"] for steps in times)
    s3, requests = (
        2 * PRICES["S3, million GET"] + (1 + URGENT) * PRICES["S3, million PUT"],
        PRICES["Lambda, million requests"],
    )
    rows = []
    for memory in MEMORY_MB:
        handler = two if memory >= 2 * MB_PER_VCPU else one * max(1.0, MB_PER_VCPU / memory)
        milliseconds = handler + 1000 * (3 + URGENT) * S3_CALL_SECONDS
        gb_seconds = milliseconds / 1000 * memory / 1024 * 1e6
        compute = (gb_seconds * PRICES[f"Lambda, {architecture}, GB-s"] for architecture in ("x86", "arm64"))
        rows.append([memory, round(milliseconds), *(round(dollars + requests, 2) for dollars in compute), round(s3, 2)])
    return rows


def tables(payload: dict[str, Any]) -> dict[str, Any]:
    """The tables of the documents: engines, required limits and dollars per million films."""
    engines = [
        [name, values["infer_ms"], values["cpu_ms"], values["peak_rss_mb"], values["n"]]
        for name, values in payload["engines"].items()
    ]
    words = {True: "yes", False: "no", None: "chip without VNNI"}
    checks = [
        [name, check["value"], check["limit"], words[check["met"]]] for name, check in payload["required"].items()
    ]
    load = f"Load average of the machine during the run: {payload['load_average'][0]}."
    return {
        "inference": table(
            "engine, one thread | ms | CPU ms | peak RSS MB | runs",
            engines,
            f"Medians of one film, turns taken in one run. {load}",
        ),
        "inference_limits": table("ratio or size | measured | at most | met", checks, load),
        "inference_cost": table(
            "memory MB | ms a film | x86-64 $ | arm64 $ | S3 requests $",
            costs(payload["function"]),
            f"Per million films, {URGENT:.0%} of them with a picture of the heat map: the measured handler plus an "
            f"assumed {1000 * S3_CALL_SECONDS:.0f} ms for each call of S3; us-east-1 list prices from memory; arm64 is "
            "the x86 time at arm64's price, not measured.",
        ),
    }


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
