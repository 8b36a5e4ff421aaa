"""What a second worker costs: each follows the whole log, so that any of them can decide.

The processor's time of a decision over HTTP, that of all workers together, with two of them divided by that with one:
at 64 connections, the server on one core and the load and our store on the other, in turn, round by round.

Run: python benchmarks/workers.py [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
from contextlib import ExitStack

import numpy as np
from http_ladder import Load, Rung, contexts, one, ours
from load import Asked

CONNECTIONS, SECONDS = 64, 2.0


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    arguments = parser.parse_args()
    bodies = [json.dumps(each) for each in contexts(np.random.default_rng(0), 64)]
    costs: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as stack:
        load = Load()
        stack.callback(load.close)
        rungs: dict[int, Rung] = {workers: stack.enter_context(ours(workers)) for workers in costs}
        for _ in range(arguments.rounds):
            for workers, rung in rungs.items():
                found = one(load, rung, Asked(rung.port, rung.path, bodies, CONNECTIONS, SECONDS))
                costs[workers].append(found["cpu_us"])
    ratio = statistics.median(two / alone for alone, two in zip(costs[1], costs[2], strict=True))
    settings = {"rounds": arguments.rounds, "connections": CONNECTIONS, "cores": 1}
    for name, value, unit, target in (
        ("workers_1_cpu_us", statistics.median(costs[1]), "us", None),
        ("workers_2_cpu_us", statistics.median(costs[2]), "us", None),
        ("workers_2_cpu_of_1", ratio, "ratio", 1.15),
    ):
        figure = {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "target": target, "settings": settings}
        print(json.dumps(figure) if arguments.json else f"{name:22s} {figure['value']:9} {unit}")


if __name__ == "__main__":
    main()
