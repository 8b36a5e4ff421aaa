"""What it costs to encode a context: ten numbers plain, in bins, by their rank, and with random Fourier features.

A context at a time, as requests come, without reading its JSON; each figure is the least of several repetitions, taken
in turn.

Run: python benchmarks/transforms.py [--rounds 3000] [--repeats 15] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from time import perf_counter

import msgspec

from bandit.core.features import Bins, Encoder, Feature, Fourier, Number, Rank, compile_encoder

NAMES = tuple(f"n{i}" for i in range(10))
EDGES = tuple(i - 3.0 for i in range(7))
CONTEXT = {name: i - 4.7 for i, name in enumerate(NAMES)}
PLAIN = [Number(name, mean=0, scale=1) for name in NAMES]
WAYS: dict[str, Sequence[Feature]] = {
    "plain": PLAIN,
    "bins 8": [Number(name, transform=Bins(EDGES)) for name in NAMES],
    "rank": [Number(name, transform=Rank(EDGES)) for name in NAMES],
    "log": [Number(name, mean=0, scale=1, log=True) for name in NAMES],
    "plain and fourier 100": [*PLAIN, Fourier("f", NAMES, 100, 3.0)],
}


def seconds(encoder: Encoder, rounds: int) -> float:
    """Of one context."""
    contexts = [msgspec.convert(CONTEXT, encoder.context_type)]
    start = perf_counter()
    for _ in range(rounds):
        encoder.encode(contexts)
    return (perf_counter() - start) / rounds


def main() -> None:
    """Print microseconds of a context, and of a number where all ten are treated so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    encoders = {name: compile_encoder(features) for name, features in WAYS.items()}
    found = dict.fromkeys(encoders, float("inf"))
    for _ in range(options.repeats):
        for name, encoder in encoders.items():
            found[name] = min(found[name], seconds(encoder, options.rounds))
    for name, least in found.items():
        row = {"features": name, "columns": encoders[name].d, "context_us": round(least * 1e6, 1)}
        print(json.dumps(row) if options.json else "{features:22} {columns:4} columns {context_us:6} us".format(**row))


if __name__ == "__main__":
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # more threads only get in each other's way on matrices so small
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606
    main()
