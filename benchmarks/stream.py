"""A log larger than memory: written as Parquet and read back for an IPS sum, piece by piece, in bounded memory."""

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

from simulator.loaders import stream
from simulator.logged import Log
from simulator.storage import write_parquet
from simulator.table import ROWS, Table, from_log

K, D = 10, 6  # arms, columns of context with the intercept
TARGETS = {"peak memory": 400.0}  # MB, whatever the rows; 10 million of them as one log are 1,600 MB


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


def ips(path: Path) -> tuple[int, float]:
    """(rows, inverse propensity score of the policy that plays the last arm always); it is 0.02 K."""
    rows, total = 0, 0.0
    for log in stream(path, "table"):
        weight = (log.arm == log.K - 1) / log.propensity
        total += float(weight @ log.reward)
        rows += len(log)
    return rows, total / rows


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
        found, value = ips(path)
        done = time.perf_counter()
        assert found == rows
        yield "write", rows / (written - start) / 1e6, "million rows/s"
        yield "read and sum", rows / (done - written) / 1e6, "million rows/s"
        yield "file", path.stat().st_size / 1e6, "MB"
        yield "peak memory", peak(), "MB"
        yield "IPS of the last arm", value, "reward"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--propensity-only", action="store_true", help="without the probabilities of the other arms")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    options = parser.parse_args()
    settings = {"rows": options.rows, "arms": K, "columns": D, "probabilities": not options.propensity_only}
    for name, value, unit in measure(options.rows, full=not options.propensity_only):
        figure = {"name": name, "value": value, "unit": unit, "target": TARGETS.get(name), "settings": settings}
        print(json.dumps(figure) if options.json else f"{name:20} {value:10.4g} {unit}")


if __name__ == "__main__":
    main()
