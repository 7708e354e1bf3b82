"""A figure in a document comes from a committed result file: it is generated, never typed.

A document holds blocks `<!-- table: pipeline -->` ... `<!-- /table -->`; `python -m benchmarks.tables` fills them from
benchmarks/results/*.json, `--check` says which are stale. A result file carries its tables itself, under `tables`:
{name: {"columns": [...], "rows": [[...]], "note": "...", "kind": "..."}}. `kind` says where the figures come from:
measured (without it), simulated or computed; only what was measured names the machine.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, ROOT

BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z0-9_-]+) -->\n)(?P<body>.*?)(<!-- /table -->)", re.DOTALL)


def markdown(table: Mapping[str, Any], machine: Mapping[str, Any], measured_at: str) -> str:
    """A table as GitHub Markdown; below it its note and where its figures come from. Raises KeyError for a `kind` that
    does not exist.
    """
    columns, rows = table["columns"], table["rows"]
    numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|",
        *("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in rows),
    ]
    simd = ", ".join(machine["simd"]) or "no SIMD flags known"
    day = measured_at[:10]
    origin = {
        "measured": f"Measured on {machine['cpu']}, {machine['cores']} cores, {simd}; {day}.",
        "simulated": f"Simulated, not run on AWS; {day}.",
        "computed": f"Computed on {day}.",
    }[table.get("kind", "measured")]
    note = f"{table['note']} " if table.get("note") else ""
    return "\n".join(lines) + f"\n\n<sub>{note}{origin}</sub>\n"


def known_tables(folder: Path = RESULTS) -> dict[str, str]:
    """Every table of the committed results as Markdown, by name. Raises ValueError if two results claim a name."""
    tables: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        for name, table in result.get("tables", {}).items():
            if name in tables:
                raise ValueError(f"{path.name}: the table {name!r} exists in another result already; rename one")
            tables[name] = markdown(table, result["machine"], result["measured_at"])
    return tables


def filled(text: str, tables: Mapping[str, str]) -> str:
    """`text` with every block filled. Raises ValueError for a block whose table no result holds."""

    def body(match: re.Match[str]) -> str:
        if match["name"] not in tables:
            raise ValueError(f"no committed result holds the table {match['name']!r}; there are {', '.join(tables)}")
        return f"{match[1]}{tables[match['name']]}{match[4]}"

    return BLOCK.sub(body, text)


def documents(root: Path = ROOT) -> Iterable[Path]:
    """The documents that may hold tables."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def main(argv: list[str]) -> int:
    """Fill the blocks, or with --check return 1 if one is stale."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a table is stale")
    check = parser.parse_args(argv).check
    tables, stale = known_tables(), []
    for path in documents():
        text = path.read_text()
        wanted = filled(text, tables)
        if wanted != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(wanted)
    if stale:
        print(("stale: " if check else "filled: ") + ", ".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
