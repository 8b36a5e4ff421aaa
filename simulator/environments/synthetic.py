"""Made-up problems whose truth is known: linear and logistic rewards, and what makes real sites harder than those.

    X  (n, f)  numbers, standard normal        T_0, T_1  (K, f + 1)  two sets of coefficients, the intercept first
    z_i = w_0(i) T_0 [1, X_i] + w_1(i) T_1 [1, X_i] + taste_i        with spread about 1
    linear:   mean = 1/2 + .15 z,            reward = mean + .1 normal noise, cut to [-1/2, 3/2] (6 sigma away)
    logistic: mean = 1 / (1 + exp(2 - 1.5 z)),  reward = 1 with that probability, else 0

    drift     w_0, w_1 at round i of n
    none      1, 0
    abrupt    1, 0 in the first half, 0, 1 in the second
    slow      cos, sin of a quarter turn over the whole run
    seasonal  cos, sin of `cycles` whole turns

Each seed is another problem of the same kind: coefficients, visitors and rewards are all drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.sums import ONE
from simulator.environments.episode import Episode, on_grid, stream

Drift = Literal["none", "abrupt", "slow", "seasonal"]
Visitors = Literal["new", "returning", "tides"]

GAIN, NOISE, REACH = 0.15, 0.1, (-0.5, 1.5)  # linear
OFFSET, SLOPE = -2.0, 1.5  # logistic
DAY_MS = 86_400_000
USER_SHARE = 20  # visits of a user on average
TRUTH, VISITS, REWARDS, DELAYS, ARRIVALS = range(5)  # streams of randomness under a seed


class Visits(NamedTuple):
    """Who comes, and when."""

    X: Matrix  # (n, f)
    taste: Matrix  # (n, K) or (1, 1): what the context does not tell, added to z
    time_ms: Int | None = None
    user: Int | None = None


@dataclass(frozen=True)
class Synthetic:
    """A made-up problem; see the head of this file.

    Attributes:
        name: what it goes by.
        arms: K.
        features: f, numbers in the context.
        rounds: n, where a run does not say how many.
        link: how z becomes a reward.
        drift: how coefficients change.
        cycles: turns of a seasonal drift, and days of tides.
        visitors: `new` ones each time; `returning` users with tastes of their own that their profile tells in part;
            `tides`: two kinds of visitors, of which one comes by day and one by night, and four times as many by day.
        delay: mean of the geometric delay of rewards, in rounds; 0: none.
        turnover: whether a third of the arms leave and a third come at some time.
        attention: chance that each position of a list is looked at.
    """

    name: str = "logistic"
    arms: int = 10
    features: int = 10
    rounds: int = 10_000
    link: Literal["linear", "logistic"] = "logistic"
    drift: Drift = "none"
    cycles: float = 4.0
    visitors: Visitors = "new"
    delay: float = 0.0
    turnover: bool = False
    attention: tuple[float, ...] = (1.0,)

    @property
    def notes(self) -> tuple[str, ...]:
        """No notes: the data are made up."""
        return ()

    @property
    def document(self) -> Mapping[str, Any]:
        """Features, arms and rewards as in an experiment's document."""
        return {
            "features": [{"name": f"x{j}", "type": "number", "mean": 0, "scale": 1} for j in range(self.features)],
            "arms": [f"arm{a}" for a in range(self.arms)],
            "rewards": {"reward": {"range": list(REACH)}} if self.link == "linear" else {"click": {}},
        }

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The episode of a seed."""
        n = self.rounds if rounds is None else rounds
        visits = VISITORS[self.visitors](self, stream(seed, VISITS), n)
        x = on_grid(np.column_stack([np.ones(n), visits.X]))
        mean = self._mean(x / ONE, visits.taste, stream(seed, TRUTH))
        rng = stream(seed, REWARDS)
        reward = self._reward(mean, rng)
        seen = (rng.random((n, len(self.attention))) < self.attention).astype(np.float64)
        return Episode(
            x, mean, reward, self._eligible(stream(seed, ARRIVALS), n), self._delays(stream(seed, DELAYS), n),
            visits.time_ms, visits.user, self.attention, seen if self.attention != (1.0,) else None,
        )  # fmt: skip

    def _mean(self, X: Matrix, taste: Matrix, rng: np.random.Generator) -> Matrix:
        size = (2, self.arms, self.features + 1)
        T = rng.normal(size=size) * np.sqrt(0.75 / max(1, self.features))
        T[:, :, 0] = rng.normal(size=size[:2]) * 0.5
        first, second = weights(self.drift, len(X), self.cycles)
        z = first[:, None] * (X @ T[0].T) + second[:, None] * (X @ T[1].T) + taste
        mean: Matrix = 0.5 + GAIN * z if self.link == "linear" else 1 / (1 + np.exp(-OFFSET - SLOPE * z))
        return mean

    def _reward(self, mean: Matrix, rng: np.random.Generator) -> Matrix:
        if self.link == "linear":
            return np.clip(mean + NOISE * rng.normal(size=mean.shape), *REACH)
        return (rng.random(mean.shape) < mean).astype(np.float64)

    def _delays(self, rng: np.random.Generator, n: int) -> Int | None:
        return rng.geometric(1 / (1 + self.delay), n) - 1 if self.delay else None

    def _eligible(self, rng: np.random.Generator, n: int) -> Mask:
        """Arms a = 1, 4, ... come at a time between 1/5 and 4/5 of the run, arms 2, 5, ... leave at one."""
        if not self.turnover:
            return np.ones((1, self.arms), bool)
        at = rng.uniform(0.2, 0.8, self.arms) * n
        arm, i = np.arange(self.arms), np.arange(n)[:, None]
        mask: Mask = (arm % 3 == 0) | ((arm % 3 == 1) & (i >= at)) | ((arm % 3 == 2) & (i < at))
        return mask


def weights(drift: Drift, n: int, cycles: float) -> tuple[Vector, Vector]:
    """w_0 and w_1 of each round, shape (n,)."""
    t = np.arange(n) / max(1, n)
    if drift in ("none", "abrupt"):
        late = (t >= 0.5) & (drift == "abrupt")
        return (~late).astype(np.float64), late.astype(np.float64)
    angle = 2 * np.pi * t * (0.25 if drift == "slow" else cycles)
    return np.cos(angle), np.sin(angle)


def _new(problem: Synthetic, rng: np.random.Generator, n: int) -> Visits:
    return Visits(rng.normal(size=(n, problem.features)), np.zeros((1, 1)))


def _returning(problem: Synthetic, rng: np.random.Generator, n: int) -> Visits:
    """Users whose numbers of visits are spread like a Pareto law; nine tenths of the context are the user's own."""
    users = max(1, n // USER_SHARE)
    often = rng.pareto(1.5, users) + 1
    user = rng.choice(users, n, p=often / often.sum())
    profile, taste = rng.normal(size=(users, problem.features)), rng.normal(size=(users, problem.arms))
    X = np.sqrt(0.9) * profile[user] + np.sqrt(0.1) * rng.normal(size=(n, problem.features))
    return Visits(X, 0.5 * taste[user], user=user)


def _tides(problem: Synthetic, rng: np.random.Generator, n: int) -> Visits:
    """Arrivals over `cycles` days at a rate of 1 - .6 cos(time of day); the share of day people goes the same way."""
    grid = np.linspace(0, problem.cycles, 4096)
    passed = np.concatenate([[0], np.cumsum(np.diff(grid) * _rate(grid[1:]))])
    day = np.interp(np.sort(rng.random(n)) * passed[-1], passed, grid)
    by_day = rng.random(n) < 0.5 * _rate(day)
    centre = rng.normal(size=problem.features) * 0.7
    X = rng.normal(size=(n, problem.features)) * 0.7 + np.where(by_day, 1, -1)[:, None] * centre
    return Visits(X, np.zeros((1, 1)), time_ms=np.rint(day * DAY_MS).astype(np.int64))


def _rate(day: Vector) -> Vector:
    rate: Vector = 1 - 0.6 * np.cos(2 * np.pi * day)
    return rate


VISITORS: dict[Visitors, Callable[[Synthetic, np.random.Generator, int], Visits]] = {
    "new": _new, "returning": _returning, "tides": _tides,
}  # fmt: skip
