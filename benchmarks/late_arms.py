"""How soon an arm that comes late is used as well as it will be: `prior` "mean" beside "pooled".

Twenty arms are clicked by a logistic model of eight features; half are there from the start, the others come one by one
between a quarter and three quarters of the rounds. Coefficients of an arm are those that all have in common plus its
own, which are `own` times as large. The figures are

    impressions to 90 %   how many impressions a late arm has had when what it earns is first .9 of what it earns in its
                          last quarter: means over windows of its impressions that double, of all late arms and seeds
    first 200             what a late arm's first 200 impressions are expected to earn, a click each
    regret                of all rounds, as a percentage of what choosing evenly loses

Run: python benchmarks/late_arms.py [--seeds 10] [--rounds 20000] [--json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit.arrays import Int, Vector
from simulator.environments.episode import Episode, on_grid, stream
from simulator.policies.specs import parse
from simulator.studies.play import ends, play
from simulator.studies.run import DRAWS, learner_of

ARMS, FEATURES, RATE, LATE = 20, 8, 0.1, 10
OWN = (0.2, 0.5, 1.0)
PRIORS = ("mean", "pooled")
WINDOWS = np.array([0, 25, 50, 100, 200, 400, 800, 1600])  # of a late arm's impressions
NEARLY, EARLY = 0.9, 200
REFRESH = 10


@dataclass(frozen=True)
class Late:
    """The environment of one `own`."""

    own: float
    name: str = "late"
    notes: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """Features, arms and rewards."""
        features = [{"name": f"x{j}", "type": "number", "mean": 0, "scale": 1} for j in range(FEATURES)]
        return {"features": features, "arms": [f"arm{a}" for a in range(ARMS)], "rewards": {"click": {}}}

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The episode of a seed."""
        n, rng = rounds or 20_000, stream(seed, 0)
        x = on_grid(np.column_stack([np.ones(n), stream(seed, 1).normal(size=(n, FEATURES))]))
        shared, own = rng.normal(size=FEATURES), rng.normal(size=(ARMS, FEATURES))
        theta = (shared + self.own * own) / np.sqrt(FEATURES)
        z = math.log(RATE / (1 - RATE)) + 0.3 * rng.normal(size=ARMS) + x[:, 1:] / x[0, 0] @ theta.T
        mean = 1 / (1 + np.exp(-z))
        eligible = np.ones((n, ARMS), bool)
        for late, start in enumerate(np.linspace(n / 4, 3 * n / 4, LATE).astype(int)):
            eligible[:start, ARMS - 1 - late] = False
        return Episode(x, mean, (stream(seed, 2).random(mean.shape) < mean).astype(np.float64), eligible)


def played(own: float, prior: str, seed: int, rounds: int) -> tuple[float, list[Vector]]:
    """(regret, what each impression of every late arm was expected to earn, in order)."""
    environment = Late(own)
    episode = environment.episode(seed, rounds)
    learner = learner_of(parse(f"linucb:prior={prior}"), environment, episode, seed)
    u = stream(seed, DRAWS).random(rounds)
    arms: Int = play(learner, episode, ends(episode, REFRESH), u).arms
    earned, best, even = episode.expected(arms), episode.best(), episode.uniform()
    lost = 100 * float((best - earned).sum() / (best - even).sum())
    return lost, [earned[arms[:, 0] == arm] for arm in range(ARMS - LATE, ARMS)]


def impressions_needed(late: list[Vector]) -> float:
    """The first end of a window in which the mean late arm earns nearly what it does in its last quarter."""
    final = float(np.mean([arm[3 * len(arm) // 4 :].mean() for arm in late if len(arm) >= WINDOWS[-1] // 2]))
    for start, end in itertools.pairwise(WINDOWS.tolist()):
        there = [arm[start:end].mean() for arm in late if len(arm) >= end]
        if there and np.mean(there) >= NEARLY * final:
            return float(end)
    return math.inf


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for own in OWN:
        for prior in PRIORS:
            runs = [played(own, prior, seed, asked.rounds) for seed in range(asked.seeds)]
            regrets = [lost for lost, _ in runs]
            late = [arm for _, arms in runs for arm in arms]
            early = float(np.mean([arm[:EARLY].mean() for arm in late if len(arm)]))
            settings = {"own": own, "prior": prior, "seeds": asked.seeds, "rounds": asked.rounds}
            for name, value, unit in (
                ("late_arm_impressions_to_90", impressions_needed(late), "impressions"),
                ("late_arm_first_200", early, "clicks/impression"),
                ("late_arms_regret", float(np.mean(regrets)), "% of uniform's"),
                ("late_arms_worst_regret", max(regrets), "% of uniform's"),
            ):
                row = {"name": name, "value": round(value, 4), "unit": unit, "target": None, "settings": settings}
                print(
                    json.dumps(row) if asked.json else f"own {own:<4} {prior:7} {name:28} {value:8.3f} {unit}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
