"""Run every benchmark of speed, one after the other, and write what they found into docs/performance.md as one table.

The machine should be idle: where something else runs, ratios hold better than times. Each benchmark can be run alone,
with `--json` for its figures as lines of JSON; those of what is learned or told (`learning.py`, `coverage.py`,
`lives.py`) take hours and have documents of their own.

Run: python benchmarks/run_all.py [--only http_ladder,engine] [--peers PYTHON ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

BENCHMARKS = (
    "http_ladder",
    "workers",
    "engine",
    "store",
    "replica",
    "freshness",
    "scale",
    "stalls",
    "retired",
    "demo_runs",
)
HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
SLOWED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would slow the matrix products down


def figures_of(name: str, peers: list[str]) -> list[dict[str, Any]]:
    """What one benchmark prints, a line of JSON each.

    Raises:
        CalledProcessError: it failed.
    """
    more = ["--peers", *peers] if name == "engine" and peers else []
    environment = {key: value for key, value in os.environ.items() if key not in SLOWED}
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *more]
    found = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout
    return [json.loads(line) for line in found.splitlines()]


def row(name: str, figure: dict[str, Any]) -> str:
    """A figure's line of the table."""
    target, value = figure["target"], figure["value"]
    aim = "" if target is None else f"{target:,g}"
    return f"| `{name}` | `{figure['name']}` | {value:,.4g} | {figure['unit']} | {aim} |\n"


def machine() -> str:
    """What was measured on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "uvicorn", "fastapi", "msgspec", "redis"))
    processor = f"{os.cpu_count()} cores ({model.partition(':')[2].strip()})"
    return f"{datetime.now(UTC):%Y-%m-%d}: {processor}, Linux, Python {platform.python_version()}, {libraries}."


def written(text: str, rows: list[str]) -> str:
    """The document with these rows: a benchmark that was not run again keeps its own.

    Raises:
        ValueError: the document has no place for them.
    """
    before, _, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{DOCUMENT.name} has no {BEGIN.strip()} and {END.strip()}")
    kept: dict[str, list[str]] = {}
    for line in old.splitlines(keepends=True):
        if line.startswith("| `"):
            kept.setdefault(line.split("|")[1], []).append(line)
    kept |= {line.split("|")[1]: [] for line in rows}
    for line in rows:
        kept[line.split("|")[1]].append(line)
    head = f"{machine()}\n\n| benchmark | figure | value | unit | target |\n| --- | --- | ---: | --- | ---: |\n"
    return before + BEGIN + head + "".join(line for lines in kept.values() for line in lines) + END + after


def main() -> None:
    """Run them, and write the table after each: a failure loses nothing that was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="benchmarks, separated by commas")
    parser.add_argument("--peers", nargs="*", default=[], help="interpreters that have other libraries")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows = [row(name, figure) for figure in figures_of(name, arguments.peers)]
        DOCUMENT.write_text(written(DOCUMENT.read_text(), rows))


if __name__ == "__main__":
    main()
