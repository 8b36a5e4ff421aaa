"""Differences of what policies earn on the same rows, and the parts of a log in which they are looked at.

    A, B  estimates on the same rows: DR of a target, or the mean reward that was earned      D = A - B

    interval   both may have normal intervals and so may D: normal, from the rows' paired scores
    sequence   else, where neither is refused: [low A - high B, high A - low B], each side with half of alpha
    refused    one side is

Where m differences stand together each has alpha / m: all of them hold at once (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bandit.linear import Matrix, Vector
from bandit.sums import Int
from simulator import estimators as of
from simulator.estimators import Estimate
from simulator.evaluation import evaluate
from simulator.intervals import normal
from simulator.logged import Log
from simulator.models import QFit, model_of, predictions
from simulator.moving import sequence_of
from simulator.verdict import ENOUGH, SKEWNESS, Verdict, kish, row_weights, skewness, units, verdict

BINS = 10  # of the calibration
WINDOWS = 2, 10  # the fewest and the most parts of a log over time


@dataclass(frozen=True, eq=False)
class Data:
    """A log with the reward model's predictions, shape (n, K), the lowest and highest possible reward, and whether the
    targets' values move (see `evaluate`).
    """

    log: Log
    q: Matrix
    span: tuple[float, float]
    drifts: bool = False

    @classmethod
    def of(cls, log: Log, how: Mapping[str, Any]) -> Data:
        """With the model that `evaluate` would fit, given the same options."""
        r = log.reward
        span = how.get("reward_range") or (min(0.0, float(r.min())), max(1.0, float(r.max())))
        q = how.get("q", "ridge")
        if isinstance(q, np.ndarray):
            return cls(log, q, span, how.get("drifts", False))
        fit: QFit = how.get("q_fit") or ("past" if log.learning else "cross")
        predicted = predictions(model_of(q), log, fit, seed=how.get("seed", 0), unit=units(log))
        return cls(log, np.clip(predicted, *span), span, how.get("drifts", False))

    def take(self, rows: Int) -> Data:
        """These rows only."""
        return Data(self.log.take(rows), self.q[rows], self.span, self.drifts)


class Side(NamedTuple):
    """One side of a difference, or a mean that stands alone; the ends are None if refused."""

    estimate: Estimate
    verdict: Verdict
    low: float | None
    high: float | None
    n_eff: float


class Difference(NamedTuple):
    """A - B in reward units; the ends are None if refused. `share` is of B's value, `n_eff` the smaller one."""

    value: float
    low: float | None
    high: float | None
    verdict: Verdict
    share: float
    n: int
    n_eff: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def policy(data: Data, target: Matrix, alpha: float) -> Side:
    """What a target would have earned, by DR."""
    log = data.log
    (row,) = evaluate(log, target, estimators=["dr"], q=data.q, alpha=alpha, reward_range=data.span, drifts=data.drifts)
    at = np.arange(len(log)), log.arm
    v = of.expected(target, data.q)
    estimate = of.dr(log.reward, log.propensity, target[at], data.q[at], v, log.weight)
    return Side(_grouped(estimate, log), row.verdict, row.low, row.high, row.n_eff)


def earned(data: Data, alpha: float) -> Side:
    """What was earned: the mean reward, with an interval by the same rules as a target's."""
    log, (low, high) = data.log, data.span
    estimate = _grouped(of.mean(log.reward, log.weight), log)
    n_eff = kish(estimate.bottom[0])
    said = verdict(n_eff, skewness(estimate.scores()), [])
    if said == "refused":
        return Side(estimate, said, None, None, n_eff)
    if said == "interval":
        return Side(estimate, said, *normal(estimate, alpha), n_eff)
    gain = (estimate.top - low * estimate.bottom) / (high - low)
    gains, losses = (Estimate(np.maximum(top, 0), estimate.bottom) for top in (gain, estimate.bottom - gain))
    moves = (log.learning or data.drifts) and log.weight is None and units(log) is None
    ends = [low + (high - low) * end for end in sequence_of(gains, losses, alpha, moves=moves)]
    return Side(estimate, said, ends[0], ends[1], n_eff)


def _grouped(estimate: Estimate, log: Log) -> Estimate:
    unit = units(log)
    return estimate if unit is None else estimate.grouped(unit)


def lift(data: Data, target: Matrix, alpha: float) -> Difference:
    """A target less what was earned."""
    return difference(policy(data, target, alpha / 2), earned(data, alpha / 2), alpha)


def compared(data: Data, one: Matrix, other: Matrix, alpha: float) -> Difference:
    """A target less another one."""
    return difference(policy(data, one, alpha / 2), policy(data, other, alpha / 2), alpha)


def compare(
    log: Log, targets: Mapping[str, Matrix], *, baseline: str | None = None, alpha: float = 0.05, **how: Any
) -> dict[str, Difference]:
    """Each target less the baseline, on the same rows.

    Args:
        log: n rows.
        targets: pi(a|x) of every row and arm by name, shape (n, K) each.
        baseline: one of the names; None: the first.
        alpha: 1 - confidence.
        how: as of `evaluate`.

    Raises:
        ValueError: there is no such baseline.
    """
    first = next(iter(targets)) if baseline is None else baseline
    if first not in targets:
        raise ValueError(f"the baseline is one of {', '.join(targets)}; got {first!r}")
    data = Data.of(log, how)
    return {name: compared(data, pi, targets[first], alpha) for name, pi in targets.items() if name != first}


def difference(a: Side, b: Side, alpha: float) -> Difference:
    """A - B by the rules at the head of this file, of sides that were made with alpha / 2."""
    top, bottom = (
        np.vstack(lines) for lines in ((a.estimate.top, -b.estimate.top), (a.estimate.bottom, b.estimate.bottom))
    )
    paired = Estimate(top, bottom)
    said, low, high = _ends(a, b, paired, alpha)
    base = b.estimate.value
    share = paired.value / base if base > 0 else float("nan")
    return Difference(paired.value, low, high, said, share, top.shape[1], min(a.n_eff, b.n_eff))


def _ends(a: Side, b: Side, paired: Estimate, alpha: float) -> tuple[Verdict, float | None, float | None]:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return "refused", None, None
    if not paired.scores().any():
        return "interval", 0.0, 0.0  # the same policy: every row's difference is 0
    if {a.verdict, b.verdict} == {"interval"} and skewness(paired.scores()) <= SKEWNESS:
        return "interval", *normal(paired, alpha)
    return "sequence", a.low - b.high, a.high - b.low


def windows(log: Log, n_eff: float) -> list[Int]:
    """Row numbers of even parts of the log over time: 2 to 10, by how much the whole log says of the target."""
    order = np.arange(len(log)) if log.time_ms is None else np.argsort(log.time_ms, kind="stable")
    return np.array_split(order, min(len(log), int(np.clip(n_eff / ENOUGH, *WINDOWS))))


def arms_of(log: Log, most: int) -> list[int]:
    """The arms shown most, the most shown first."""
    order: list[int] = np.argsort(-np.bincount(log.arm, minlength=log.K), kind="stable")[:most].tolist()
    return order


def calibration(data: Data) -> tuple[Vector, list[Int]]:
    """Predictions of the arms shown, shape (n,), and row numbers of ten even bins of them (fewer where they tie)."""
    predicted: Vector = data.q[np.arange(len(data.log)), data.log.arm]
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, predicted, side="right")
    return predicted, [np.flatnonzero(bins == b) for b in np.unique(bins).tolist()]


def average(values: Vector, log: Log) -> float:
    """The mean of values, shape (n,), by row weights."""
    return float(np.average(values, weights=row_weights(log)))
