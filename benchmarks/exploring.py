"""What exploring costs, and what the log answers for it: the default policy with four ways to explore.

    regret      100 (best - earned) / (best - uniform), of expected rewards: 0 is best, 100 as bad as choosing evenly
    uniform     half of the 95 % interval of what an even choice would have earned, as a percentage of best - uniform
    best fixed  the same of always showing the arm that is best in hindsight, where it is eligible

An interval is that of SNIPS from the log, 1.96 sqrt(sum pi^2 / mu (r - V)^2) / n on either side, over all rounds and
arms: what the log's own rows estimate, which are few where little is explored, and may all have earned nothing.

The ways are explore .02 for ever, .005 for ever, "auto", and "auto" with the two arms that are best in hindsight as
challengers: nobody knows them so well, so that this shows the most that challengers can do. Every way meets the same
rounds and is drawn with the same numbers. Sets are those of `decision_sets.py`, and tables as `decisions.py` takes
them.

Run: python benchmarks/exploring.py [--json] [--sets NAME ...] [--seeds 4] [--refresh 10] [--rounds N]
         [--table NAME=FILE[:OPTION=VALUE,...] ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from decision_sets import Set, built_in, table
from decisions import header, row

from bandit.arrays import Mask, Matrix
from simulator.environments.episode import Environment, Episode, Grid, stream
from simulator.policies.protocol import Learner
from simulator.policies.specs import Spec
from simulator.progress import Show, bar
from simulator.studies.parallel import processes
from simulator.studies.play import ends, play
from simulator.studies.run import DRAWS, learner_of

WAYS: dict[str, dict[str, Any]] = {
    ".02": {"explore": 0.02},
    ".005": {"explore": 0.005},
    "auto": {"explore": "auto"},
    "auto, challengers": {"explore": "auto", "challengers": 2},
}
ASKED = ("regret", "uniform", "best fixed")
SETS = ("clicks-12", "clicks-3-x", "clicks-1-x", "linear", "logistic", "drift-slow", "users")
Z = 1.96  # standard errors of half an interval


class Job(NamedTuple):
    """A way on a set under a seed."""

    set: str
    way: str
    seed: int
    rounds: int
    refresh: int


def one(sets: dict[str, Set], job: Job, show: Show) -> list[float]:
    """Play it: its regret and the two widths, as percentages."""
    environment = sets[job.set].ours
    episode = environment.episode(job.seed, job.rounds)
    learner = Kept(learner_of(spec(job.way, environment, episode), environment, episode, job.seed))
    u = stream(job.seed, DRAWS).random(len(episode))
    arms = play(learner, episode, ends(episode, job.refresh), u, show).arms
    best, even = episode.best().mean(), episode.uniform().mean()
    found = [best - episode.expected(arms).mean(), *widths(episode, np.concatenate(learner.given))]
    return [100 * float(each / (best - even)) for each in found]


class Kept:
    """A learner whose probabilities are kept, a part for each call."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.shown, self.learn, self.refresh = learner.shown, learner.learn, learner.refresh
        self.given: list[Matrix] = []

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """See `Learner`."""
        self.given.append(self.learner.probabilities(x, eligible))
        return self.given[-1]


def spec(way: str, environment: Environment, episode: Episode) -> Spec:
    """The policy that explores so; challengers are arms of the environment."""
    arms = [arm if isinstance(arm, str) else arm["id"] for arm in environment.document["arms"]]
    options = dict(WAYS[way])
    if count := options.get("challengers"):
        options["challengers"] = [arms[i] for i in episode.ranking()[:count].tolist()]
    return Spec(way, "linucb", options)


def widths(episode: Episode, mu: Matrix) -> Iterator[float]:
    """Half of the interval of an even choice, and of the best fixed arm."""
    eligible = np.broadcast_to(episode.eligible, episode.mean.shape)
    even = eligible / eligible.sum(axis=1, keepdims=True)
    best = int(episode.ranking()[0])
    fixed = np.where(eligible[:, [best]], np.arange(eligible.shape[1]) == best, even)
    for pi in (even, fixed):
        value = (pi * episode.mean).sum() / len(pi)
        square = np.divide(pi**2, mu, where=mu > 0, out=np.zeros(mu.shape)) * (episode.reward - value) ** 2
        yield Z * float(np.sqrt(square.sum())) / len(pi)


def played_all(asked: argparse.Namespace, sets: dict[str, Set]) -> dict[tuple[str, str], Matrix]:
    """(seeds, 3) of each set and way."""
    jobs = [
        Job(name, way, seed, of.rounds, asked.refresh)
        for name, of in sets.items() for way in WAYS for seed in range(asked.seeds)
    ]  # fmt: skip
    with bar("runs", len(jobs), wanted=True) as show:
        found = dict(processes(asked.workers)(one, sets, jobs, show))
    values: dict[tuple[str, str], list[list[float]]] = {}
    for i, job in enumerate(jobs):
        values.setdefault((job.set, job.way), []).append(found[i])
    return {at: np.array(rows) for at, rows in values.items()}


def figures(
    found: dict[tuple[str, str], Matrix], sets: dict[str, Set], asked: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Means over the seeds, then of all sets the difference in regret from .02 and the ratios of widths to its own."""
    for (name, way), values in found.items():
        settings = {"rounds": sets[name].rounds, "refresh": asked.refresh, "seeds": len(values)}
        for of, value in zip(ASKED, values.mean(axis=0).tolist(), strict=True):
            yield figure(f"{name} explore {way} {of}", value, "% of uniform's" if of == "regret" else "%", settings)
    for way, means in overall(found, sets).items():
        settings = {"sets": len(sets), "refresh": asked.refresh, "seeds": asked.seeds}
        for of, value in zip(ASKED, means, strict=True):
            yield figure(f"explore {way} of .02 {of}", value, "points" if of == "regret" else "ratio", settings)


def overall(found: dict[tuple[str, str], Matrix], sets: dict[str, Set]) -> dict[str, list[float]]:
    """By way: mean difference in regret from .02, and geometric means of the ratios of widths."""
    means = {way: np.array([found[name, way].mean(axis=0) for name in sets]) for way in WAYS}
    first = means[".02"]
    return {
        way: [(each - first)[:, 0].mean(), *np.exp(np.log(each[:, 1:] / first[:, 1:]).mean(axis=0))]
        for way, each in means.items()
    }


def figure(name: str, value: float, unit: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One figure."""
    return {"name": name, "value": round(float(value), 2), "unit": unit, "target": None, "settings": settings}


def text(found: dict[tuple[str, str], Matrix], sets: dict[str, Set]) -> str:
    """In Markdown: mean regret, with the worst seed, then the two widths; and the line of all sets."""
    lines = header(["set", *WAYS])
    for name in sets:
        cells = [found[name, way] for way in WAYS]
        lines.append(row([name, *(f"{c[:, 0].mean():.1f} ({c[:, 0].max():.1f}) {_widths(c)}" for c in cells)]))
    of = overall(found, sets).values()
    lines.append(row(["*against .02*", *(f"{v[0]:+.2f}, x {v[1]:.2f}, x {v[2]:.2f}" for v in of)]))
    return "\n".join(lines)


def _widths(values: Matrix) -> str:
    return ", ".join(f"{each:.0f}" for each in values[:, 1:].mean(axis=0))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--sets", nargs="+", help=f"by default {', '.join(SETS)} and all tables")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--refresh", type=int, default=10, help="rounds between two refreshes")
    parser.add_argument("--rounds", type=int, help="in place of each set's own")
    parser.add_argument("--table", action="append", default=[], metavar="NAME=FILE[:OPTION=VALUE,...]")
    parser.add_argument("--workers", type=int, help="processes; by default one a core")
    asked = parser.parse_args()
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # more threads only get in each other's way on matrices so small
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606
    known, tables = built_in(), dict(table(each) for each in asked.table)
    names: list[str] = asked.sets or [*SETS, *tables]
    if unknown := [name for name in names if name not in known | tables]:
        sys.exit(f"there is no set {', '.join(unknown)}; there are {', '.join(known | tables)}")
    sets = {name: (known | tables)[name] for name in names}
    sets = {name: each._replace(rounds=asked.rounds or each.rounds) for name, each in sets.items()}
    found = played_all(asked, sets)
    if asked.json:
        for each in figures(found, sets, asked):
            print(json.dumps(each), flush=True)
    else:
        print(text(found, sets))


if __name__ == "__main__":
    main()
