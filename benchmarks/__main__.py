"""Run every benchmark, or those named: `python -m benchmarks [name ...]`; each writes build/bench/<name>.json."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from benchmarks.record import BUILD

NOT_BENCHMARKS = {"__init__", "__main__", "record", "tables"}


def names() -> list[str]:
    """The benchmarks of this folder: every module with a `main(argv)`; modules that only help one have none."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in NOT_BENCHMARKS and "\ndef main(" in path.read_text():
            found.append(path.stem)
    return found


def main(argv: list[str]) -> int:
    """Run the named benchmarks one after another; return 1 if one failed, after running the rest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of: {', '.join(names())} (default: all)")
    wanted = parser.parse_args(argv).names or names()
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(names())}")
    failed = []
    for name in wanted:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            code = importlib.import_module(f"benchmarks.{name}").main([])
        except Exception:
            traceback.print_exc()
            code = 1
        if code:
            failed.append(name)
        print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"results in {BUILD}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
