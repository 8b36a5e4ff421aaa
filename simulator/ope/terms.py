"""Each estimator on the rows of a problem: its value, its spread by design, and what its sequence bets on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.ope import estimators as of
from simulator.ope.checks.overlap import SKEWNESS, row_weights
from simulator.ope.design import Spread, Totals, crowd, moments, spread, totals_drawn
from simulator.ope.estimators import Estimate
from simulator.ope.intervals import Bet, Stakes
from simulator.ope.problem import Modelled, Problem

PLAIN = ("ips", "snips")  # bet on without a model
CAPS = (0.5, 0.75, 0.9, 0.95, 0.99)  # quantiles of the rewards that are not the lowest, tried as caps


def estimate(name: str, problem: Problem) -> Estimate:
    """One estimator on the rows of a problem."""
    shared, s, options = problem.common(), problem.log.weight, problem.options
    match name:
        case "ips":
            return of.ips(*shared, s)
        case "clipped":
            return of.clipped(*shared, options.clip, s)
        case "snips":
            return of.snips(*shared, s)
        case "dm":
            return of.dm(problem.model.v, s)
        case "dr":
            return of.dr(*shared, *problem.model[:2], s)
        case "sndr":
            return of.sndr(*shared, *problem.model[:2], s)
        case "switch-dr":
            return of.switch_dr(*shared, *problem.model[:2], problem.tau, s)
        case "dros":
            return of.dros(*shared, *problem.model[:2], problem.lam, s)
        case "mrdr":
            return of.dr(*shared, *problem.mrdr[:2], s)
    return of.replay(*shared, s, acceptance=options.acceptance, seed=options.seed)


def spread_of(name: str, problem: Problem, rows: Estimate) -> Spread:
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
    if name in ("snips", "sndr", "replay", "dm"):
        return 0.0
    s = rows.bottom[0]
    return rows.value - (0.0 if model is None else float(s @ model.v) / float(s.sum()))


def sufficient_cap(problem: Problem) -> float | None:
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


def _model(name: str, problem: Problem) -> Modelled | None:
    """The model that an estimator uses."""
    if name in (*PLAIN, "clipped", "replay"):
        return None
    return problem.mrdr if name == "mrdr" else problem.model


def _baseline(name: str, rows: Estimate, model: Modelled | None) -> Vector | float:
    """What is taken off a reward before it is weighted."""
    if model is not None:
        return model.q + (float(rows.ratios[1]) if name == "sndr" and math.isfinite(rows.value) else 0.0)
    known = name in ("snips", "replay") and math.isfinite(rows.value)
    return rows.value if known else 0.0


def _reach(problem: Problem, baseline: Vector | float) -> float:
    """The largest residual there could be."""
    low, high = problem.options.span
    return float(max(high - np.min(baseline), np.max(baseline) - low))


def _totals(name: str, problem: Problem, rows: Estimate) -> tuple[Totals, Vector | None, float]:
    """What the design says of the weights that an estimator gives residuals, those of the arms shown, and the largest.

    Where it bounds them so that those drawn tell of all (an error of a fifth at most), by those drawn; else by w
    itself, which is no smaller.
    """
    log, bound, w = problem.log, _largest_weight(name, problem), problem.w
    if name == "dm":
        return Totals(np.zeros(log.K), np.zeros(log.K)), None, 0.0
    if name == "replay":
        return totals_drawn(log.arm, rows.bottom[0], np.ones(len(log)), log.K), None, 0.0
    most = float(row_weights(log).max(initial=0.0))
    if 5 * bound > math.sqrt(len(log)):
        return problem.totals(), w, most * problem.heaviest
    match name:
        case "clipped":
            g = np.minimum(w, bound)
        case "switch-dr":
            g = w * (w <= bound)
        case _:
            g = of.shrunk(w, problem.lam)
    return totals_drawn(log.arm, g, row_weights(log), log.K), g, most * bound


def _largest_weight(name: str, problem: Problem) -> float:
    """The largest weight that an estimator gives; infinite where it has no limit of its own."""
    match name:
        case "clipped":
            return problem.options.clip
        case "switch-dr":
            return problem.tau
        case "dros":
            return math.sqrt(problem.lam) / 2
    return math.inf


def stakes_of(name: str, problem: Problem, found: Estimate) -> Stakes:
    """What an estimator's confidence sequence bets on: its value between its `bounds`, as from 0 to 1.

    Where its rows are bounded (replay, and the biased ones, whose own expectation it covers) they are bet on. IPS and
    SNIPS bet on w r and w (1 - r), the others on the doubly robust terms too.
    """
    low, high = bounds(name, problem)
    if name in ("dm", "replay") or math.isfinite(_largest_weight(name, problem)):
        t = found.bottom[0]
        gain = np.clip((found.top[0] - low * t) / (high - low), 0, t)
        return Stakes([Bet(gain)], [Bet(t - gain)], t)
    r, w, s = (problem.log.reward - low) / (high - low), problem.w, row_weights(problem.log)
    gains, losses = [(s * w * r, 0.0)], [(s * w * (1 - r), 0.0)]
    model = None if name in PLAIN else _model(name, problem)
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


def bounds(name: str, problem: Problem) -> tuple[float, float]:
    """Between which values an estimator's rows lie; of those whose rows have no bound, its value."""
    low, high = problem.options.span
    reach = _largest_weight(name, problem)
    if name == "clipped":
        return min(0.0, reach * low), max(0.0, reach * high)
    return (low - reach * (high - low), high + reach * (high - low)) if math.isfinite(reach) else (low, high)


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
