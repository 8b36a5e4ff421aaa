"""What a first-time user sees of `bandit-server demo`: how long its visitors take, how soon it learns, what it earns.

Each run sends the 32,711 visitors in the order of another seed to a server of its own; the driver and the server share
the machine, as they do there. Rewards are clicks per visitor over all of them, the first ones included.

Run: python benchmarks/demo_runs.py [--runs 16] [--json]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bandit.commands.demo import drive
from bandit.commands.demo.child import serving
from simulator.environments.datasets import msweb


def run(seed: int) -> tuple[float, float, float]:
    """(seconds of traffic, decisions between two refreshes of the model, mean reward) of one run."""
    data = msweb()
    order = data.order(seed)
    with tempfile.TemporaryDirectory(prefix="bandit-demo-") as place, serving(Path(place), 1, 0) as server:
        tally = drive.send_all(server, data, order, Console(file=io.StringIO()))
        return time.monotonic() - tally.start, tally.rounds_per_refresh(), float(tally.reward.mean())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    arguments = parser.parse_args()
    runs = []
    for seed in range(arguments.runs):
        runs.append(found := run(seed))
        said = f"{found[0]:.1f} s, a refresh every {found[1]:.0f} decisions, mean reward {found[2]:.4f}"
        print(f"run {seed}: {said}", file=sys.stderr)
    seconds, rounds, rewards = zip(*runs, strict=True)
    for name, value, unit, target in (
        ("demo_seconds", statistics.median(seconds), "s", 15.0),
        ("demo_rounds_per_refresh", statistics.median(rounds), "decisions", 50.0),
        ("demo_mean_reward", statistics.mean(rewards), "clicks a visitor", 0.352),
        ("demo_least_reward", min(rewards), "clicks a visitor", None),
    ):
        figure = {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "target": target}
        settings = {"runs": arguments.runs, "visitors": 32_711}
        print(json.dumps({**figure, "settings": settings}) if arguments.json else f"{name:26s} {value:9.4g} {unit}")


if __name__ == "__main__":
    main()
