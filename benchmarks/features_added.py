"""What it costs that ten features come half-way, instead of from the start: msweb, no server, no delay.

One pass over 32,711 visitors in the order of each seed. The ten are the most visited areas of the sixty. Half-way the
experiment is changed as a live one is: columns are added and nothing is forgotten. The figures are click rates after
that, in the third and the last quarter, and in the last tenth of all visitors: with the ten from the start, from
half-way on, never, and from half-way on in an experiment that starts from zero then.

Run: python benchmarks/features_added.py [--seeds 16] [--explore 0] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import msgspec
import numpy as np

from bandit.arrays import Int
from bandit.core.document import Document
from bandit.core.engine import Model
from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first, revise
from bandit.core.sums import Events
from simulator.environments.datasets import FullInformation, msweb

REFRESH = 100  # rounds between two refreshes
LATE = 10  # features that come half-way
WHEN = ("after half-way", "third quarter", "last quarter", "last tenth")
WAYS = ("from the start", "half-way", "never", "half-way, from zero")


class Way:
    """The experiment before half-way and after, and every visitor's x for both."""

    def __init__(self, data: FullInformation, name: str, explore: float) -> None:
        document = data.document() | {"policy": {"alpha": 1.0, "explore": explore}}
        few = document | {"features": document["features"][LATE:]}
        before, after = {
            "from the start": (document, document),
            "half-way": (few, document),
            "never": (few, few),
            "half-way, from zero": (few, document),
        }[name]
        config = first("benchmark", msgspec.convert(before, Document))
        later = revise(config, msgspec.convert(after, Document), learned=True, reset="zero" in name)
        self.name, self.versions = name, (compile_config(config), compile_config(later))
        self.x = [encoded(data, version) for version in self.versions]

    def play(self, data: FullInformation, seed: int) -> Int:
        """The arm chosen for each visitor in the seed's order."""
        order, rng, chosen = data.order(seed), np.random.default_rng(seed), []
        half = len(order) // 2 // REFRESH * REFRESH
        version, x = self.versions[0], self.x[0]
        model = Model(version)
        for start in range(0, len(order), REFRESH):
            if start == half:
                version, x = self.versions[1], self.x[1]
                if version.config.generation > 1:
                    model = Model(version)
                else:
                    model.adopt(version)
            at = order[start : start + REFRESH]
            n, ones = len(at), np.ones(len(at), np.int64)
            decided = model.decide(version, x[at], version.active[None], [1] * n, rng.random(n))
            arms = np.array([choice.arms[0] for choice in decided.choices], np.int64)
            new = np.rint(data.reward[at, arms] / version.kinds[0].step).astype(np.int64)[:, None]
            model.learn(Events(arms, x[at], ones, np.zeros_like(new), new))
            while model.refresh():
                pass
            chosen.append(arms)
        return np.concatenate(chosen)


def encoded(data: FullInformation, experiment: Experiment) -> Any:
    """Every visitor as the server would encode them."""
    encoder, known = experiment.encoder, {feature.name for feature in experiment.document.features}
    contexts = [{name: v for name, v in data.contexts(i).items() if name in known} for i in range(len(data))]
    return encoder.encode([msgspec.convert(context, encoder.context_type) for context in contexts])


def rates(seeds: int, explore: float) -> dict[str, Any]:
    """Of each way, the click rates of each seed: (after half-way, third quarter, last one, last tenth)."""
    data, found = msweb(), dict[str, list[list[float]]]()
    for name in WAYS:
        way, found[name] = Way(data, name, explore), []
        for seed in range(seeds):
            order = data.order(seed)
            reward = data.reward[order, way.play(data, seed)]
            n = len(reward)
            parts = reward[n // 2 :], reward[n // 2 : 3 * n // 4], reward[3 * n // 4 :], reward[9 * n // 10 :]
            found[name].append([part.mean() for part in parts])
            print(f"\r{name}: seed {seed}   ", end="", file=sys.stderr, flush=True)
    print("\r", end="", file=sys.stderr)
    return {name: np.array(each) for name, each in found.items()}


def interval(values: Any) -> tuple[float, float, float]:
    """(mean, ends of its 95 % interval)."""
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--explore", type=float, default=0.0)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    asked = parser.parse_args()
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # more threads only get in each other's way on matrices so small
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606
    found = rates(asked.seeds, asked.explore)
    for name, values in found.items():
        for column, when in enumerate(WHEN):
            value, low, high = interval(values[:, column])
            less, least, most = interval(values[:, column] - found["from the start"][:, column])
            if asked.json:
                print(json.dumps({"name": name, "when": when, "value": value, "low": low, "high": high,
                                  "difference": less, "difference_low": least, "difference_high": most}))  # fmt: skip
            else:
                print(
                    f"{name:<20} {when:<15} {value:.4f} ({low:.4f} to {high:.4f}); "
                    f"against from the start {less:+.4f} ({least:+.4f} to {most:+.4f})"
                )


if __name__ == "__main__":
    main()
