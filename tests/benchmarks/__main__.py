"""`make bench`: runs every benchmark here, prints a table and writes exp/bench.json.

A benchmark is a module `bench_<name>.py` with a function `measure()` that yields rows. Each runs
in a process of its own, so that one's memory and threads are not another's. Arguments choose
some by name; their rows in the file are replaced, and one that failed has none there.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

HERE = Path(__file__).parent
OUT = Path("exp/bench.json")
ONE = "--one"


def main(arguments: list[str]) -> int:
    """Run the benchmarks named, or all; the exit status is 1 if one failed."""
    if arguments[:1] == [ONE]:
        module = importlib.import_module(f"tests.benchmarks.bench_{arguments[1]}")
        for row in module.measure():
            print(json.dumps(row.told() | {"benchmark": arguments[1]}), flush=True)
        return 0
    there = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = set(arguments) - set(there)
    if unknown:
        print(f"no such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(there)}")
        return 2
    rows: list[dict[str, Any]] = []
    failed = []
    for name in arguments or there:
        print(f"{name} ...", flush=True)
        found = _run(name)
        rows.extend(found or [])
        if found is None:
            failed.append(name)
    _write(rows, arguments or there)
    shown = [
        [r["name"], r["ours"], r["peer"], r["ratio"], r["unit"], r["conditions"]] for r in rows
    ]
    headers = ["benchmark", "ours", "peer", "times better", "unit", "conditions"]
    print(tabulate(shown, headers, floatfmt=".3g", maxcolwidths=[None] * 5 + [60]))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run(name: str) -> list[dict[str, Any]] | None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks", ONE, name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return None
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _write(rows: list[dict[str, Any]], ran: Sequence[str]) -> None:
    """Into the file, keeping the rows of benchmarks that were not run now.

    Rows that do not say whose they are go: their benchmark may have failed since.
    """
    before = json.loads(OUT.read_text("utf-8")) if OUT.exists() else []
    merged = [row for row in before if row.get("benchmark") not in {None, *ran}] + rows
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(
        json.dumps(sorted(merged, key=lambda row: row["name"]), indent=1) + "\n", "utf-8"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
