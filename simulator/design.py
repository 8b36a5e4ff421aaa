"""How uncertain an estimate is by the design of its log: over all draws there could have been, not those there were.

    term of a row  v + g (r - q)      g  weight: w = pi / mu, or what an estimator makes of it; 0 if not accepted
    e = r - q      residual           q, v  the model's prediction of the shown arm and of the target; 0 without one
    k2_a, k3_a ..  second, third and fourth absolute moment of the residuals of arm a, which has n_a rows
    S2_a, S3_a     sum_i s_i^2 mu g^2,   sum_i s_i^3 mu |g|^3     over all rows, whichever arm was drawn
    U              sum_a S2_a k2_a + sum_i s_i^2 ((v_i - mean v)^2 - c^2),   c the mean of g (r - q)

    SE        max(that of the rows, sqrt(U + sqrt(sum_a S2_a^2 k4_a / (n_a + 20))) / sum s)
    skewness  (sum_a S3_a k3_a + sum_i |s_i (v_i - mean v)|^3) / U^1.5

Rows that were drawn cannot tell how heavy those are that were not: a log in which no heavy row was rewarded looks
calm, and errs in one direction. So moments are of an arm's rows whatever their weight, with 20 rows more that are like
those of all arms, and with one row in the whole log that has the largest residual there could be: that is what a range
of money says of the order that has not come yet. U itself is uncertain where arms have few rows: its standard error is
added. Absolute moments do not cancel: the skewness is that of the bound on the error of a normal interval (Esseen
1942).

Rows of one user are not independent: with f the users' variance over the rows' (at least 1), the variance is f times
and the skewness sqrt(f) times as large.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bandit.linear import Matrix, Vector
from bandit.sums import Int
from simulator.estimators import Estimate

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
    """k2, k3 and k4 of each arm, shape (K,), and the rows that they are of."""

    second: Vector
    third: Vector
    fourth: Vector
    rows: Vector


def moments(arm: Int, residual: Vector, K: int, reach: float) -> Moments:
    """The moments of each arm.

    Args:
        arm: shown in each row, shape (n,).
        residual: shape (n,), in reward units.
        K: how many arms there are.
        reach: the largest residual there could be, in absolute value.
    """
    n, e = np.bincount(arm, minlength=K), np.abs(residual)
    share = np.minimum(1.0, OFTEN / np.maximum(n, 1))  # what a row of each arm counts among all

    def of(power: int) -> Vector:
        each = np.bincount(arm, e**power, K)
        pooled = float(share @ each) / float(share @ n)
        found: Vector = (each + IMAGINED * pooled) / (n + IMAGINED) + reach**power / len(arm)
        return found

    return Moments(of(2), of(3), of(4), n + IMAGINED)


def spread(
    estimate: Estimate, S: Totals, k: Moments, base: Vector | None, s: Vector, centre: float = 0.0, f: float = 1.0
) -> Spread:
    """The spread of an estimate.

    Args:
        estimate: its rows; sum s stands below the line, or what an estimator has in its place.
        S: of the weights.
        k: of the residuals.
        base: v, shape (n,); None where there is no model.
        s: row weights, shape (n,).
        centre: c.
        f: the users' variance over the rows'.
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
    return Spread(math.sqrt(f * (U + unsure)) / below, math.sqrt(f) * third / U**1.5)


def clustering(rows: Estimate, grouped: Estimate) -> float:
    """f: the variance of an estimate by its users over that by its rows, at least 1."""
    alone, together = (float((each.scores() ** 2).sum()) for each in (rows, grouped))
    return max(1.0, together / alone) if alone > 0 else 1.0
