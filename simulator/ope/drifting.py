"""Sequences for a mean that drifts: of a policy that learns, of visitors that change.

    X_i  at least -f t_i, value of row i     mu_i = E[X_i | rows before]; asked for is the sum of mu over that of t
    t_i  how many rows it counts for         g_i  sum X / sum t of the rows before, cut to [-1, 1];  0.5 at first
    V    sum (X_i - g_i t_i)^2               b = (f + 1) max t up to a power of 2;  psi(l) = (-ln(1 - l b) - l b) / b^2

        lower bound = M / sum t,   M the largest for which   sum_k p_k exp(l_k (sum X - M) - psi(l_k) V) >= 1 / a
        l_k = .8 2^-k / b,   p_k = 1 / ((k + 1) (k + 2)),   k = 0, 1, .., 15

It is false with probability `a` at most, at all n together, whatever the mu_i do and however rows depend on those
before: each exp(l sum (X - mu) - psi(l) V) is a supermartingale, since X - g t >= -b (Fan, Grama, Liu 2015, Lemma
4.1; Howard, Ramdas, McAuliffe, Sekhon 2021, Theorem 4, https://arxiv.org/abs/1810.08240), and so is their mixture. X
needs no upper bound (Waudby-Smith et al. 2022, https://arxiv.org/abs/2210.10768). Looked at again and again, b must
stay what it is: the largest weight that the policy's exploration allows, known before the first row.

Several X with the same mu may be given (`Bet`), each with its share of `a`: one such as w r has a small f and decides
early, the doubly robust v + w (r - q) has a large one and varies little.

The betting of intervals.py is narrower for a few hundred rows, but takes every mu_i for the same: where rewards rise or
fall, its intervals leave the mean out in every run (docs/decisions/0007).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bandit.arrays import Vector
from simulator.ope.intervals import HALVINGS, Band, Bet, Interval, Stakes

EVERY, LAST = slice(None), slice(-1, None)
SLOPES = 0.8 * 0.5 ** np.arange(16)  # times b: steep ones for the first rows, flat ones for millions of them
SHARES = 1 / (np.arange(1, 17) * np.arange(2, 18))  # of `a`, more for the steep; all together less than 1


class _Line(NamedTuple):
    """One slope after each row: l, its share of `a`, the sum of X, and psi V."""

    slope: float
    share: float
    total: Vector
    spent: Vector


def drifting_lower(bets: Sequence[Bet], t: Vector, a: float, rows: slice = EVERY) -> Vector:
    """A lower bound of sum mu / sum t after each row, shape (n,); minus infinity where nothing counts yet.

    Args:
        bets: the X, the one of the smallest floor first, in the order in which rows came.
        t: at least 0, shape (n,).
        a: in (0, 1): how often one of the bounds may be false.
        rows: after which rows it is asked for; all of them.

    Raises:
        ValueError: if a value is below its floor.
    """
    slope, share, total, spent = map(np.array, zip(*_lines(bets, t, rows), strict=True))
    slope, spent = slope[:, None], spent - np.log(share)[:, None]
    n, goal = np.cumsum(t)[rows], np.log(1 / a)
    low: Vector = (total - (goal + spent) / slope).max(axis=0)
    high: Vector = total.max(axis=0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        refuted = np.logaddexp.reduce(slope * (total - middle) - spent, axis=0) >= goal
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    bound: Vector = np.divide(low, n, out=np.full(len(n), -np.inf), where=n > 0)
    return bound


def _lines(bets: Sequence[Bet], t: Vector, rows: slice) -> Iterator[_Line]:
    """Every slope of every bet."""
    top = float(t.max(initial=0.0)) or 1.0
    for bet in bets:
        total, V, b = np.cumsum(bet.X)[rows], _spread(bet, t)[rows], 2.0 ** math.ceil(math.log2((bet.floor + 1) * top))
        for slope, share in zip(SLOPES.tolist(), (SHARES / len(bets)).tolist(), strict=True):
            yield _Line(slope / b, share, total, (-math.log1p(-slope) - slope) / b**2 * V)


def _spread(bet: Bet, t: Vector) -> Vector:
    """V after each row."""
    bet.check(t)
    total, n = np.cumsum(bet.X), np.cumsum(t)
    mean = np.divide(total, n, out=np.full(len(t), 0.5), where=n > 0)
    before = np.clip(np.concatenate([[0.5], mean[:-1]])[: len(t)], -1.0, 1.0)
    V: Vector = np.cumsum((bet.X - before * t) ** 2)
    return V


def drifting(stakes: Stakes, alpha: float = 0.05, rows: slice = EVERY) -> Band:
    """After each row an interval for the mean of the gains up to there, half of alpha for each side.

    The upper end is `both` less the lower bound of the losses.
    """
    low, lost = (drifting_lower(bets, stakes.t, alpha / 2, rows) for bets in (stakes.gains, stakes.losses))
    return Band(np.clip(low, stakes.least, stakes.most), np.clip(stakes.both - lost, stakes.least, stakes.most))


def sequence_of(stakes: Stakes, alpha: float, *, drifts: bool = True) -> Interval:
    """The interval after the last row: for a value that drifts, or by betting on one that is constant."""
    if not drifts:
        return stakes.betting(alpha)
    band = drifting(stakes, alpha, LAST)
    return Interval(float(band.low[-1]), float(band.high[-1]))
