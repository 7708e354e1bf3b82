"""A figure is published with the machine that it was measured on, or not at all."""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
RESULTS = ROOT / "benchmarks" / "results"
SIMD_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
PACKAGES = ("numpy", "pillow", "tensorflow", "keras", "ai-edge-litert", "moto", "apache-airflow", "boto3")

Table = dict[str, Any]
"""A table of the documents: columns, rows of cells, note."""


def _cpu() -> tuple[str, list[str]]:
    """CPU model name and the SIMD flags that decide int8 speed, from /proc/cpuinfo where there is one."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor(), []
    fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(values.get("flags", "").split())
    return values.get("model name", platform.machine()), [flag for flag in SIMD_FLAGS if flag in flags]


def _memory_gib() -> float:
    """Physical memory in GiB, one decimal."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def machine() -> dict[str, Any]:
    """What the reader of a figure must know: CPU, SIMD, cores, memory (GiB), system, Python, packages."""
    name, simd = _cpu()
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": name,
        "simd": simd,
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": installed,
    }


def arguments(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark's command."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--publish", action="store_true", help=f"also write benchmarks/results/{name}.json")
    return parser


def table(columns: str, rows: list[list[Any]], note: str = "") -> Table:
    """A table of the documents. columns: names between " | "."""
    return {"columns": columns.split(" | "), "rows": rows, "note": note}


def text(one: Table) -> str:
    """A table for a terminal."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in (one["columns"], *one["rows"])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in cells)


def compact(value: Any, indent: str = "") -> str:
    """JSON in which a list or an object that fits on a line takes one."""
    flat = json.dumps(value)
    if not isinstance(value, dict | list) or len(indent) + len(flat) <= 110:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(name)}: {compact(one, inner)}" for name, one in value.items()]
    else:
        lines = [inner + compact(one, inner) for one in value]
    brackets = "{}" if isinstance(value, dict) else "[]"
    return f"{brackets[0]}\n" + ",\n".join(lines) + f"\n{indent}{brackets[1]}"


def record(name: str, payload: dict[str, Any], publish: bool = False) -> Path:
    """Print the tables and write build/bench/<name>.json: `payload` with the machine and the time (UTC); publish: write
    benchmarks/results/<name>.json as well, which the documents quote. Returns the path.
    """
    document = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **payload,
    }
    for one in payload.get("tables", {}).values():
        print(f"\n{text(one)}")
    for folder in (BUILD, RESULTS) if publish else (BUILD,):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(compact(document) + "\n")
    return BUILD / f"{name}.json"
