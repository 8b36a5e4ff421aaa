"""Intervals around an estimate: normal, bootstrap, and sequences that hold at every time at once.

    X_i  value of a row (or of a user: a sum of rows)      t_i  how many rows it counts for, 1 or a sum of row weights
    m    a candidate for sum X / sum t in the long run     T    the largest t_i       f  floor: X_i >= -f t_i

    lower bound of a sequence, from X >= -f t alone:
        K_i(m) = prod_{j <= i} (1 + lam_j(m) (X_j - m t_j))        a bet that the mean is above m; fair if it is m
        L_i    = sup {m : max_{j <= i} K_j(m) >= 1 / a}            false with probability a at most, for all i together
        lam_i(m) = min(sqrt(2 ln(1 / a) / (V_{i-1} i ln(1 + i))), c / ((m + f) T)),   c = .25, with a floor .6
        V_i    = (1/4 + sum_{j <= i} (X_j - mu_j t_j)^2) / (i + 1),   mu_i = (1/2 + sum X) / (1 + sum t)

K_i falls in m, so L_i is found by halving. With X in [0, 1] the upper bound is 1 - lower bound of 1 - X, half of alpha
each: the hedged capital of Waudby-Smith and Ramdas (2024), https://arxiv.org/abs/2010.09686, Theorem 3. For importance
weighted values, which have no bound: lower bound from w r, upper = 1 - lower bound of w (1 - r), r in [0, 1], because
the mean of w is 1 (Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro 2022, https://arxiv.org/abs/2210.10768). Where
there are several X of the same mean (w r; the doubly robust v + w (r - q), which varies less but has a floor, known
where a bound of the weights is), K is the mean of theirs: what one wins early and another late, both keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.ope.estimators import Estimate, by_unit

STAKE = 0.25  # of its capital a bet may lose: of .15 to .9 the best over rare, common and weighted rewards
FLOORED = 0.6  # the same of values that can be below 0: one heavy row in thousands reaches the floor
HALVINGS = 50  # of a bracket of the bound: to a part in 2^50
CHUNK = 2**21  # row numbers drawn at once by the bootstrap: 16 MiB


class Interval(NamedTuple):
    """From `low` to `high`, in reward units."""

    low: float
    high: float


class Band(NamedTuple):
    """An interval after each row: both of shape (n,)."""

    low: Vector
    high: Vector


def standard_error(estimate: Estimate) -> float:
    """sqrt(n / (n - 1) sum_i score_i^2), in reward units: the delta method's; infinite for one row or none."""
    n = estimate.top.shape[1]
    return math.sqrt(n / (n - 1) * float((estimate.scores() ** 2).sum())) if n > 1 else math.inf


def upper_error(estimate: Estimate) -> float:
    """A standard error that is rarely too small where few rows decide: sqrt(V + sqrt(sum_i score_i^4)), V its square.

    The variance has a standard error itself, sqrt(sum score^4): of a dozen heavy clicks it is 29 per cent, and logs
    that drew few of them have a low value and a small variance at once.
    """
    fourth = float((estimate.scores() ** 4).sum())
    return math.sqrt(standard_error(estimate) ** 2 + math.sqrt(fourth))


def student(level: float, freedom: int) -> float:
    """Quantile of Student's t."""
    from scipy import stats  # a server that evaluates live has no need of it

    return float(stats.t.ppf(level, freedom))


def normal(value: float, error: float, alpha: float = 0.05) -> Interval:
    """value -+ z standard errors. Valid where many rows share the weight: see checks/overlap.py."""
    half = NormalDist().inv_cdf(1 - alpha / 2) * error
    return Interval(value - half, value + half)


def bootstrap(estimate: Estimate, alpha: float = 0.05, *, seed: int = 0, resamples: int = 1000) -> Interval:
    """Quantiles alpha/2 and 1 - alpha/2 of the estimate over rows drawn anew with replacement.

    Resamples in which a self-normalised estimate has no weight at all are left out. Efron (1979).
    """
    values = _resampled(estimate, np.random.default_rng(seed), resamples)
    low, high = np.nanquantile(values, [alpha / 2, 1 - alpha / 2]).tolist()
    return Interval(low, high)


def _resampled(estimate: Estimate, rng: np.random.Generator, resamples: int) -> Vector:
    """The estimate's value on `resamples` samples of its own rows, shape (resamples,)."""
    n = estimate.top.shape[1]
    rows = max(1, CHUNK // n)
    parts = [_sums(estimate, rng.integers(0, n, (min(rows, resamples - k), n))) for k in range(0, resamples, rows)]
    top, bottom = np.concatenate(parts, axis=2)
    ratios = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    values: Vector = ratios.sum(axis=0)
    return values


def _sums(estimate: Estimate, drawn: np.ndarray) -> Matrix:
    """Sums of top and bottom over the rows drawn, shape (2, m, samples)."""
    return np.array([[line[drawn].sum(axis=1) for line in lines] for lines in (estimate.top, estimate.bottom)])


class Scale(NamedTuple):
    """What the bet on each row is based on: the rows before it, and nothing else."""

    guess: Vector  # mu_{i-1}
    lam: Vector  # sqrt(2 ln(1 / a) / (V_{i-1} i ln(1 + i)))

    @classmethod
    def of(cls, X: Vector, t: Vector, a: float) -> Scale:
        """From the rows, shape (n,): see the head of this file."""
        i = np.arange(1, len(X) + 1)
        mu = (0.5 + np.cumsum(X)) / (1 + np.cumsum(t))
        V = (0.25 + np.cumsum((X - mu * t) ** 2)) / (i + 1)
        before = np.concatenate([[0.25], V[:-1]])
        return cls(np.concatenate([[0.5], mu[:-1]]), np.sqrt(2 * math.log(1 / a) / (before * i * np.log1p(i))))


class Bet(NamedTuple):
    """Values of rows for a bet that their mean is above something: X, shape (n,), at least -floor t."""

    X: Vector
    floor: float = 0.0

    def check(self, t: Vector) -> None:
        """Refuse values below the floor.

        Raises:
            ValueError: there is one.
        """
        least = float((self.X + self.floor * t).min(initial=0.0))
        if least < -1e-9 * (1 + self.floor) * float(t.max(initial=1.0)):
            raise ValueError(f"values of a sequence must be at least {0.0 - self.floor:g}; got {least - self.floor:g}")


@dataclass(frozen=True, eq=False)
class Stakes:
    """What an interval for a mean is bet on.

    Attributes:
        gains: different X that all have that mean; the one of the smallest floor first.
        losses: likewise of `both` less that mean.
        t: how many rows each row (or user) counts for, shape (n,).
        both: mean of gain + loss: 1 for a value in [0, 1], 0 for a difference.
        least: below which the mean cannot be.
        most: above which it cannot be.
    """

    gains: Sequence[Bet]
    losses: Sequence[Bet]
    t: Vector
    both: float = 1.0
    least: float = 0.0
    most: float = 1.0

    def betting(self, alpha: float) -> Interval:
        """For a constant mean, held however often it is looked at: hedged capital; see the head of this file."""
        low, high = lower(self.gains, self.t, alpha / 2), self.both - lower(self.losses, self.t, alpha / 2)
        return Interval(min(max(low, self.least), self.most), max(min(high, self.most), self.least))


def _capital(m: float, bets: Sequence[Bet], t: Vector, scales: Sequence[Vector]) -> Vector:
    """ln of the mean of the K_i(m) of several bets after each row, for t <= 1."""
    logs = []
    for bet, lam in zip(bets, scales, strict=True):
        reach = m + bet.floor  # the most that a row can lose
        stake = np.minimum(lam, (FLOORED if bet.floor > 0 else STAKE) / reach) if reach > 0 else lam
        logs.append(np.cumsum(np.log1p(stake * (bet.X - m * t))))
    found: Vector = np.logaddexp.reduce(logs, axis=0) - math.log(len(bets))
    return found


def lower(bets: Sequence[Bet], t: Vector, a: float) -> float:
    """L_n: a lower bound of the ratio of the means of X and t, false with probability `a` whenever it is looked at.

    Args:
        bets: different X with the same mean, in the order in which rows came.
        t: at least 0, shape (n,).
        a: in (0, 1).
    """
    bets, t, scales = _prepared(bets, t, a)
    goal = math.log(1 / a)

    def won(m: float) -> bool:
        return bool(_capital(m, bets, t, scales).max(initial=-math.inf) >= goal)

    return _halve(won, -min(bet.floor for bet in bets))


def _prepared(bets: Sequence[Bet], t: Vector, a: float) -> tuple[list[Bet], Vector, list[Vector]]:
    """X / T of each bet, t / T and lam of each."""
    T = t.max(initial=0.0) or 1.0
    for bet in bets:
        bet.check(t)
    scaled = [Bet(bet.X / T, bet.floor) for bet in bets]
    return scaled, t / T, [Scale.of(bet.X, t / T, a).lam for bet in scaled]


def _halve(won: Callable[[float], bool], least: float) -> float:
    """The largest m from `least` on for which `won`, or `least`: it is won below some m and not above."""
    if not won(least):
        return least
    low, step = least, 1.0
    while won(least + step):
        low, step = least + step, 2 * step
    high = least + step
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if won(middle) else (low, middle)
    return low


def lower_running(bets: Sequence[Bet], t: Vector, a: float, steps: int = 256) -> Vector:
    """L_i after each row, shape (n,), rounded down to one of `steps` even parts of the last one.

    Candidate by candidate: the row at which the bet against it was won; the bound is the largest won so far.
    """
    least = -min(bet.floor for bet in bets)
    last, goal = lower(bets, t, a), math.log(1 / a)
    bets, t, scales = _prepared(bets, t, a)
    bound = np.full(len(t) + 1, least)
    for m in np.linspace(least, last, steps + 1)[1:].tolist() if last > least else []:
        won = _capital(m, bets, t, scales) >= goal
        first = int(won.argmax()) if won.any() else len(t)
        bound[first] = max(bound[first], m)
    result: Vector = np.maximum.accumulate(bound[:-1])
    return result


def weighted(w: Vector, reward: Vector, bound: float = math.inf) -> Stakes:
    """Stakes on the mean of w r, for weights 0 <= w <= `bound` that have mean 1, and r in [0, 1].

    Raises:
        ValueError: if a reward is outside [0, 1].
    """
    _check_unit(reward)
    losses = [Bet(w * (1 - reward))]
    if math.isfinite(bound):
        losses.append(Bet(1 - w * reward, max(bound - 1, 0.0)))
    return Stakes([Bet(w * reward)], losses, np.ones(len(w)))


def bounded(values: Vector, s: Vector | None = None, unit: Int | None = None) -> Stakes:
    """Stakes on the mean of values in [0, 1].

    Args:
        values: shape (n,), in the order in which they came.
        s: row weights, shape (n,).
        unit: number of each row's user, shape (n,), where users repeat.

    Raises:
        ValueError: if a value is outside [0, 1].
    """
    _check_unit(values)
    s = np.ones(len(values)) if s is None else s
    gain, t = by_unit(s * values, unit), by_unit(s, unit)
    return Stakes([Bet(gain)], [Bet(t - gain)], t)


def betting_running(stakes: Stakes, alpha: float = 0.05, steps: int = 256) -> Band:
    """`betting` after each row, a little wider (by a part in `steps` of each bound)."""
    low, lost = (lower_running(bets, stakes.t, alpha / 2, steps) for bets in (stakes.gains, stakes.losses))
    return Band(np.clip(low, stakes.least, stakes.most), np.clip(stakes.both - lost, stakes.least, stakes.most))


def _check_unit(values: Vector) -> None:
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"values must be in [0, 1]; got {values.min()} to {values.max()}")
