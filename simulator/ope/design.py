"""How uncertain an estimate is by the design of its log: over all draws there could have been, not those there were.

    term of a row  v + g (r - q)      g  weight: w = pi / mu, or what an estimator makes of it; 0 if not accepted
    e = r - q      residual           q, v  the model's prediction of the shown arm and of the target; 0 without one
    kp_a           absolute moment p of the residuals of arm a: sum |s e|^p / mean s^p over its n_a rows
    S2_a, S3_a     sum_i s_i^2 mu g^2,   sum_i s_i^3 mu |g|^3     over all rows, whichever arm was drawn
    T              one more row, of the largest weight and residual there can be
    U              sum_a S2_a k2_a + sum_i s_i^2 ((v_i - mean v)^2 - c^2),   c the mean of g (r - q)

    SE        max(that of the rows, sqrt(U + sqrt(sum_a S2_a^2 k4_a / (n_a + 20))) / sum s)
    skewness  (sum_a S3_a k3_a + sum_i |s_i (v_i - mean v)|^3 + T^3) / (U + T^2)^1.5

Rows that were drawn cannot tell how heavy those are that were not: a log in which no heavy row was rewarded looks
calm, and errs in one direction. So moments are of an arm's rows whatever their weight, or of those of more than its
median weight where these are larger (what is bought where the target would show it), with 20 rows more that are like
those of all arms, and with one row in the whole log that has the largest residual there could be: that is what a range
of money says of the order that has not come yet. U itself is uncertain where arms have few rows: its standard error is
added. Absolute moments do not cancel: the skewness is that of the bound on the error of a normal interval (Esseen
1942).

Rows of one user are not independent: with f the users' variance over the rows' (at least 1), the variance is f times
and the skewness sqrt(f) times as large, and at least that of the users' sums. Where some users have far more rows than
others, one more is thought to have come: as large as the largest, at the highest rate of those with half of the rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from simulator.ope.estimators import Estimate

IMAGINED = 20.0  # rows that an arm is thought to have had, with the moments of all arms
OFTEN = 100.0  # rows of an arm that count in these: the arm shown most is not all arms


class Totals(NamedTuple):
    """S2 and S3, both of shape (K,)."""

    squares: Vector
    cubes: Vector

    @property
    def effective(self) -> float:
        """How many draws of equal weight are as uneven as these: (sum S2)^3 / (sum S3)^2."""
        third = float(self.cubes.sum())
        return float(self.squares.sum()) ** 3 / third**2 if third > 0 else 0.0


class Spread(NamedTuple):
    """The standard error of a value, in reward units, and its skewness, by design."""

    error: float
    skewness: float


class Crowd(NamedTuple):
    """Users: their variance over that of rows, at least 1, and the skewness of their sums."""

    times: float
    skewness: float


ALONE = Crowd(1.0, 0.0)


def totals(mu: Matrix, g: Matrix, s: Vector) -> Totals:
    """S2 and S3 from the probabilities and weights of every arm, shape (n, K), and row weights, shape (n,)."""
    squares = mu * g**2
    return Totals(s**2 @ squares, s**3 @ (squares * np.abs(g)))


def totals_drawn(arm: Int, g: Vector, s: Vector, K: int) -> Totals:
    """The same from the arms shown, shape (n,): right on average, blind to what was not drawn."""
    sg = np.abs(s * g)
    squares, cubes = (np.bincount(arm, sg**power, K).astype(np.float64) for power in (2, 3))
    return Totals(squares, cubes)


class Moments(NamedTuple):
    """k2, k3 and k4 of each arm, shape (K,), the rows that they are of, and the largest residual there could be."""

    second: Vector
    third: Vector
    fourth: Vector
    rows: Vector
    reach: float = 0.0


def moments(
    arm: Int, residual: Vector, K: int, reach: float, g: Vector | None = None, s: Vector | None = None
) -> Moments:
    """The moments of each arm.

    Args:
        arm: shown in each row, shape (n,).
        residual: shape (n,), in reward units.
        K: how many arms there are.
        reach: the largest residual there could be, in absolute value.
        g: weights of the arms shown, shape (n,); None: they are alike.
        s: row weights, shape (n,).
    """
    n, e = np.bincount(arm, minlength=K), np.abs(residual if s is None else s * residual)
    share = np.minimum(1.0, OFTEN / np.maximum(n, 1))  # what a row of each arm counts among all
    heavy = None if g is None else _heavy(arm, np.abs(g), K)
    heavier = np.zeros(K) if heavy is None else np.bincount(arm[heavy], minlength=K)
    apart = (heavier > 0) & (heavier < n)  # others are heavy and light alike

    def of(power: int) -> Vector:
        values = e**power / (1.0 if s is None else float(np.mean(s**power)))
        each = np.bincount(arm, values, K)
        pooled = float(share @ each) / float(share @ n)
        found = (each + IMAGINED * pooled) / (n + IMAGINED)
        if heavy is not None:
            upper = np.bincount(arm[heavy], values[heavy], K)
            found = np.where(apart, np.maximum(found, (upper + IMAGINED * found) / (heavier + IMAGINED)), found)
        return np.asarray(found + reach**power / len(arm))

    return Moments(of(2), of(3), of(4), np.where(apart, heavier, n) + IMAGINED, reach)


def _heavy(arm: Int, g: Vector, K: int) -> Mask:
    """The rows whose weight is not below the one in the middle of their arm's, counted by weight; shape (n,)."""
    order = np.lexsort((g, arm))
    total = np.bincount(arm, g, K)
    sums = np.cumsum(g[order]) - np.concatenate([[0.0], np.cumsum(total)])[arm[order]]
    middle = np.zeros(K)
    past = order[sums >= total[arm[order]] / 2]
    middle[arm[past][::-1]] = g[past][::-1]
    heavy: Mask = g >= np.maximum(middle[arm], 1e-300) * (1 - 1e-9)
    return heavy


def spread(
    estimate: Estimate, S: Totals, k: Moments, base: Vector | None, s: Vector, centre: float = 0.0,
    users: Crowd = ALONE, top: float = 0.0,
) -> Spread:  # fmt: skip
    """The spread of an estimate.

    Args:
        estimate: its rows; sum s stands below the line, or what an estimator has in its place.
        S: of the weights.
        k: of the residuals.
        base: v, shape (n,); None where there is no model.
        s: row weights, shape (n,).
        centre: c.
        users: who repeat.
        top: the largest g there can be, s in it.
    """
    below = float(estimate.bottom.sum(axis=1).min())
    U, third = float(S.squares @ k.second), float(S.cubes @ k.third)
    U = max(U - centre**2 * float(s @ s), U / 10)
    if base is not None:
        off = np.abs(s * (base - float(s @ base) / float(s.sum())))
        U, third = U + float(off @ off), third + float((off**3).sum())
    if not (U > 0 and below > 0):
        return Spread(0.0, math.inf)
    unsure = math.sqrt(float((S.squares**2) @ (k.fourth / k.rows)))
    f, T = users.times, top * k.reach
    skewness = (third + T**3) / (U + T**2) ** 1.5
    return Spread(math.sqrt(f * (U + unsure)) / below, max(users.skewness, math.sqrt(f) * skewness))


def crowd(rows: Estimate, unit: Int | None) -> Crowd:
    """How much clustering by user raises the variance of an estimate, and the skewness of its users' sums.

    Args:
        rows: the estimate.
        unit: number of each row's user, shape (n,), where users repeat.
    """
    if unit is None:
        return ALONE
    alone, each, size = float((rows.scores() ** 2).sum()), np.abs(rows.grouped(unit).scores()), np.bincount(unit)
    if not alone > 0:
        return ALONE
    order = np.argsort(-size)
    active = order[: 1 + int(np.searchsorted(np.cumsum(size[order]), size.sum() / 2))]  # who has half of the rows
    one_more = float(size.max() * (each[active] / size[active]).max())
    V, third = float((each**2).sum()), float((each**3).sum())
    if size.max() < 2 * size.mean():  # they are alike: those there are tell of all
        return Crowd(max(1.0, V / alone), third / V**1.5 if V > 0 else 0.0)
    V, third = V + one_more**2, third + one_more**3
    return Crowd(max(1.0, V / alone), third / V**1.5)
