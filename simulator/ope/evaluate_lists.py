"""`evaluate` for lists: what another policy's lists would have earned, from a log with a row for each position.

Weights multiply from position to position, and nobody has the probabilities of all lists: the effective n is that of
the weights drawn, (sum W)^2 / sum W^2, which is optimistic, and their mean must be near 1. Lists of one user are not
independent: as in `evaluate` users are what counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix
from bandit.core.draw import UNKNOWN
from simulator.logs.contexts import LogError
from simulator.logs.log import Log
from simulator.ope import list_estimators as of
from simulator.ope.checks.limits import LARGEST, check_log
from simulator.ope.checks.overlap import Verdict, kish, overlap_of, row_weights, units, verdict
from simulator.ope.checks.sample_ratio import sample_ratio
from simulator.ope.design import Crowd, Spread, crowd, moments, spread, totals_drawn
from simulator.ope.drifting import sequence_of
from simulator.ope.estimators import Estimate, by_unit, importance
from simulator.ope.evaluate import EstimatorRow, never, options_of, ranged, too_little
from simulator.ope.intervals import Bet, Stakes, normal, standard_error, upper_error
from simulator.ope.list_estimators import Lists
from simulator.ope.problem import Looks, Options
from simulator.ope.targets import ListTarget, list_target
from simulator.wording import amount, capped

BLOCKS = 10  # of lists, each valued by a model of the others
IMAGINED = 20.0  # lists of the mean reward that are added for each arm and position in cascade DR's model


def evaluate_lists(
    log: Log,
    text: str,
    *,
    estimators: Sequence[str] | None = None,
    alpha: float = 0.05,
    reward_range: tuple[float, float] | None = None,
    cap: float | None = None,
    drifts: bool = True,
    looks: Looks = "one",
) -> list[EstimatorRow]:
    """The value of one list of the target's, by each estimator that can use the target.

    Args:
        log: rows with a position and a decision id.
        text: names the target.
        estimators: names out of `ESTIMATORS`; None: all that apply.
        alpha: 1 - confidence.
        reward_range: lowest and highest possible reward of a position; None: the log's own, else 0 to 1, wider if the
            log has others (then no normal interval is given).
        cap: rewards of a position above it count as it.
        drifts: as of `evaluate`.
        looks: as of `evaluate`.

    Raises:
        ValueError: the log has no lists, the target or a name is not known, a reward is outside its range, or a number
            is none.
    """
    log, span, stated = ranged(log, reward_range, cap)
    check_log(log, span, lists=True)
    options = options_of(log, span, alpha=alpha, stated=stated, cap=cap, drifts=drifts, looks=looks)
    lists = Lists.of(log)
    wanted = list_target(log, lists, text)
    names = tuple(ESTIMATORS if estimators is None else estimators)
    if unknown := [name for name in names if name not in ESTIMATORS]:
        raise ValueError(f"estimators of lists are {', '.join(ESTIMATORS)}; unknown {unknown}")
    if (lists.marginal == UNKNOWN).any():
        if estimators is not None and "independent" in names:
            raise ValueError("independent takes marginal probabilities; this log does not have those of lower places")
        names = tuple(name for name in names if name != "independent")
    if wanted.conditional is None:
        names = tuple(name for name in names if not ESTIMATORS[name].conditional)
    broken, unit = sample_ratio(lists.log).failures(), units(lists.log)
    return [_row(name, lists, wanted, broken, unit, options) for name in names]


def _row(
    name: str, lists: Lists, wanted: ListTarget, broken: Sequence[str], unit: Int | None, options: Options
) -> EstimatorRow:
    """One estimator's answer."""
    W, s = ESTIMATORS[name].weights(lists, wanted), row_weights(lists.log)
    if not W.max(initial=0.0) <= LARGEST:
        return replace(never(name), n=len(s), note=f"importance weights of the lists exceed {LARGEST:g}")
    rows = ESTIMATORS[name].estimate(lists, wanted)
    found = rows if unit is None else rows.grouped(unit)
    n_eff = min(kish(each) for each in (*(s * W.T), by_unit(s, unit)))
    support = overlap_of(s, W[:, -1], None, "rows", unit)
    failures, by_design = [*support.failures(), *broken], _spread(rows, crowd(rows, unit), lists, W, options.span)
    said = verdict(n_eff, by_design.skewness, failures)
    if said == "interval" and (options.looks == "any" or not options.stated):
        said = "sequence"
    error, wide = (max(each(found), by_design.error) for each in (standard_error, upper_error))
    low, high = (None, None) if said == "refused" else normal(found.value, wide, options.alpha)
    if said == "sequence":
        low, high = _sequence(lists, W, unit, options)
        low, high = min(low, found.value), max(high, found.value)
    return EstimatorRow(
        estimator=name, value=found.value, low=low, high=high, n=len(s), share=1.0, n_eff=n_eff,
        skewness=by_design.skewness, max_weight=float(W.max(initial=0.0)), mean_weight=support.mean_weight,
        standard_error=error if math.isfinite(error) else None,
        verdict="assumed" if said == "sequence" and not options.stated else said,
        note="; ".join([*failures, *_notes(said, n_eff, by_design.skewness, rows, unit, options)]),
    )  # fmt: skip


def _notes(
    said: Verdict, n_eff: float, skew: float, rows: Estimate, unit: Int | None, options: Options
) -> Iterator[str]:
    """What a reader must know beside the number; words as of `evaluate`."""
    if said == "sequence":
        yield from too_little(rows.top.shape[1], n_eff, skew)
        if not options.drifts:
            yield "the sequence assumes a constant mean"
    if not options.stated:
        most = amount(options.span[1])
        yield f"state the possible rewards of a position: this holds only if none is above {most}, the largest observed"
    if options.cap is not None:
        yield capped(options.cap, low=options.span[0])
    yield "effective n is optimistic: it is computed from the weights that were drawn"
    if unit is not None:
        times = math.sqrt(crowd(rows, unit).times)
        yield f"clustered by {int(unit.max()) + 1} users: {times:.2g} times as wide as if lists were independent"


def _spread(rows: Estimate, users: Crowd, lists: Lists, W: Matrix, span: tuple[float, float]) -> Spread:
    """The spread of a list's weighted reward, each list with the largest weight of its positions."""
    one, s = np.zeros(len(W), np.int64), row_weights(lists.log)
    k = moments(one, lists.reward.sum(axis=1), 1, lists.arm.shape[1] * max(map(abs, span)))
    return spread(rows, totals_drawn(one, W.max(axis=1), s, 1), k, None, s, users=users)


def _sequence(lists: Lists, W: Matrix, unit: Int | None, options: Options) -> tuple[float, float]:
    """The sequence of the weighted rewards, which also covers cascade DR; an empty position counts as a sure loss."""
    (low, high), s, k = options.span, lists.log.weight, lists.arm.shape[1]
    r = (lists.reward - low) / (high - low)
    gain = (np.where(lists.there, W * r, 0.0)).sum(axis=1) / k
    loss = (np.where(lists.there, W * (1 - r), 1.0)).sum(axis=1) / k
    if W.shape[1] == 1:  # one weight for all positions, empty ones too
        loss = (W * np.where(lists.there, 1 - r, 1.0)).sum(axis=1) / k
    t = row_weights(lists.log)
    gains, losses, counts = (by_unit(each, unit) for each in (t * gain, t * loss, t))
    ends = sequence_of(Stakes([Bet(gains)], [Bet(losses)], counts), options.alpha, drifts=options.drifts)
    base = low * float(np.average(lists.there.sum(axis=1), weights=s))
    return base + (high - low) * k * ends.low, base + (high - low) * k * ends.high


def _model(lists: Lists) -> Matrix:
    """Q_j(a) for cascade DR, (n, k, K): what lists with arm a at position j earned from there on.

    Means are shrunk to that of the position. Fitted on the other blocks of lists, or of users where they repeat; where
    the logging policy learned, on the lists before.
    """
    (n, k), K, unit = lists.arm.shape, lists.log.K, units(lists.log)
    number = np.arange(n) if unit is None or lists.log.learning else unit
    block = number * BLOCKS // (number.max(initial=0) + 1)
    onward = np.cumsum(lists.reward[:, ::-1], axis=1)[:, ::-1]
    seen, earned = np.zeros((2, BLOCKS, k, K))
    rows, positions = np.nonzero(lists.there)
    at = block[rows], positions, lists.arm[rows, positions]
    np.add.at(seen, at, 1.0)
    np.add.at(earned, at, onward[rows, positions])
    Q = np.zeros((n, k, K))
    for b in range(BLOCKS):
        others = slice(0, b) if lists.log.learning else [each for each in range(BLOCKS) if each != b]
        count, total = seen[others].sum(axis=0), earned[others].sum(axis=0)
        usual = total.sum(axis=1, keepdims=True) / np.maximum(count.sum(axis=1, keepdims=True), 1)
        Q[block == b] = (total + IMAGINED * usual) / (count + IMAGINED)
    return Q * lists.there[:, :, None]


def _conditional(wanted: ListTarget) -> tuple[Matrix, Matrix]:
    """The conditional probabilities of the arms shown, and of all arms.

    Raises:
        LogError: the target has none.
    """
    if wanted.conditional is None or wanted.choices is None:
        raise LogError("this estimator needs the target's probability of each arm given those above it")
    return wanted.conditional, wanted.choices


def _prefix_weights(lists: Lists, wanted: ListTarget) -> Matrix:
    """W_j, (n, k)."""
    return of.prefix_weights(lists.conditional, _conditional(wanted)[0])


def _marginal_weights(lists: Lists, wanted: ListTarget) -> Matrix:
    """e_j / m_j, (n, k)."""
    return importance(lists.marginal.ravel(), wanted.marginal.ravel()).reshape(lists.marginal.shape)


def _cascade_dr(lists: Lists, wanted: ListTarget) -> Estimate:
    shown, choices = _conditional(wanted)
    arm, s = np.maximum(lists.arm, 0), lists.log.weight
    return of.cascade_dr(lists.reward, arm, lists.conditional, shown, choices, _model(lists), s)


class ListEstimator(NamedTuple):
    """One estimator of lists: all that the rest of the simulator has to know of it.

    Attributes:
        estimate: its value.
        weights: what multiplies a position's reward, (n, k); or one weight for the whole list, (n, 1).
        conditional: whether it needs the target's probability of an arm given those above it.
    """

    estimate: Callable[[Lists, ListTarget], Estimate]
    weights: Callable[[Lists, ListTarget], Matrix]
    conditional: bool = True


ESTIMATORS: dict[str, ListEstimator] = {
    "standard": ListEstimator(
        lambda lists, wanted: of.standard(lists.reward, lists.conditional, _conditional(wanted)[0], lists.log.weight),
        lambda lists, wanted: _prefix_weights(lists, wanted)[:, -1:],
    ),
    "independent": ListEstimator(
        lambda lists, wanted: of.independent(lists.reward, lists.marginal, wanted.marginal, lists.log.weight),
        _marginal_weights,
        conditional=False,
    ),
    "reward-interaction": ListEstimator(
        lambda lists, wanted: of.reward_interaction(
            lists.reward, lists.conditional, _conditional(wanted)[0], lists.log.weight
        ),
        _prefix_weights,
    ),
    "cascade-dr": ListEstimator(_cascade_dr, _prefix_weights),
}
