"""Sequences for a mean that moves: of a policy that learns, of visitors that change.

    X_i  at least 0, value of row i          mu_i = E[X_i | rows before]; asked for is the mean of mu_1 .. mu_n
    g_i  min(1, mean of the rows before)      V = sum (X_i - g_i)^2                psi(l) = -ln(1 - l) - l

        lower bound_n = mean of X - min_k (ln(1 / (a p_k)) + psi(l_k) V_n) / (l_k n)
        l_k = 2^-k,   p_k = 2 / ((k + 1) (k + 2)),   k = 1, 2, .., 14

It is false with probability `a` at most, at all n together, whatever the mu_i do and however rows depend on those
before: exp(l sum (X - mu) - psi(l) V) is a supermartingale for each l, since X - g >= -1 (Fan, Grama, Liu 2015, Lemma
4.1; Howard, Ramdas, McAuliffe, Sekhon 2021, Theorem 4, https://arxiv.org/abs/1810.08240; X without an upper bound as
in Waudby-Smith et al. 2022, https://arxiv.org/abs/2210.10768), and each slope l_k has its share of `a`.

The betting of intervals.py is narrower for a few hundred rows, but takes every mu_i for the same: where rewards rise or
fall, its intervals leave the mean out in every run (docs/decisions/0007).
"""

from __future__ import annotations

import math

import numpy as np

from bandit.linear import Vector
from simulator.estimators import Estimate
from simulator.intervals import Band, Interval, betting_pair

SLOPES = 0.5 ** np.arange(1, 15)  # steep ones for the first rows, flat ones for millions of them
SHARES = 2 / (np.arange(2, 16) * np.arange(3, 17))  # of `a`, more for the steep; all together less than 1
COSTS = -np.log1p(-SLOPES) - SLOPES  # psi of each


def moving_lower(X: Vector, a: float) -> Vector:
    """A lower bound of the mean after each row, shape (n,).

    Args:
        X: at least 0, shape (n,), in the order in which they came.
        a: in (0, 1): how often one of the bounds may be false.

    Raises:
        ValueError: if a value is below 0.
    """
    if len(X) and not X.min() >= 0:
        raise ValueError(f"values of a sequence must be at least 0; got {X.min()}")
    n = np.arange(1, len(X) + 1)
    mean = np.cumsum(X) / n
    before = np.concatenate([[0.5], mean[:-1]])[: len(X)]
    V = np.cumsum((X - np.minimum(before, 1.0)) ** 2)
    lines = zip(SLOPES, COSTS, np.log(1 / (a * SHARES)), strict=True)
    off = np.min([(room + cost * V) / slope for slope, cost, room in lines], axis=0)
    bound: Vector = np.maximum(mean - off / n, 0.0)
    return bound


def moving(gain: Vector, loss: Vector, alpha: float = 0.05, bound: float = math.inf, both: float = 1.0) -> Band:
    """After each row an interval for the mean of `gain` up to there.

    The upper end is `both` less the lower bound of `loss`. Where gain has a bound too, what is missing to that bound
    gives another, and each has half: the first is narrow where most rewards are 1, the second where most are 0.

    Args:
        gain: at least 0, shape (n,), such as w r of rewards in [0, 1].
        loss: at least 0, such as w (1 - r).
        alpha: 1 - confidence; half of it for each side.
        bound: what no gain can pass, at least 1.
        both: the mean of gain + loss in the long run.
    """
    low, a = moving_lower(gain, alpha / 2), alpha / 2
    if math.isinf(bound):
        return Band(np.minimum(low, both), np.maximum(both - moving_lower(loss, a), 0.0))
    missing = np.maximum(1 - gain / bound, 0.0)
    high = np.minimum(both - moving_lower(loss, a / 2), bound * (1 - moving_lower(missing, a / 2)))
    return Band(np.minimum(low, both), np.maximum(high, 0.0))


def moving_value(w: Vector, reward: Vector, alpha: float = 0.05, bound: float = math.inf) -> Band:
    """The value of a target policy, from weights that have mean 1 and cannot pass `bound`, and rewards in [0, 1]."""
    return moving(w * reward, w * (1 - reward), alpha, max(bound, 1.0))


def moving_lift(w: Vector, reward: Vector, alpha: float = 0.05, bound: float = math.inf) -> Band:
    """The value of a target less that of the policy that logged, the mean of (w - 1) r; arguments as above."""
    found = moving(1 + (w - 1) * reward, 1 + (w - 1) * (1 - reward), alpha, max(bound, 1.0), both=2.0)
    return Band(found.low - 1, found.high - 1)


def sequence_of(
    gains: Estimate, losses: Estimate, alpha: float, bound: float = math.inf, *, moves: bool = False
) -> Interval:
    """The interval after the last row, by betting or, for a value that moves, by `moving`.

    Args:
        gains: one ratio of non-negative sums, in the order of the rows (or users).
        losses: likewise; gain + loss is 1 in the long run.
        alpha: 1 - confidence.
        bound: what top / bottom of a row of `gains` cannot pass.
        moves: the value moves; then every row counts once or not at all.
    """
    if not moves:
        return betting_pair(gains, losses, alpha, bound)
    rows = gains.bottom[0] > 0
    band = moving(gains.top[0, rows], losses.top[0, rows], alpha, max(bound, 1.0))
    return Interval(float(band.low[-1]), float(band.high[-1]))
