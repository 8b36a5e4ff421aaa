"""Run the benchmarks of the server, one after the other, and write what they found into docs/performance.md.

The machine should be idle: where something else runs, ratios hold better than times. Each benchmark can be run alone,
with `--json` for its figures as lines of JSON. Those of the simulator (`replay.py`, `stream.py`) are in the README;
those of what is learned or told (`learning.py`, `decisions.py`, `exploring.py`, `coverage.py`, `lives.py`) take hours
and have their own documents.

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
    "access",
    "workers",
    "engine",
    "store",
    "replica",
    "freshness",
    "scale",
    "stalls",
    "restarts",
    "retired",
    "demo_runs",
    "overload",
    "outage",
    "telemetry",
    "series",
    "backup",
    "soak",
)
HERE = Path(__file__).parent
AT_LEAST = {  # more is better
    "http_full_of_bare", "http_full_of_empty_fastapi", "http_1_of_empty_fastapi", "feedback_of_bare",
    "batch_decisions_per_s", "replica_events_per_s", "demo_mean_reward",
    "overload_4x_goodput_of_1x", "http_keys_of_full",
}  # fmt: skip
DOCUMENT = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
SLOWED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would slow the matrix products down


def figures_of(name: str, peers: list[str]) -> list[dict[str, Any]]:
    """What one benchmark prints, a line of JSON each; some end with 1 where a target is missed.

    Raises:
        CalledProcessError: it failed.
    """
    more = ["--peers", *peers] if name == "engine" and peers else []
    environment = {key: value for key, value in os.environ.items() if key not in SLOWED}
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *more]
    done = subprocess.run(command, env=environment, check=False, text=True, stdout=subprocess.PIPE)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode > 1 or not found:
        raise subprocess.CalledProcessError(done.returncode, command)
    return found


def row(name: str, figure: dict[str, Any]) -> str:
    """A figure's line of the table; in bold where it misses its target."""
    target, value = figure["target"], f"{figure['value']:,.{'0f' if figure['value'] >= 1000 else '4g'}}"
    aim, least = "", figure["name"] in AT_LEAST
    if target is not None:
        aim = f"at {'least' if least else 'most'} {target:,g}"
        if figure["value"] < target if least else figure["value"] > target:
            value = f"**{value}**"
    return f"| `{name}` | `{figure['name']}` | {value} | {figure['unit']} | {aim} | {datetime.now(UTC):%Y-%m-%d} |\n"


def machine() -> str:
    """What was measured on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "uvicorn", "fastapi", "msgspec", "redis"))
    processor = f"{os.cpu_count()} cores ({model.partition(':')[2].strip()})"
    return f"The last run was on {processor}, Linux, Python {platform.python_version()}, {libraries}."


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
    columns = "| benchmark | figure | value | unit | target | measured |\n| --- | --- | ---: | --- | --- | --- |\n"
    head = f"{machine()} Bold figures miss their target.\n\n{columns}"
    return before + BEGIN + head + "".join(line for lines in kept.values() for line in lines) + END + after


def main() -> None:
    """Run them, and write the table after each: a failure loses nothing that was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="benchmarks, separated by commas")
    parser.add_argument("--peers", nargs="*", default=[], help="interpreters that have other libraries")
    arguments = parser.parse_args()
    chosen, failed = arguments.only.split(","), []
    if unknown := set(chosen) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows = [row(name, figure) for figure in figures_of(name, arguments.peers)]
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} ended with {error.returncode}")
        else:
            DOCUMENT.write_text(written(DOCUMENT.read_text(), rows))
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    main()
