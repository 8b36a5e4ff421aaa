"""A log larger than memory: written as Parquet and valued from there piece by piece, in bounded memory."""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simulator.logs.bridge import from_log
from simulator.logs.loaders import stream
from simulator.logs.log import Log
from simulator.logs.storage import write_parquet
from simulator.logs.table import ROWS, Table
from simulator.ope.stream import evaluate_stream
from simulator.policies.targets import of_pieces

K, D = 10, 6  # arms, columns of context with the intercept
LAST = f"arm-{K - 1}"  # the target plays it always; it is worth 0.02 K
CHECKED = ("ips", "snips", "dr")
BYTES = 120  # a row at most while it is valued, whatever the number of arms and columns


def piece(n: int, rng: np.random.Generator, *, full: bool) -> Log:
    """n rows of an epsilon-greedy policy; a reward is 1 with a probability of 0.02 (a + 1)."""
    best = rng.integers(K, size=n)
    P = np.full((n, K), 0.2 / K)
    P[np.arange(n), best] += 0.8
    arm = np.where(rng.random(n) < 0.8, best, rng.integers(K, size=n))
    return Log(
        arms=tuple(f"arm-{a}" for a in range(K)),
        arm=arm,
        reward=(rng.random(n) < 0.02 * (arm + 1)).astype(np.float64),
        propensity=P[np.arange(n), arm],
        probability=P if full else None,
        context=np.column_stack([np.ones(n), rng.normal(size=(n, D - 1))]),
        columns=("1", *(f"x{j}" for j in range(1, D))),
        time_ms=np.arange(n, dtype=np.int64),
    )


def table(rows: int, *, full: bool) -> Table:
    """All rows, made as they are written."""
    rng = np.random.default_rng(1)

    def batches() -> Iterator[Any]:
        for start in range(0, rows, ROWS):
            yield from from_log(piece(min(ROWS, rows - start), rng, full=full)).batches

    return replace(from_log(piece(1, rng, full=full)), batches=batches())


def total(path: Path) -> float:
    """The sum of all rewards."""
    return sum(float(log.reward.sum()) for log in stream(path, "table"))


def valued(path: Path) -> dict[str, float]:
    """Estimator to value."""
    rows = evaluate_stream(lambda: stream(path, "table"), of_pieces(f"fixed:{LAST}"), estimators=CHECKED)
    return {row.estimator: float("nan") if row.value is None else row.value for row in rows}


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(rows: int, *, full: bool) -> Iterator[tuple[str, float, str]]:
    """(name, value, unit) of each figure."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.parquet"
        start = time.perf_counter()
        write_parquet(table(rows, full=full), path)
        written = time.perf_counter()
        total(path)
        read, before = time.perf_counter(), peak()
        values = valued(path)
        done = time.perf_counter()
        yield "write", rows / (written - start) / 1e6, "million rows/s"
        yield "read and sum", rows / (read - written) / 1e6, "million rows/s"
        yield "value by IPS, SNIPS and DR", rows / (done - read) / 1e6, "million rows/s"
        yield "file", path.stat().st_size / 1e6, "MB"
        yield "peak memory of writing and reading", before, "MB"
        yield "peak memory of valuing", peak(), "MB"
        for name, value in values.items():
            yield f"{name} of the last arm", value, "reward"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--propensity-only", action="store_true", help="without the probabilities of the other arms")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    options = parser.parse_args()
    settings = {"rows": options.rows, "arms": K, "columns": D, "probabilities": not options.propensity_only}
    targets = {
        "peak memory": 300 + BYTES * options.rows / 1e6,
        **{f"{name} of the last arm": 0.02 * K for name in CHECKED},
    }
    for name, value, unit in measure(options.rows, full=not options.propensity_only):
        figure = {"name": name, "value": value, "unit": unit, "target": targets.get(name), "settings": settings}
        print(json.dumps(figure) if options.json else f"{name:40} {value:10.4g} {unit}")


if __name__ == "__main__":
    main()
