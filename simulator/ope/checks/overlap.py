"""Whether a log can say anything about a target, before anyone reads the number.

    mu, pi  (n, K)  probabilities of the logging and the target policy      s  (n,)  row weights, 1 where none
    rho_i   sum_a pi^2 / mu, what the squared weight of row i is in expectation, drawn or not

    n_eff* = (sum s)^2 / sum_i s_i^2 rho_i          with s = 1: n^2 / sum_i sum_a pi^2 / mu

The usual effective n, (sum w)^2 / sum w^2 over the rows, is blind to large weights that were never drawn: it read 350
of 500 where 95 % intervals covered 20 to 36 %. The verdict:

    interval   n_eff* >= 50 and the design skewness (simulator.ope.design) <= .5: a normal interval can be believed
    sequence   else: an interval that holds for any n and any shape (a confidence sequence)
    assumed    a sequence that holds if no reward can be larger, or smaller, than those that came: no range was stated
    biased     else, of an estimator with a bias: its interval is around its own expectation, not around the value
    refused    a check failed, so that the log or the draw is broken, or the target plays what could never be shown

Rows in which the target plays what could not be shown say nothing of it: it is valued on the others (`playable`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.estimators import importance

Verdict = Literal["interval", "sequence", "assumed", "biased", "refused"]
Basis = Literal["full", "uniform", "rows"]

ENOUGH = 50.0  # n_eff* from which normal intervals are given
SKEWNESS = 0.5  # of an estimate by design, above which a normal interval is not given (docs/decisions/0009)
ROUNDED = 1e-4  # how far the mean weight may be from 1 because probabilities were rounded
RARE = 10.4  # ln(2 / 6e-5)
Z_EXACT, Z_ROWS = 4.0, 3.0  # the mean weight's distance from 1 that is still near; variance known, or from the rows


def row_weights(log: Log) -> Vector:
    """s, shape (n,)."""
    return np.ones(len(log)) if log.weight is None else log.weight


def logging_policy(log: Log) -> tuple[Matrix | None, Basis]:
    """mu of every arm, shape (n, K), and where it is from: logged in full, a constant 1 / K, or not known (None)."""
    if log.probability is not None:
        return log.probability, "full"
    if np.allclose(log.propensity, 1 / log.K, rtol=1e-6, atol=0):
        return np.broadcast_to(1 / log.K, (len(log), log.K)), "uniform"
    return None, "rows"


def ratios(target: Matrix, probability: Matrix) -> Matrix:
    """pi / mu of every arm, shape (n, K): 0 where pi is 0, infinite where only mu is."""
    fill = np.where(target > 0, np.inf, 0.0)
    return np.asarray(np.divide(target, probability, out=fill, where=probability > 0))


def effective_n(target: Matrix, probability: Matrix, weight: Vector | None = None) -> float:
    """n_eff*: how many rows drawn by the target itself would say as much of its value, by the weights alone.

        n_eff* = n^2 / sum_i sum_a pi^2 / mu        0 where the target needs an arm that was never drawn (mu = 0)

    Args:
        target: pi, shape (n, K).
        probability: mu, shape (n, K).
        weight: s, shape (n,), or None.
    """
    s = np.ones(len(target)) if weight is None else weight
    total = float(s**2 @ squared_weights(target, probability))
    return float(s.sum()) ** 2 / total if total > 0 else 0.0


def squared_weights(target: Matrix, probability: Matrix) -> Vector:
    """rho, shape (n,); infinite where mu = 0 < pi."""
    with np.errstate(divide="ignore"):  # mu = 0 is what the answer is about
        return np.asarray(np.einsum("ij,ij->i", target, ratios(target, probability)))


def kish(w: Vector) -> float:
    """(sum w)^2 / sum w^2: how many equal weights are worth as much."""
    square = float(w @ w)
    return float(w.sum()) ** 2 / square if square > 0 else 0.0


@dataclass(frozen=True)
class Overlap:
    """How far the log covers what the target does.

    Attributes:
        n_eff: n_eff*, or n^2 / sum w^2 where `basis` is "rows"; never above the users' own effective number.
        basis: "full" or "uniform": exact; "rows": only drawn weights are seen, so it is optimistic.
        mean_weight: mean of the rows' weights, near 1 in a sound log.
        max_weight: the largest weight of a row.
        z: (mean weight - 1) / its standard error, exact or (basis "rows") from the rows.
        low: z below which the log or the draw is broken, by what heavy weights that were not drawn can explain.
        high: z above which it is.
    """

    n_eff: float
    basis: Basis
    mean_weight: float
    max_weight: float
    z: float
    low: float
    high: float

    def failures(self) -> list[str]:
        """What forbids any verdict, in words; empty if nothing does."""
        if self.low <= self.z <= self.high:
            return []
        limit = f"limit {self.low if self.z < 0 else self.high:.3g}"
        return [f"mean weight {self.mean_weight:.4g} is not near 1 (z {self.z:.1f}, {limit})"]


def overlap(log: Log, target: Matrix, unit: Int | None = None) -> Overlap:
    """The overlap of a log with a target policy.

    Args:
        log: n rows.
        target: pi, shape (n, K).
        unit: number of each row's user, shape (n,), where users repeat: see `units`.
    """
    s, (mu, basis) = row_weights(log), logging_policy(log)
    w = importance(log.propensity, target[np.arange(len(log)), log.arm])
    if mu is None:
        return overlap_of(s, w, None, basis, unit, float(target.max(initial=0.0)) / least_propensity(log))
    largest = float(ratios(target, mu).max(initial=0.0))
    return overlap_of(s, w, float(s**2 @ squared_weights(target, mu)), basis, unit, largest)


def overlap_of(
    s: Vector, w: Vector, square: float | None, basis: Basis, unit: Int | None, largest: float = 0.0
) -> Overlap:
    """The overlap from the weight of each row, without the tables of probabilities.

    Args:
        s: row weights, shape (n,).
        w: pi / mu of the arms shown, shape (n,).
        square: sum s^2 rho; None where only the shown arm's propensity is known.
        basis: where mu is from.
        unit: as in `overlap`.
        largest: the largest w that a row can have, drawn or not; 0 where it is not known.
    """
    total = max(float(s.sum()), 1e-300)
    average = float(s @ w) / total
    if square is None:
        square, variance = float(s**2 @ w**2), float(s**2 @ (w - average) ** 2)
    else:
        variance = square - float(s @ s)
    if unit is not None:
        variance = max(variance, _clustered(s * (w - 1), unit))
    sd = math.hypot(math.sqrt(max(variance, 0.0)) / total, ROUNDED)
    top = largest * float(s.max(initial=0.0))
    n_eff = total**2 / square if square > 0 else 0.0
    if unit is not None:
        n_eff = min(n_eff, *(kish(np.bincount(unit, each).astype(np.float64)) for each in (s, s * w)))
    spread = top * total if basis == "rows" else variance  # E w^2 is not known then, but no more than the largest w
    limit = float(freedman(top, max(spread, 0.0), RARE)) / total / sd
    high = Z_ROWS if basis == "rows" else max(limit, Z_EXACT)
    z, low = (average - 1) / sd, -max(limit, high)
    return Overlap(n_eff, basis, average, float(w.max(initial=0.0)), z, low, high)


def freedman(b: Any, V: Any, L: float) -> Any:
    """How far a sum of draws is off with probability 2 exp(-L) at most: b L / 3 + sqrt(b^2 L^2 / 9 + 2 V L).

    Args:
        b: the largest term, in absolute value; a number or an array.
        V: variance of the sum, of the same shape.
        L: ln(2 / probability).
    """
    part = b * L / 3
    return part + np.sqrt(part**2 + 2 * V * L)


def least_propensity(log: Log) -> float:
    """The smallest probability that an arm can be thought to have had: shown, or left over for the others evenly."""
    others = (1 - log.propensity) / max(log.K - 1, 1)
    return max(
        1e-12, float(np.minimum(log.propensity, others, where=others > 0, out=log.propensity.copy()).min(initial=1.0))
    )


def _clustered(values: Vector, unit: Int) -> float:
    """Sum of the squared sums of each unit: the variance of the total where only units are independent."""
    sums = np.bincount(unit, values)
    return float(sums @ sums)


def units(log: Log) -> Int | None:
    """Number of each row's user, shape (n,), or of its decision where there are no users; None if nobody repeats.

    Rows with an empty user stand each for themselves.
    """
    for names in (log.user, log.decision_id):
        if names is not None:
            _, unit = np.unique(names, return_inverse=True)
            if (found := numbered(np.where(names == "", len(log) + np.arange(len(log)), unit))) is not None:
                return found
    return None


def numbered(keys: Int) -> Int | None:
    """Number of each row's unit, for keys that are equal within a unit; None if none repeats.

    Units are numbered as they came, from 0 without gaps: a sequence reads them in this order.
    """
    kept, first, unit = np.unique(keys, return_index=True, return_inverse=True)
    if len(kept) == len(keys):
        return None
    place = np.empty(len(kept), np.int64)
    place[np.argsort(first)] = np.arange(len(kept))
    return np.asarray(place[unit])


def playable(log: Log, target: Matrix) -> Mask:
    """The rows in which all that the target plays could be shown, shape (n,): only these say what it would earn.

    Where just the shown arm's propensity is known, a propensity of 1 says that no other arm could be.
    """
    if log.probability is not None:
        never: Mask = ((target > 0) & (log.probability == 0)).any(axis=1)
        return ~never
    certain: Mask = log.propensity == 1
    own = target[np.arange(len(log)), log.arm]
    playable: Mask = ~certain | (own >= 1 - ROUNDED)
    return playable


def verdict(n_eff: float, skew: float, failures: list[str]) -> Verdict:
    """What may be said, by the table at the head of this file."""
    if failures:
        return "refused"
    return "interval" if n_eff >= ENOUGH and skew <= SKEWNESS else "sequence"


def lacking(n_eff: float, skew: float) -> float:
    """How many times as many rows, or as much exploration, a normal interval takes; at least 1.

    Skewness falls with the root of either, n_eff* rises with both.
    """
    return max(1.0, (skew / SKEWNESS) ** 2, ENOUGH / n_eff if n_eff > 0 else math.inf)
