"""What a replay says of lives it did not see, and what a policy that learns from a log earns alone; truth is known.

replay  Of logs that show 2 to 10 arms evenly, and of a server's own with more or less exploration: m / n, the share of
        the decisions that the policy lived; how often its limits, given at any m, held what lives of m decisions earn,
        and of n; and how wide they were. docs/decisions/0011 says what was made of it.
alone   Problems in which a greedy policy learns from a server's own log: how often it is above that log, by what it
        learned there and alone; how often that sign is told by what it learned there (its expectation, and by DR), and
        by the environment fitted to the log.

Run: python benchmarks/lives.py [--logs 20] [--rounds 6000] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from coverage_logs import World, learned
from threadpoolctl import threadpool_limits

from bandit.arrays import Matrix, Vector
from simulator.environments.episode import Episode
from simulator.logs.log import Log
from simulator.ope.evaluate import evaluate
from simulator.policies.on_log import grid_of
from simulator.policies.targets import target
from simulator.studies import lived
from simulator.studies.alone import alone
from simulator.studies.play import play
from simulator.studies.replay import made, replay
from simulator.studies.replay_dr import replay_dr

LIVES = 4  # that a truth is averaged over
CASES: tuple[tuple[str, int], ...] = (
    ("even", 2), ("even", 3), ("even", 5), ("even", 10), ("linucb:explore=0.8", 2), ("linucb:explore=0.02", 2),
)  # fmt: skip
POLICIES = ("linucb:alpha=0.5", "linucb:alpha=0,explore=0", "ucb1")
GREEDY = "linucb:alpha=0,explore=0"
Rng = np.random.Generator


def drawn(world: World, how: str, K: int, n: int, rng: Rng) -> tuple[Log, Matrix]:
    """(a log of n visitors, what each arm would have earned of each)."""
    X = world.visitors(n, rng)
    rates = world.rates(X)
    if how != "even":
        return learned(world, X, rates, rng, how), rates
    arm, even = rng.integers(0, K, n), np.full((n, K), 1 / K)
    reward = (rng.random(n) < rates[np.arange(n), arm]) * 1.0
    return Log(tuple(map(str, range(K))), arm, reward, even[:, 0], even, X), rates


def life(log: Log, rates: Matrix, policy: str, rng: Rng) -> Vector:
    """Mean of what a policy earns with a log's visitors, after each of them."""
    reward = (rng.random(rates.shape) < rates) * 1.0
    episode = Episode(grid_of(log, slice(None)), rates, reward, np.ones((1, log.K), bool))
    learner, every = made(log, policy, 100, int(rng.integers(2**31)))
    stops = [*range(every, len(log), every), len(log)]
    earned = episode.expected(play(learner, episode, stops, rng.random(len(log))).arms)
    return np.asarray(np.cumsum(earned) / np.arange(1, len(log) + 1))


def replays(logs: int, n: int) -> Iterator[dict[str, Any]]:
    """A row a kind of log and of replay."""
    lived.SHARE = 0.0  # limits at any m: what the rule is made from
    for how, K in CASES:
        found: dict[str, list[tuple[float, ...]]] = {"matches": [], "doubly robust": []}
        for seed in range(logs):
            rng = np.random.default_rng([seed, K, n])
            world = World.of(K, rng, rate=0.15, spread=1.0)
            log, _ = drawn(world, how, K, n, rng)
            for policy in POLICIES:
                others = [drawn(world, "even", K, n, rng) for _ in range(LIVES)]
                truth = np.mean([life(each, rates, policy, rng) for each, rates in others], axis=0)
                for kind, of in (("matches", replay), ("doubly robust", replay_dr)):
                    done = of(log, policy, seed=seed)
                    row = lived.judge(log, done)
                    if row.low is not None and row.high is not None:
                        held = [float(row.low <= each <= row.high) for each in (truth[done.matches - 1], truth[-1])]
                        found[kind].append((done.share, *held, row.high - row.low))
        for kind, rows in found.items():
            share, short, long, width = np.mean(rows, axis=0).tolist()
            yield {"log": how, "arms": K, "replay": kind, "lives": len(rows), "m / n": share,
                   "held m": short, "held n": long, "width": width}  # fmt: skip


def alones(logs: int, n: int) -> Iterator[dict[str, Any]]:
    """A row a number of arms."""
    for K, rate in ((5, 0.05), (10, 0.1)):
        found = []
        for seed in range(logs):
            rng = np.random.default_rng([seed, K, n, 3])
            log, rates = drawn(World.of(K, rng, rate=rate, spread=0.8), "linucb", K, n, rng)
            logged = float(rates[np.arange(n), log.arm].mean())
            below = float(np.mean([life(log, rates, GREEDY, rng)[-1] for _ in range(LIVES + 2)])) < logged
            pi = target(log, GREEDY)
            credited = float((pi * rates).sum(axis=1).mean()) < logged
            (dr,), model = evaluate(log, pi, estimators=["dr"]), alone(log, GREEDY)
            there = float(model.note.partition("earn ")[2].partition(":")[0])
            values = float(dr.value or 0) < log.reward.mean(), float(model.value or 0) < there
            found.append((not credited, not below, credited == below, values[0] == below, values[1] == below))
        names = "learning above", "alone above", "told by learning", "told by its DR", "told by the fitted environment"
        yield {"arms": K, "problems": logs, **dict(zip(names, np.sum(found, axis=0).tolist(), strict=True))}


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for rows in (replays, alones):
        for row in rows(options.logs, options.rounds):
            told = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print(json.dumps(row) if options.json else ", ".join(told), flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
