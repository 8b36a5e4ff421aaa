"""Differences of what policies earn on the same rows, and what was earned itself.

    A, B   targets, or what was earned: then pi_B = mu, w_B = 1       d = w_A - w_B,   v = sum_a (pi_A - pi_B) q
    D      mean of v + d (r - q): both by DR, on the rows in which all that both play could be shown

    interval   the design allows it (simulator.ope.design, with d for g): for one look at it
    sequence   else, or where it may be looked at again: of the same paired rows
    refused    the log is broken, or the two can be compared in no row

Where m differences stand together each has alpha / m: all of them hold at once (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope import estimators as of
from simulator.ope.checks.limits import check, check_log, check_predictions
from simulator.ope.checks.overlap import (
    Verdict,
    kish,
    least_propensity,
    logging_policy,
    overlap,
    playable,
    ratios,
    row_weights,
    units,
    verdict,
)
from simulator.ope.checks.sample_ratio import sample_ratio
from simulator.ope.design import Spread, Totals, crowd, moments, spread, totals, totals_drawn
from simulator.ope.drifting import sequence_of
from simulator.ope.estimators import Estimate
from simulator.ope.evaluate import ranged
from simulator.ope.intervals import Interval, bounded, normal, upper_error
from simulator.ope.models import QFit, model_of, predictions
from simulator.ope.problem import Looks
from simulator.ope.terms import difference_stakes, own_stakes


@dataclass(frozen=True, eq=False)
class Data:
    """A log with the reward model's predictions, shape (n, K), the lowest and highest possible reward and whether it is
    known, and whether values drift (see `evaluate`).
    """

    log: Log
    q: Matrix
    span: tuple[float, float]
    stated: bool = True
    drifts: bool = True
    failures: tuple[str, ...] = ()  # of the sample-ratio check

    @classmethod
    def of(cls, log: Log, how: Mapping[str, Any]) -> Data:
        """With the model that `evaluate` would fit, given the same options."""
        log, span, stated = ranged(log, how.get("reward_range"), how.get("cap"))
        check_log(log, span)
        q, rest = how.get("q", "ridge"), (stated, how.get("drifts", True), tuple(sample_ratio(log).failures()))
        if isinstance(q, np.ndarray):
            check_predictions(q)
            return cls(log, q, span, *rest)
        fit: QFit = how.get("q_fit") or ("past" if log.learning else "cross")
        predicted = predictions(model_of(q), log, fit, seed=how.get("seed", 0), unit=units(log))
        return cls(log, np.clip(predicted, *span), span, *rest)

    @cached_property
    def users(self) -> Int | None:
        """Number of each row's user, where users repeat; see `units`."""
        return units(self.log)

    def take(self, rows: Int) -> Data:
        """These rows only."""
        return replace(self, log=self.log.take(rows), q=self.q[rows])

    def unit(self, values: Any) -> Any:
        """Rewards, or predictions of them, in [0, 1]."""
        return (values - self.span[0]) / (self.span[1] - self.span[0])


class Side(NamedTuple):
    """A mean with its interval, not a difference."""

    value: float
    verdict: Verdict
    low: float
    high: float


class Difference(NamedTuple):
    """A - B in reward units; the ends are None if refused. `share` is of B's value, `n` the rows compared on."""

    value: float
    low: float | None
    high: float | None
    verdict: Verdict
    share: float
    n: int
    skewness: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


NONE = Difference(float("nan"), None, None, "refused", float("nan"), 0, float("nan"))


def earned(data: Data, alpha: float, looks: Looks = "one") -> Side:
    """What was earned: the mean reward, with an interval by the same rules as a target's."""
    log, s = data.log, row_weights(data.log)
    rows, unit = of.mean(log.reward, log.weight), data.users
    found = rows if unit is None else rows.grouped(unit)
    S = totals_drawn(log.arm, np.ones(len(log)), s, log.K)
    by_design = _spread(rows, S, log.reward - rows.value, None, data, np.ones(len(log)), 1.0)
    said = verdict(kish(found.bottom[0]), by_design.skewness, [])
    if said == "interval" and data.stated and looks == "one":
        return Side(rows.value, said, *normal(rows.value, max(upper_error(found), by_design.error), alpha))
    stakes = bounded(np.clip(data.unit(log.reward), 0, 1), s, unit)
    return Side(
        rows.value,
        "sequence" if data.stated else "assumed",
        *_scaled(sequence_of(stakes, alpha, drifts=data.drifts), data, data.span[0]),
    )


def _spread(
    rows: Estimate, S: Totals, residual: Vector, base: Vector | None, data: Data, g: Vector, largest: float
) -> Spread:
    log = data.log
    reach = data.span[1] - data.span[0]
    k, s = moments(log.arm, residual, log.K, reach, g, log.weight), row_weights(log)
    return spread(rows, S, k, base, s, users=crowd(rows, data.users), top=largest * float(s.max(initial=0.0)))


def _scaled(ends: Interval, data: Data, low: float = 0.0) -> Interval:
    return Interval(*(low + (data.span[1] - data.span[0]) * end for end in ends))


def lift(data: Data, target: Matrix, alpha: float, looks: Looks = "one") -> Difference:
    """A target less what was earned."""
    return compared(data, target, None, alpha, looks)


def compared(data: Data, one: Matrix, other: Matrix | None, alpha: float, looks: Looks = "one") -> Difference:
    """A target less another one; None: less what was earned."""
    rows = playable(data.log, one)
    if other is not None:
        rows = rows & playable(data.log, other)
    if not rows.any():
        return NONE
    if not rows.all():
        at = np.flatnonzero(rows)
        data, one, other = data.take(at), one[at], None if other is None else other[at]
    paired, unit = Paired.of(data, one, other), data.users
    value = paired.rows.value
    against = _value(data, other)
    share = value / against if against > 0 else float("nan")
    if data.failures or any(overlap(data.log, pi, unit).failures() for pi in (one, other) if pi is not None):
        return NONE._replace(n=len(data.log))
    if _same(paired, one, other):
        return Difference(0.0, 0.0, 0.0, "interval", 0.0, len(data.log), 0.0)  # the same policy
    said, low, high, skew = _ends(data, paired, alpha, looks)
    most = data.span[1] - data.span[0]
    value, low, high = (min(max(each, -most), most) for each in (value, low, high))
    return Difference(value, min(low, value), max(high, value), said, share, len(data.log), skew)


def _same(paired: Paired, one: Matrix, other: Matrix | None) -> bool:
    """Whether both are one policy: not only where they were drawn."""
    if paired.every is not None:
        return not paired.every.any()
    return other is not None and np.array_equal(one, other)


def _value(data: Data, target: Matrix | None) -> float:
    """DR of a target, or the mean reward."""
    log = data.log
    if target is None:
        return of.mean(log.reward, log.weight).value
    at = np.arange(len(log)), log.arm
    return of.dr(log.reward, log.propensity, target[at], data.q[at], of.expected(target, data.q), log.weight).value


@dataclass(frozen=True, eq=False)
class Paired:
    """The rows of a difference: v and d of the arm shown, both of shape (n,); d of every arm, shape (n, K), where mu is
    known; the weights of both, shape (n,), where it is not; and their estimate.
    """

    v: Vector
    d: Vector
    every: Matrix | None
    sides: tuple[Vector, ...]
    rows: Estimate

    @classmethod
    def of(cls, data: Data, one: Matrix, other: Matrix | None) -> Paired:
        """Of two targets, or of one and what was earned."""
        log, at = data.log, (np.arange(len(data.log)), data.log.arm)
        mu, _ = logging_policy(log)
        q = data.q[at]
        if mu is not None:
            less = one - (mu if other is None else other)
            every = ratios(np.abs(less), mu) * np.sign(less)
            v, d = of.expected(less, data.q), every[at]
            sides: tuple[Vector, ...] = ()
        else:
            every = None
            v = of.expected(one, data.q) - (q if other is None else of.expected(other, data.q))
            sides = one[at] / log.propensity, np.ones(len(q)) if other is None else other[at] / log.propensity
            d = sides[0] - sides[1]
        return cls(v, d, every, sides, of.mean(v + d * (log.reward - q), log.weight))


def _ends(data: Data, paired: Paired, alpha: float, looks: Looks) -> tuple[Verdict, float, float, float]:
    """(verdict, low, high, skewness) of a difference."""
    log, s, unit = data.log, row_weights(data.log), data.users
    mu, _ = logging_policy(log)
    if mu is not None and paired.every is not None:
        S, largest = totals(mu, paired.every, s), float(np.abs(paired.every).max())
    else:
        S, largest = totals_drawn(log.arm, paired.d, s, log.K), 1 / least_propensity(log)
    residual = log.reward - data.q[np.arange(len(log)), log.arm]
    by_design = _spread(paired.rows, S, residual, paired.v, data, paired.d, largest)
    n_eff = S.effective
    if unit is not None:
        n_eff = min(n_eff, *(kish(np.bincount(unit, each).astype(np.float64)) for each in (s, s * np.abs(paired.d))))
    if looks == "one" and data.stated and verdict(n_eff, by_design.skewness, []) == "interval":
        found = paired.rows if unit is None else paired.rows.grouped(unit)
        ends = normal(paired.rows.value, max(upper_error(found), by_design.error), alpha)
        return "interval", *ends, by_design.skewness
    return "sequence" if data.stated else "assumed", *_sequence(data, paired, alpha), by_design.skewness


def _sequence(data: Data, paired: Paired, alpha: float) -> Interval:
    """That of the paired rows; where not all weights are known, so that nothing bounds them, one for each side."""
    log, s, unit = data.log, row_weights(data.log), data.users
    r, width = np.clip(data.unit(log.reward), 0, 1), data.span[1] - data.span[0]
    if paired.every is not None:
        q, v = data.unit(data.q), paired.v / width
        stakes = difference_stakes(r, paired.d, q, v, paired.every, log.arm, s, unit)
        return _scaled(sequence_of(stakes, alpha, drifts=data.drifts), data)
    ends = [sequence_of(own_stakes(r, w, s, unit), alpha / 2, drifts=data.drifts) for w in paired.sides]
    return _scaled(Interval(ends[0].low - ends[1].high, ends[0].high - ends[1].low), data)


def compare(
    log: Log,
    targets: Mapping[str, Matrix],
    *,
    baseline: str | None = None,
    alpha: float = 0.05,
    looks: Looks = "any",
    **how: Any,
) -> dict[str, Difference]:
    """Each target less the baseline, on the same rows.

    Args:
        log: n rows.
        targets: pi(a|x) of every row and arm by name, shape (n, K) each.
        baseline: one of the names; None: the first.
        alpha: 1 - confidence.
        looks: `any`: a sequence, right however often a log that grows is looked at; `one`: where the log allows it an
            interval, which is narrower, and wrong in a quarter of the months in which it is looked at daily.
        how: as of `evaluate`.

    Raises:
        ValueError: there is no such baseline.
    """
    first = next(iter(targets)) if baseline is None else baseline
    if first not in targets:
        raise ValueError(f"the baseline is one of {', '.join(targets)}; got {first!r}")
    check(log, alpha, how)
    data = Data.of(log, how)
    return {name: compared(data, pi, targets[first], alpha, looks) for name, pi in targets.items() if name != first}
