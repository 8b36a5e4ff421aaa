"""How many decisions it takes to detect a lift, by the two-sided z test of two rates.

    p, q = p (1 + lift)   rate of the baseline and of the new policy     s  share of the traffic that the new one gets
    r = (1 - s) p + s q   rate of both together                          z_x  quantile x of the normal distribution

    n = (z_{1 - alpha / 2} sqrt(r (1 - r) / (s (1 - s)))
          + z_power sqrt(p (1 - p) / (1 - s) + q (1 - q) / s))^2 / (q - p)^2

With s = 1/2, n / 2 is what R's power.prop.test answers for each group. The formula takes both rates as fixed; a policy
that learns is worse at first, so `decisions_until` plays it: an A/B test on made-up traffic, over and over.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from bandit.arrays import Int, Vector
from simulator.environments.episode import Environment, Episode, stream
from simulator.policies.specs import Spec, parse
from simulator.progress import Show, bar, silent
from simulator.studies.parallel import Spread, processes
from simulator.studies.play import ends, play
from simulator.studies.run import DRAWS, as_seen, learner_of

NORMAL = NormalDist()
MOST = 10**15
SPLIT = 1002  # stream of randomness under a seed


def decisions(rate: float, lift: float, *, power: float = 0.8, alpha: float = 0.05, share: float = 0.5) -> int:
    """n of both policies together: see the head of this file.

    Args:
        rate: p of the baseline, in (0, 1).
        lift: relative, such as 0.05 for 5 % more; may be negative; p (1 + lift) is in (0, 1).
        power: statistical power, the probability of detecting the lift.
        alpha: significance level, the probability of a false positive.
        share: s, in (0, 1).

    Raises:
        ValueError: a rate is not in (0, 1), or the lift is 0.
    """
    new = _checked(rate, lift)
    together = (1 - share) * rate + share * new
    chance = NORMAL.inv_cdf(1 - alpha / 2) * math.sqrt(together * (1 - together) / (share * (1 - share)))
    effect = NORMAL.inv_cdf(power) * math.sqrt(rate * (1 - rate) / (1 - share) + new * (1 - new) / share)
    n = math.ceil(((chance + effect) / (new - rate)) ** 2)
    if n > MOST:
        raise ValueError(f"detecting so small a lift takes more than {MOST:g} decisions")
    return n


def _checked(rate: float, lift: float) -> float:
    new = rate * (1 + lift)
    if not (0 < rate < 1 and 0 < new < 1):
        raise ValueError(f"both rates must be in (0, 1); got {rate} and {new}")
    if lift == 0:
        raise ValueError("a lift of 0 cannot be detected")
    return new


def simulated(
    rate: float, lift: float, n: int, *, alpha: float = 0.05, share: float = 0.5, repeats: int = 10_000, seed: int = 0
) -> float:
    """The share of `repeats` made-up A/B tests of n decisions in which the z test detects a difference."""
    rng, new = np.random.default_rng(seed), round(n * share)
    got_new = rng.binomial(new, rate * (1 + lift), repeats)
    got_old = rng.binomial(n - new, rate, repeats)
    z = z_scores(got_new / new, got_old / (n - new), np.full(repeats, new), np.full(repeats, n - new))
    return float((np.abs(z) > NORMAL.inv_cdf(1 - alpha / 2)).mean())


def z_scores(new: Vector, old: Vector, n_new: Vector, n_old: Vector) -> Vector:
    """z of the difference of two rates, with the variance of both together; 0 where neither varies."""
    together = (new * n_new + old * n_old) / (n_new + n_old)
    variance = together * (1 - together) * (1 / n_new + 1 / n_old)
    spread = np.sqrt(np.maximum(variance, 0))
    z: Vector = np.divide(new - old, spread, out=np.zeros(len(spread)), where=spread > 0)
    return z


class Seen(NamedTuple):
    """The power at each look: how often a difference was detected; `decisions`: from which look on it is enough."""

    looks: list[int]
    seen: list[float]
    decisions: int | None


def decisions_until(
    environment: Environment,
    policy: str | Spec,
    baseline: str | Spec,
    *,
    rounds: int | None = None,
    looks: int = 20,
    tests: int = 100,
    refresh: int = 100,
    power: float = 0.8,
    alpha: float = 0.05,
    share: float = 0.5,
    seed: int = 0,
    spread: Spread | None = None,
    progress: bool = False,
) -> Seen:
    """Play A/B tests of two policies, each learning from its own visitors only, and look at every n-th decision.

    Each look is a test of its own at level alpha: the answer is for a test whose length was fixed before.

    Args:
        environment: with rewards of 0 or 1; each seed is a problem and traffic of its own.
        policy: the new one.
        baseline: the old one.
        rounds: of the longest test; None: the environment's default.
        looks: how many lengths are tried.
        tests: how many A/B tests are played.
        refresh: rounds between two refreshes.
        power: statistical power, the probability of detecting the difference.
        alpha: significance level.
        share: the new policy's share of the visitors.
        seed: of the first test; the others have the next ones.
        spread: how to spread the tests; None: over all cores.
        progress: show it on stderr.
    """
    specs = [parse(each) if isinstance(each, str) else each for each in (policy, baseline)]
    for spec in specs:  # an option that is wrong is refused now, not in another process
        learner_of(spec, own := as_seen(environment, spec), own.episode(0, 2), 0)
    common = (environment, specs, rounds, looks, refresh, share)
    with bar("tests", tests, wanted=progress) as show:
        found = dict((spread or processes())(_one_test, common, range(seed, seed + tests), show))
    z = np.array([found[i][1] for i in sorted(found)])
    seen = (np.abs(z) > NORMAL.inv_cdf(1 - alpha / 2)).mean(axis=0)
    at = found[0][0]
    return Seen(at, seen.tolist(), lasting(at, seen, power))


def lasting(looks: list[int], seen: Vector, power: float) -> int | None:
    """The first look from which on `seen` stays at `power` or above; None where it ends below."""
    lowest = np.minimum.accumulate(seen[::-1])[::-1]
    return next((look for look, later in zip(looks, lowest, strict=True) if later >= power), None)


def _one_test(common: Any, seed: int, show: Show = silent) -> tuple[list[int], list[float]]:
    """(looks, z at each) of one A/B test."""
    environment, specs, rounds, looks, refresh, share = common
    episode = environment.episode(seed, rounds)
    new = stream(seed, SPLIT).random(len(episode)) < share
    earned = np.zeros(len(episode))
    for spec, rows in zip(specs, (np.flatnonzero(new), np.flatnonzero(~new)), strict=True):
        own = as_seen(environment, spec)
        mine = episode if own is environment else own.episode(seed, rounds)
        earned[rows] = _earned(own, spec, mine.take(rows), seed, refresh)
    at = np.linspace(0, len(episode), looks + 1).astype(np.int64)[1:]
    return at.tolist(), _looked(earned, new, at).tolist()


def _earned(environment: Environment, spec: Spec, episode: Episode, seed: int, refresh: int) -> Vector:
    stops = ends(episode, spec.refresh or refresh)
    u = stream(seed, DRAWS).random(len(episode))
    played = play(learner_of(spec, environment, episode, seed), episode, stops, u)
    total: Vector = episode.earned(np.arange(len(episode)), played.arms).sum(axis=1)
    return total


def _looked(earned: Vector, new: Int, at: Int) -> Vector:
    """z after each number of decisions."""
    n_new, got, got_new = (np.cumsum(part)[at - 1] for part in (new, earned, earned * new))
    n_old = at - n_new
    return z_scores(got_new / np.maximum(n_new, 1), (got - got_new) / np.maximum(n_old, 1), np.maximum(n_new, 1),
                    np.maximum(n_old, 1))  # fmt: skip
