"""Policies played in an environment over several seeds: what each earned, and how it learned.

    best_i     expected reward of the best choice in round i, which the environment knows and no policy does
    uniform_i  expected reward of an even choice among the eligible arms in round i
    r_i        expected reward of what the policy showed in round i: the reward without the luck of the draw of rewards

    mean_reward        mean r_i
    regret_of_uniform  100 (mean best_i - mean r_i) / (mean best_i - mean uniform_i): 0 is best, 100 is as bad as chance

Under one seed all policies meet the same rounds and are drawn with the same numbers, so their differences are paired.
`uniform` itself is given by its expectation, so it has exactly 100. In a table each row's best arm is known, which no
context tells: even a perfect model keeps some regret there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np

from bandit.arrays import Int, Vector
from bandit.core.features import Feature
from simulator.environments.episode import Environment, Episode, stream
from simulator.environments.seen import seen_by
from simulator.policies.protocol import Learner, Task
from simulator.policies.specs import Spec, build, parse, with_explore
from simulator.progress import Show, bar, silent
from simulator.studies.parallel import Spread, processes
from simulator.studies.play import Refresh, ends, play

DRAWS, INSIDE = 1000, 1001  # streams of randomness under a seed, beside the environment's own
WINDOWS = 20


class RunRow(msgspec.Struct, frozen=True):
    """One policy under one seed."""

    policy: str
    seed: int
    rounds: int
    mean_reward: float
    regret_of_uniform: float


class Curve(msgspec.Struct, frozen=True):
    """The same over time: means over windows of rounds.

    Attributes:
        ends: the round before which each window ends.
        mean_reward: of the policy.
        best: of the best choices.
        uniform: of even choices.
    """

    policy: str
    seed: int
    ends: list[int]
    mean_reward: list[float]
    best: list[float]
    uniform: list[float]


class Results(msgspec.Struct):
    """What was done: rows and curves in the order of policies, then seeds; not `complete` if it was interrupted."""

    rows: list[RunRow]
    curves: list[Curve]
    complete: bool = True


@dataclass(frozen=True)
class Plan:
    """What is common to all runs."""

    environment: Environment
    rounds: int | None
    refresh: Refresh
    rate: float
    windows: int


def run(
    environment: Environment,
    policies: Sequence[str | Spec],
    *,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 1,
    refresh: Refresh = 100,
    explore: float | None = None,
    rate: float = 1000.0,
    windows: int = WINDOWS,
    spread: Spread | None = None,
    progress: bool = False,
) -> Results:
    """Play every policy under every seed. Ctrl-C keeps what is done.

    Args:
        environment: where to play.
        policies: see `specs.parse`.
        rounds: how many; None: one pass over the data, or the environment's default.
        seeds: which, or how many from 0.
        refresh: rounds between two refreshes, or a time such as "100ms", for policies without one of their own.
        explore: of the server's policies, in place of their own; None: as they are set.
        rate: rounds a second where refresh is a time and the environment has none of its own.
        windows: of the learning curves.
        spread: how to spread the runs; None: over all cores.
        progress: show it on stderr.

    Raises:
        ValueError: a policy, an option or refresh is not known, or a policy cannot play there.
        MissingLibraryError: a policy needs a library that is not installed.
    """
    specs = [with_explore(parse(each) if isinstance(each, str) else each, explore) for each in policies]
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    plan = Plan(environment, rounds, refresh, rate, windows)
    for spec in specs:  # an option that is wrong is refused now, not in the middle
        one_run(Plan(environment, 2, refresh, rate, 1), (spec, 0))
    items = [(spec, seed) for spec in specs for seed in chosen]
    return _collected(plan, items, spread or processes(), progress)


def _collected(plan: Plan, items: list[tuple[Spec, int]], spread: Spread, progress: bool) -> Results:
    found: dict[int, tuple[RunRow, Curve]] = {}
    with bar("runs", len(items), wanted=progress) as show, suppress(KeyboardInterrupt):
        found.update(spread(one_run, plan, items, show))  # an interrupted update keeps what it has
    done = [found[i] for i in sorted(found)]
    return Results([row for row, _ in done], [curve for _, curve in done], len(found) == len(items))


def one_run(plan: Plan, item: tuple[Spec, int], show: Show = silent) -> tuple[RunRow, Curve]:
    """One policy under one seed."""
    spec, seed = item
    environment = as_seen(plan.environment, spec)
    episode = environment.episode(seed, plan.rounds)
    stops = ends(episode, spec.refresh or plan.refresh, plan.rate)
    u = stream(seed, DRAWS).random(len(episode))
    played = play(learner_of(spec, environment, episode, seed), episode, stops, u, show)
    earned = episode.uniform() if spec.kind == "uniform" else episode.expected(played.arms)
    return _figures(spec.name, seed, episode, earned, plan.windows)


def as_seen(environment: Environment, spec: Spec) -> Environment:
    """The environment as a policy sees it: by the features of its document, if that has any of its own.

    Raises:
        ValueError: they are not among those of the environment.
        bandit.errors.Problem: they are not valid.
    """
    features = spec.options.get("features") if spec.kind == "document" else None
    return seen_by(environment, msgspec.convert(features, tuple[Feature, ...])) if features else environment


def learner_of(spec: Spec, environment: Environment, episode: Episode, seed: int) -> Learner:
    """A learner that has seen nothing, for an episode of an environment."""
    inside = int(stream(seed, INSIDE).integers(2**31))
    return build(spec, Task(environment.document, episode.x.shape[1], inside, episode.ranking()))


def _figures(name: str, seed: int, episode: Episode, earned: Vector, windows: int) -> tuple[RunRow, Curve]:
    best, uniform = episode.best(), episode.uniform()
    span = float(best.mean() - uniform.mean())
    regret = 100 * float(best.mean() - earned.mean()) / span if span > 0 else float("nan")
    stops = np.linspace(0, len(earned), min(windows, max(1, len(earned))) + 1).astype(np.int64)
    means = partial(_means, stops=stops)
    return (
        RunRow(name, seed, len(earned), float(earned.mean()), regret),
        Curve(name, seed, stops[1:].tolist(), means(earned), means(best), means(uniform)),
    )


def _means(values: Vector, stops: Int) -> list[float]:
    sums = np.concatenate([[0.0], np.cumsum(values)])[stops]
    means: list[float] = (np.diff(sums) / np.diff(stops)).tolist()
    return means
