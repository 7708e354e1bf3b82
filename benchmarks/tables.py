"""A figure in a document comes from a committed result file or is calculated from one: it is generated, never typed.

A document holds blocks `<!-- table: pipeline -->` ... `<!-- /table -->`; `python -m benchmarks.tables` fills them,
`--check` says which are stale. What was measured stands in a result file under `tables`, as benchmarks.record.table
makes it, and names the machine; the rest is calculated by benchmarks.capacity.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import capacity
from benchmarks.record import RESULTS, ROOT, Table

BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z0-9_-]+) -->\n)(?P<body>.*?)(<!-- /table -->)", re.DOTALL)


def markdown(table: Table, origin: str) -> str:
    """A table as GitHub Markdown; below it its note and where its figures come from."""
    columns, rows = table["columns"], table["rows"]
    numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|",
        *("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in rows),
    ]
    return "\n".join(lines) + f"\n\n<sub>{table.get('note', '')} {origin}</sub>\n".replace("<sub> ", "<sub>")


def measured(folder: Path = RESULTS) -> dict[str, str]:
    """Every table of the committed results as Markdown, by name. Raises ValueError if two results claim a name."""
    tables: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        for name, table in result.get("tables", {}).items():
            if name in tables:
                raise ValueError(f"{path.name}: the table {name!r} exists in another result already; rename one")
            machine = result["machine"]
            simd = ", ".join(machine["simd"]) or "no SIMD flags known"
            origin = f"Measured on {machine['cpu']}, {machine['cores']} cores, {simd}; {result['measured_at'][:10]}."
            tables[name] = markdown(table, origin)
    return tables


def known_tables() -> dict[str, str]:
    """Every table that a document may hold, as Markdown, by name."""
    found = capacity.tables().items()
    return {**measured(), **{name: markdown(table, "Calculated, not run on AWS.") for name, table in found}}


def filled(text: str, tables: Mapping[str, str]) -> str:
    """`text` with every block filled. Raises ValueError for a block whose table no result holds."""

    def body(match: re.Match[str]) -> str:
        if match["name"] not in tables:
            raise ValueError(f"no result holds the table {match['name']!r}; there are {', '.join(tables)}")
        return f"{match[1]}{tables[match['name']]}{match[4]}"

    return BLOCK.sub(body, text)


def documents(root: Path = ROOT) -> list[Path]:
    """Every Markdown file of the project: each may hold tables."""
    folders = [path for path in root.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "build"]
    return sorted([*root.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))])


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
