"""Sample-ratio check: were arms shown as often as their propensities say? If not, the log or the draw is broken.

mu is what an arm was drawn from: where there are slices, that of the row's own slice (`Log.within`).

    s_i  row weight, 1 where none        mu_i(a)  probability of arm a in row i        m  number of shares looked at

    D = sum_i s_i (1[a_i = a] - mu_i(a))        V = sum_i s_i^2 mu_i(a) (1 - mu_i(a))        z = D / sqrt(V)
    broken where |D| > b L / 3 + sqrt(b^2 L^2 / 9 + 2 V L),    L = ln(2 m / .001),    b = max s

By Freedman's inequality a sound log is called broken with probability .001 at most, all arms and slices together, also
if its policy learned, and however rare an arm is (where the normal limit of z would be wrong). With only the shown
arm's propensity p, 1[a_i = a] / p_i takes the place of 1[a_i = a] and 1 that of mu; V and b are then bounded through
the smallest p or (1 - p) / (K - 1), so that little is seen beside small propensities and nothing beside a p of 1, and
every arm must have been eligible throughout.
What cannot be proved so is still told (`warnings`): arms that were never shown, and arms of `OFTEN` rows or more whose
sum of 1 / p is `DOUBT` standard deviations too small by the spread of their own rows.
Where users repeat or rows are weighted, V is also taken from the users or rows, and the larger one counts.

Freedman (1975), Annals of Probability 3(1). Fabijan et al. (2019), "Diagnosing sample ratio mismatch", KDD.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.checks.balance import Balance
from simulator.ope.checks.overlap import Basis, freedman, least_propensity, logging_policy, row_weights, units

OFTEN, DOUBT = 200, 6.0
SURE = 1e-3  # probability of calling a sound log broken, all arms and slices together


@dataclass(frozen=True)
class Share:
    """How often one arm was shown in one slice, against how often its propensities say.

    Attributes:
        part: the slice; None where the log has none.
        arm: the arm's id; None stands for all arms together (basis "rows" only).
        observed: sum s 1[a_i = a], or (basis "rows") sum s 1[a_i = a] / p_i.
        expected: sum s mu_i(a), or (basis "rows") sum s.
        z: (observed - expected) / its standard deviation.
        limit: |z| above which the log or the draw is broken.
    """

    part: int | None
    arm: str | None
    observed: float
    expected: float
    z: float
    limit: float

    @property
    def flagged(self) -> bool:
        """Whether chance does not explain it."""
        return not abs(self.z) <= self.limit


@dataclass(frozen=True)
class SampleRatio:
    """The sample-ratio check of a log.

    Attributes:
        shares: one for each slice and arm.
        basis: "full" or "uniform"; "rows" where only the shown arm's propensity is known (much weaker).
        mismatch: the share of rows whose propensity is not what their full vector says of the arm shown.
    """

    shares: tuple[Share, ...]
    basis: Basis
    mismatch: float
    warnings: tuple[str, ...] = ()  # what may be wrong, in words
    unbalanced: tuple[str, ...] = ()  # contexts that know the arm, in words: see `simulator.ope.checks.balance`

    @property
    def flagged(self) -> list[Share]:
        """What chance does not explain, the worst first; empty for a sound log."""
        return sorted(
            (each for each in self.shares if each.flagged), key=lambda each: -abs(each.z) / max(each.limit, 1e-9)
        )

    def failures(self) -> list[str]:
        """What is wrong, in words; empty for a sound log."""
        found = (
            [f"{self.mismatch:.2%} of the propensities contradict the probabilities of all arms"]
            if self.mismatch
            else []
        )
        for worst in self.flagged[:1]:
            where = "" if worst.part is None else f" in slice {worst.part}"
            arm = "all arms" if worst.arm is None else f"arm {worst.arm!r}"
            what = "drawn {:.0f} times" if self.basis != "rows" else "with a sum of 1 / propensity of {:.0f}"
            drawn = f"{what.format(worst.observed)} for {worst.expected:.0f} expected"
            found.append(f"{arm}{where} {drawn} (z {worst.z:.1f}, limit {worst.limit:.1f})")
        return [*found, *self.unbalanced]


class Counts(NamedTuple):
    """What is counted and what it should be, with a column for each arm (and one for all, where only p is known)."""

    excess: Matrix  # (n, C) 1[a_i = a] - mu_i(a), or 1[a_i = a] / p_i - 1
    expected: Matrix  # (n, C) mu_i(a), or 1
    variance: Matrix  # (n, C) of the excess; where only p is known, of one whose largest excess is 2


class Tally:
    """The check of a log that may come in pieces.

    Args:
        units: how many users there are; 0 where nobody repeats. Of weighted rows each is a unit.
        constant: whether propensities that are all 1 / K tell of the other arms'; not so of a piece of a log that has
            others too.
    """

    def __init__(self, units: int = 0, *, constant: bool = True) -> None:
        self.units, self.constant = units, constant
        self.arms: tuple[str, ...] = ()
        self.basis: Basis = "full"
        self.least, self.rows, self.mismatched = 1.0, 0, 0.0
        self._parts: dict[int | None, _Sums] = {}
        self.balance = Balance()
        self._inverse: Matrix = np.zeros((3, 0))  # of each arm: rows, sum 1 / p, sum 1 / p^2

    def add(self, log: Log, unit: Int | None = None) -> None:
        """Count some rows; `unit` is the number of each one's user, where there are any."""
        mu, self.basis = logging_policy(log) if log.within is None else (log.within, "full")
        if self.basis == "uniform" and not self.constant:
            mu, self.basis = None, "rows"
        self.balance.add(log, mu)
        self.arms = log.arms
        self.least = min(self.least, _least(log))
        self.rows, self.mismatched = self.rows + len(log), self.mismatched + _mismatch(log) * len(log)
        if mu is None and log.weight is None:
            p = [np.ones(len(log)), 1 / log.propensity, log.propensity**-2.0]
            more = np.array([np.bincount(log.arm, each, log.K) for each in p])
            self._inverse = more if not self._inverse.size else self._inverse + more
        counts, s = _counts(log, mu), row_weights(log)
        for part in [None] if log.part is None else np.unique(log.part).tolist():
            rows = np.arange(len(log)) if part is None else np.flatnonzero(log.part == part)
            if part not in self._parts:
                self._parts[part] = _Sums(counts.excess.shape[1], self.units)
            own = None if unit is None else unit[rows]
            self._parts[part].add(
                Counts(*(each[rows] for each in counts)), s[rows], own, weighted=log.weight is not None
            )

    def result(self) -> SampleRatio:
        """The check's result on all rows that were added."""
        K = len(self.arms)
        known = self.basis != "rows"
        names = [*self.arms] if known else [*self.arms, None]
        most = np.ones(K) if known else np.append(np.ones(K), 1 / K) / self.least
        L = math.log(2 * len(names) * max(1, len(self._parts)) / SURE)
        shares = [
            Share(part, name, *each)
            for part, sums in sorted(self._parts.items(), key=lambda each: -1 if each[0] is None else each[0])
            for name, each in zip(names, sums.judged(most, L, known=known), strict=True)
        ]
        mismatch = self.mismatched / self.rows if self.rows else 0.0
        clustered = [sums.clustered() for sums in self._parts.values()]
        worst = self.balance.worst(*map(max, zip(*clustered, strict=True))) if clustered else None
        unbalanced = () if worst is None else (worst,)
        failed, doubts = (unbalanced, ()) if self.balance.known else ((), unbalanced)
        return SampleRatio(tuple(shares), self.basis, mismatch, (*self._warnings(), *doubts), failed)

    def _warnings(self) -> Iterator[str]:
        """What the rows leave in doubt where only the shown arm's propensity is known."""
        count, total, square = self._inverse
        if len(count) and (never := int((count == 0).sum())):
            yield f"{never} of {len(count)} arms were never shown: this log cannot tell whether their rows were lost"
        sd = np.sqrt(np.maximum(square - total**2 / max(self.rows, 1), 1e-12))
        z = np.where(count >= OFTEN, (total - self.rows) / sd, 0.0)
        if len(z) and z.min() < -DOUBT:
            arm = int(z.argmin())
            what = f"arm {self.arms[arm]!r} has a sum of 1 / propensity of {total[arm]:.0f}, for {self.rows} expected"
            yield f"{what} (z {z[arm]:.1f} by its own rows): some of its rows may be lost"


class _Sums:
    """What is added up over the rows of one slice, for C columns."""

    def __init__(self, C: int, units: int) -> None:
        self.excess, self.expected, self.variance = np.zeros((3, C))
        self.squares, self.largest = np.zeros((2, C))  # of s excess: sum over units of the square, and the largest
        self.by_unit = np.zeros((units, C)) if units else None
        self.weight = 0.0  # the largest s

    def add(self, counts: Counts, s: Vector, unit: Int | None, *, weighted: bool) -> None:
        self.excess += s @ counts.excess
        self.expected += s @ counts.expected
        self.variance += s**2 @ counts.variance
        self.weight = max(self.weight, float(s.max(initial=0.0)))
        if unit is not None and self.by_unit is not None:
            present, place = np.unique(unit, return_inverse=True)
            self.by_unit[present] += _by_unit(s[:, None] * counts.excess, place)
        elif weighted:
            each = s[:, None] * counts.excess
            self.squares += (each**2).sum(axis=0)
            self.largest = np.maximum(self.largest, np.abs(each).max(axis=0, initial=0.0))

    def judged(self, most: Vector, L: float, *, known: bool) -> list[tuple[float, float, float, float]]:
        """Observed, expected, z and limit of each column; `most` is the largest excess that there can be."""
        if self.by_unit is not None:
            self.squares = (self.by_unit**2).sum(axis=0)
            self.largest = np.abs(self.by_unit).max(axis=0, initial=0.0)
        D, b = self.excess, np.maximum(most * self.weight, self.largest)
        V = np.maximum(self.variance * (1.0 if known else np.maximum(most - 1, 0)), self.squares)
        sd = np.sqrt(np.maximum(V, 1e-12))
        limit = np.where(V > 0, freedman(b, V, L) / sd, 0)  # never drawn: not once
        columns = (D + self.expected).tolist(), self.expected.tolist(), (D / sd).tolist(), limit.tolist()
        return list(zip(*columns, strict=True))

    def clustered(self) -> tuple[float, float]:
        """How many times as large users make the variance of a column's total, and how many rows of one add up."""
        if self.by_unit is None:
            return 1.0, 1.0
        times = float(((self.by_unit**2).sum(axis=0) / np.maximum(self.variance, 1e-12)).max(initial=1.0))
        return max(1.0, times), max(1.0, float(np.abs(self.by_unit).max(initial=0.0)))


def sample_ratio(log: Log) -> SampleRatio:
    """The check of every arm in every slice; see the head of this file."""
    unit = units(log)
    tally = Tally(0 if unit is None else int(unit.max(initial=-1)) + 1)
    tally.add(log, unit)
    return tally.result()


def _counts(log: Log, mu: Matrix | None) -> Counts:
    shown = np.zeros((len(log), log.K))
    shown[np.arange(len(log)), log.arm] = 1.0
    if mu is not None:
        return Counts(shown - mu, mu, mu * (1 - mu))
    shown /= log.propensity[:, None]
    shown = np.column_stack([shown, shown.mean(axis=1)])
    one = np.ones(shown.shape)
    return Counts(shown - 1, one, one)


def _least(log: Log) -> float:
    """The smallest probability that an arm can be thought to have had, also where another was certain."""
    return 1e-12 if (log.propensity >= 1).any() else least_propensity(log)


def _by_unit(values: Matrix, unit: Int) -> Matrix:
    """Sums of the rows of each unit, shape (units, C)."""
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0)) if len(starts) else values


def _mismatch(log: Log) -> float:
    """The share of rows whose propensity is not what their vector says."""
    if log.probability is None or not len(log):
        return 0.0
    said = log.probability[np.arange(len(log)), log.arm]
    return float(np.mean(~np.isclose(said, log.propensity, rtol=1e-3, atol=1e-9)))
