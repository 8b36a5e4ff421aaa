"""What a first-time user sees of `bandit-server demo`: how long its visitors take, how soon it learns, what it earns.

Each run sends the 32,711 visitors in the order of another seed to a server of its own; the driver and the server share
the machine, as they do there. Rewards are clicks per visitor over all of them, the first ones included.

`--before` sends them once more, in the same order, to an experiment as it was by default before `alpha`, `lambda` and
`explore` were "auto". `demo_passes_best_area` is the visitor from whom on the last 2,000 earned more than the best
single area did, and `demo_ahead_of_best_area` the one from whom on all visitors so far did.

Run: python benchmarks/demo_runs.py [--runs 16] [--before] [--json]
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
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from bandit.arrays import Vector
from bandit.commands.demo import drive
from bandit.commands.demo.child import serving
from bandit.commands.demo.results import WINDOW
from simulator.environments.datasets import FullInformation, msweb
from simulator.studies.across_seeds import half_width

FORMERLY = {"policy": {"type": "linucb", "alpha": 1, "explore": 0.02}, "lambda": 1}


class Run(NamedTuple):
    """One run."""

    seconds: float  # of traffic
    rounds: float  # decisions between two refreshes of the model
    reward: float  # mean of all visitors
    passes: float  # from which visitor on the last ones earned more than the best area
    ahead: float  # from which visitor on all so far did


class Formerly(FullInformation):
    """The same data, for an experiment with the former defaults."""

    def document(self) -> dict[str, Any]:
        """The experiment for the server."""
        return super().document() | FORMERLY


def run(seed: int, *, before: bool = False) -> Run:
    """Send every visitor."""
    data = msweb()
    if before:
        data = Formerly(**vars(data))
    order = data.order(seed)
    with tempfile.TemporaryDirectory(prefix="bandit-demo-") as place, serving(Path(place), 1, 0) as server:
        tally = drive.send_all(server, data, order, Console(file=io.StringIO()))
        took = time.monotonic() - tally.start
    gain = np.cumsum(tally.reward - data.reward[tally.seen, data.reward.mean(axis=0).argmax()])
    recent = gain[WINDOW:] - gain[:-WINDOW]
    return Run(took, tally.rounds_per_refresh(), float(tally.reward.mean()), since(recent) + WINDOW, since(gain))


def since(gain: Vector) -> float:
    """The index from which on it stays above 0; that of the end, where it never does."""
    behind = np.flatnonzero(gain <= 0)
    return float(behind[-1] + 1 if len(behind) else 0)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--before", action="store_true", help="the former defaults beside it")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    arguments = parser.parse_args()
    runs, former = list[Run](), list[Run]()
    for seed in range(arguments.runs):
        runs.append(found := run(seed))
        said = f"{found.seconds:.1f} s, a refresh every {found.rounds:.0f} decisions, mean reward {found.reward:.4f}"
        if arguments.before:
            former.append(run(seed, before=True))
            said += f", formerly {former[-1].reward:.4f}"
        print(f"run {seed}: {said}", file=sys.stderr)
    seconds, rounds, rewards, passes, ahead = zip(*runs, strict=True)
    rows: list[tuple[str, float, str, float | None]] = [
        ("demo_seconds", statistics.median(seconds), "s", 15.0),
        ("demo_rounds_per_refresh", statistics.median(rounds), "decisions", 50.0),
        ("demo_mean_reward", statistics.mean(rewards), "clicks a visitor", 0.352),
        ("demo_least_reward", min(rewards), "clicks a visitor", None),
        ("demo_passes_best_area", statistics.median(passes), "visitors", None),
        ("demo_ahead_of_best_area", statistics.median(ahead), "visitors", None),
    ]
    if former:
        gains = np.array(rewards) - [each.reward for each in former]
        rows += [
            ("demo_former_reward", statistics.mean(each.reward for each in former), "clicks a visitor", None),
            ("demo_gain", float(gains.mean()), "clicks a visitor", 0.0),
            ("demo_gain_half_width", float(half_width(gains[:, None])[0]), "clicks a visitor", None),
        ]
    for name, value, unit, target in rows:
        figure = {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "target": target}
        settings = {"runs": arguments.runs, "visitors": 32_711}
        print(json.dumps({**figure, "settings": settings}) if arguments.json else f"{name:26s} {value:9.4g} {unit}")


if __name__ == "__main__":
    main()
