"""Each estimator: one record in `ESTIMATORS`, its value on a problem, its spread by design, its sequence's bets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.ope import estimators as of
from simulator.ope.checks.overlap import SKEWNESS, row_weights
from simulator.ope.design import Spread, Totals, crowd, moments, spread, totals_drawn
from simulator.ope.estimators import Estimate
from simulator.ope.intervals import Bet, Stakes
from simulator.ope.problem import EstimationProblem, Modelled

CAPS = (0.5, 0.75, 0.9, 0.95, 0.99)  # quantiles of the rewards that are not the lowest, tried as caps


@dataclass(frozen=True)
class Estimator:
    """One estimator: all that the rest of the simulator has to know of it.

    Attributes:
        label: its name in figures and tables.
        meaning: what it does, in a sentence or two of the report.
        estimate: its value on the rows of a problem.
        paper: address of its source.
        model: the reward model that it uses: the one that all share, the one fitted for MRDR, or none.
        weighs: what it weighs rewards or residuals by: importance weights as they are, or divided by their sum; a
            match of the target's arm with the one shown; or nothing.
        biased: whether its expectation is not the target's value, so that its interval is around something else.
        largest: the largest weight that it gives; None where it sets no limit.
        limited: what it makes of importance weights, given that limit.
        notes: what a reader must know of its settings.
    """

    label: str
    meaning: str
    estimate: Callable[[EstimationProblem], Estimate]
    paper: str = ""
    model: Literal["shared", "mrdr"] | None = None
    weighs: Literal["importance", "normalised", "matches", "nothing"] = "importance"
    biased: bool = False
    largest: Callable[[EstimationProblem], float] | None = None
    limited: Callable[[EstimationProblem, Vector], Vector] | None = None
    notes: Callable[[EstimationProblem], list[str]] = lambda problem: []


def _with_model(problem: EstimationProblem) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    """The arguments that DR, SNDR, SWITCH-DR and DRos share."""
    return *problem.common(), *problem.model[:2]


def _replayed(problem: EstimationProblem) -> Estimate:
    options = problem.options
    return of.replay(*problem.common(), problem.log.weight, acceptance=options.acceptance, seed=options.seed)


def _replay_notes(problem: EstimationProblem) -> list[str]:
    if problem.options.acceptance == "none" and np.ptp(problem.log.propensity) > 1e-9:
        return ["matching without rejection sampling is biased on a log that is not uniform"]
    return []


ESTIMATORS: dict[str, Estimator] = {
    "ips": Estimator(
        "IPS",
        "Inverse propensity scoring: rewards weighted by w = π / μ, the target’s probability over the logging "
        "policy’s.",
        lambda problem: of.ips(*problem.common(), problem.log.weight),
    ),
    "clipped": Estimator(
        "clipped IPS",
        "IPS with bounded weights: less variance, some bias.",
        lambda problem: of.clipped(*problem.common(), problem.options.clip, problem.log.weight),
        biased=True,
        largest=lambda problem: problem.options.clip,
        limited=lambda problem, w: np.minimum(w, problem.options.clip),
    ),
    "snips": Estimator(
        "SNIPS",
        "IPS divided by the sum of the weights rather than by the number of decisions.",
        lambda problem: of.snips(*problem.common(), problem.log.weight),
        weighs="normalised",
    ),
    "dm": Estimator(
        "DM",
        "Direct method: what a model of the reward predicts for the target. It is only as good as the model.",
        lambda problem: of.dm(problem.model.v, problem.log.weight),
        model="shared",
        weighs="nothing",
        biased=True,
    ),
    "dr": Estimator(
        "DR",
        "Doubly robust: the model’s prediction, corrected by its weighted errors. Unbiased if propensities are "
        "correct, however poor the model.",
        lambda problem: of.dr(*_with_model(problem), problem.log.weight),
        "https://arxiv.org/abs/1503.02834",
        model="shared",
    ),
    "sndr": Estimator(
        "SNDR",
        "DR whose weighted errors are divided by the sum of the weights.",
        lambda problem: of.sndr(*_with_model(problem), problem.log.weight),
        model="shared",
        weighs="normalised",
    ),
    "switch-dr": Estimator(
        "SWITCH-DR",
        "DR that relies on the model alone where weights are large: less variance, some bias.",
        lambda problem: of.switch_dr(*_with_model(problem), problem.tau, problem.log.weight),
        "https://arxiv.org/abs/1612.01205",
        model="shared",
        biased=True,
        largest=lambda problem: problem.tau,
        limited=lambda problem, w: w * (w <= problem.tau),
        notes=lambda problem: [] if problem.options.tau is not None else [f"tau {problem.tau:.4g}"],
    ),
    "dros": Estimator(
        "DRos",
        "DR that shrinks large weights (optimistic shrinkage): less variance, some bias.",
        lambda problem: of.dros(*_with_model(problem), problem.lam, problem.log.weight),
        "https://arxiv.org/abs/1907.09623",
        model="shared",
        biased=True,
        largest=lambda problem: math.sqrt(problem.lam) / 2,
        limited=lambda problem, w: of.shrunk(w, problem.lam),
        notes=lambda problem: [] if problem.options.lam is not None else [f"lambda {problem.lam:.4g}"],
    ),
    "mrdr": Estimator(
        "MRDR",
        "DR with a model that is fitted for a small variance of the estimate.",
        lambda problem: of.dr(*problem.common(), *problem.mrdr[:2], problem.log.weight),
        "https://arxiv.org/abs/1802.03493",
        model="mrdr",
        biased=True,
    ),
    "replay": Estimator(
        "replay",
        "The mean reward of the decisions in which the target would have shown the same arm, accepted by rejection "
        "sampling, so that they are distributed as if the target itself had decided.",
        _replayed,
        "https://arxiv.org/abs/1003.5956",
        weighs="matches",
        notes=_replay_notes,
    ),
}


def estimate(name: str, problem: EstimationProblem) -> Estimate:
    """One estimator on the rows of a problem."""
    return ESTIMATORS[name].estimate(problem)


def spread_of(name: str, problem: EstimationProblem, rows: Estimate) -> Spread:
    """The spread of an estimate by design.

    Args:
        name: of the estimator.
        problem: log and target.
        rows: its value, with a score for each row.
    """
    log, model = problem.log, _model(name, problem)
    baseline = _baseline(name, rows, model)
    S, g, top = _totals(name, problem, rows)
    return spread(
        rows,
        S,
        moments(log.arm, log.reward - baseline, log.K, _reach(problem, baseline), g, log.weight),
        None if model is None else model.v,
        row_weights(log),
        _centre(name, rows, model),
        crowd(rows, problem.unit),
        top,
    )


def _centre(name: str, rows: Estimate, model: Modelled | None) -> float:
    """The mean of the weighted residuals."""
    if ESTIMATORS[name].weighs != "importance":
        return 0.0
    s = rows.bottom[0]
    return rows.value - (0.0 if model is None else float(s @ model.v) / float(s.sum()))


def sufficient_cap(problem: EstimationProblem) -> float | None:
    """A cap of rewards with which the design would allow an interval of DR; None: there is none that would help."""
    log, model, low = problem.log, problem.model, problem.options.span[0]
    rewarded = log.reward[log.reward > low]
    for cap in np.unique(np.quantile(rewarded, CAPS))[::-1].tolist() if len(rewarded) else []:
        residual = np.minimum(log.reward, cap) - np.minimum(model.q, cap)
        k = moments(log.arm, residual, log.K, cap - low, problem.w, log.weight)
        rows, base = of.mean(np.minimum(model.v, cap) + problem.w * residual, log.weight), np.minimum(model.v, cap)
        if spread(rows, problem.totals(), k, base, row_weights(log), top=problem.heaviest).skewness <= SKEWNESS:
            return float(cap)
    return None


def _model(name: str, problem: EstimationProblem) -> Modelled | None:
    """The model that an estimator uses."""
    match ESTIMATORS[name].model:
        case "shared":
            return problem.model
        case "mrdr":
            return problem.mrdr
    return None


def _baseline(name: str, rows: Estimate, model: Modelled | None) -> Vector | float:
    """What is taken off a reward before it is weighted."""
    weighs, known = ESTIMATORS[name].weighs, math.isfinite(rows.value)
    if model is not None:
        return model.q + (float(rows.ratios[1]) if weighs == "normalised" and known else 0.0)
    return rows.value if known and weighs in ("normalised", "matches") else 0.0


def _reach(problem: EstimationProblem, baseline: Vector | float) -> float:
    """The largest residual there could be."""
    low, high = problem.options.span
    return float(max(high - np.min(baseline), np.max(baseline) - low))


def _totals(name: str, problem: EstimationProblem, rows: Estimate) -> tuple[Totals, Vector | None, float]:
    """What the design says of the weights that an estimator gives residuals, those of the arms shown, and the largest.

    Where it bounds them so that those drawn tell of all (an error of a fifth at most), by those drawn; else by w
    itself, which is no smaller.
    """
    log, bound, w, by = problem.log, largest_weight(name, problem), problem.w, ESTIMATORS[name]
    if by.weighs == "nothing":
        return Totals(np.zeros(log.K), np.zeros(log.K)), None, 0.0
    if by.weighs == "matches":
        return totals_drawn(log.arm, rows.bottom[0], np.ones(len(log)), log.K), None, 0.0
    most = float(row_weights(log).max(initial=0.0))
    if by.limited is None or 5 * bound > math.sqrt(len(log)):
        return problem.totals(), w, most * problem.heaviest
    g = by.limited(problem, w)
    return totals_drawn(log.arm, g, row_weights(log), log.K), g, most * bound


def largest_weight(name: str, problem: EstimationProblem) -> float:
    """The largest weight that an estimator gives; infinite where it has no limit of its own."""
    largest = ESTIMATORS[name].largest
    return math.inf if largest is None else largest(problem)


def stakes_of(name: str, problem: EstimationProblem, found: Estimate) -> Stakes:
    """What an estimator's confidence sequence bets on: its value between its `bounds`, as from 0 to 1.

    Where its rows are bounded (replay, and the biased ones, whose own expectation it covers) they are bet on. IPS and
    SNIPS bet on w r and w (1 - r), the others on the doubly robust terms too.
    """
    low, high = bounds(name, problem)
    if ESTIMATORS[name].weighs in ("nothing", "matches") or math.isfinite(largest_weight(name, problem)):
        t = found.bottom[0]
        gain = np.clip((found.top[0] - low * t) / (high - low), 0, t)
        return Stakes([Bet(gain)], [Bet(t - gain)], t)
    r, w, s = (problem.log.reward - low) / (high - low), problem.w, row_weights(problem.log)
    gains, losses = [(s * w * r, 0.0)], [(s * w * (1 - r), 0.0)]
    model = _model(name, problem)
    if model is not None and math.isfinite(model.most - model.least):
        X = (model.v - low + w * (problem.log.reward - model.q)) / (high - low)
        gains.append((s * X, max(0.0, (low - model.least) / (high - low))))
        losses.append((s * (1 - X), max(0.0, (model.most - high) / (high - low))))
    elif model is None and math.isfinite(problem.largest):
        losses.append((s * (1 - w * r), max(0.0, problem.largest - 1)))
    return Stakes(_bets(problem.unit, gains), _bets(problem.unit, losses), of.by_unit(s, problem.unit))


def _bets(unit: Int | None, values: Sequence[tuple[Vector, float]]) -> list[Bet]:
    """Bets on rows or, where users repeat, on users."""
    return [Bet(of.by_unit(X, unit), floor) for X, floor in values]


def bounds(name: str, problem: EstimationProblem) -> tuple[float, float]:
    """Between which values an estimator's rows lie; of those whose rows have no bound, its value."""
    low, high = problem.options.span
    reach = largest_weight(name, problem)
    if not math.isfinite(reach):
        return low, high
    if ESTIMATORS[name].model is None:
        return min(0.0, reach * low), max(0.0, reach * high)
    return low - reach * (high - low), high + reach * (high - low)


def difference_stakes(
    r: Vector, d: Vector, q: Matrix, v: Vector, every: Matrix, arm: Int, s: Vector, unit: Int | None
) -> Stakes:
    """What the sequence of a paired difference bets on: v + d (r - q), d = w_A - w_B, v = sum_a (pi_A - pi_B) q.

    Args:
        r: rewards in [0, 1], shape (n,).
        d: of the arms shown, shape (n,).
        q: predictions in [0, 1] of every arm, shape (n, K).
        v: shape (n,).
        every: d of every arm, shape (n, K).
        arm: shown, shape (n,).
        s: row weights, shape (n,).
        unit: number of each row's user, shape (n,), where users repeat.
    """
    drop = max(0.0, -float(every.min()))
    X = v + d * (r - q[np.arange(len(d)), arm])
    sides = every * -q, every * (1 - q)
    worst, best = v + np.minimum(*sides).min(axis=1), v + np.maximum(*sides).max(axis=1)
    gains = [(s * d * r, drop), (s * X, max(0.0, -float(worst.min())))]
    losses = [(s * d * (1 - r), drop), (s * -X, max(0.0, float(best.max())))]
    return Stakes(_bets(unit, gains), _bets(unit, losses), of.by_unit(s, unit), 0.0, -1.0, 1.0)


def own_stakes(r: Vector, w: Vector, s: Vector, unit: Int | None) -> Stakes:
    """What the sequence of one policy's value bets on where only drawn weights are known: w r and w (1 - r).

    Args:
        r: rewards in [0, 1], shape (n,).
        w: weights of the arms shown, shape (n,).
        s: row weights, shape (n,).
        unit: as above.
    """
    return Stakes(_bets(unit, [(s * w * r, 0.0)]), _bets(unit, [(s * w * (1 - r), 0.0)]), of.by_unit(s, unit))
