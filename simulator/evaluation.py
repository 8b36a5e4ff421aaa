"""What a target policy would have earned, by every estimator at once, and what of it can be believed.

One function, `evaluate`: log and target in, one row an estimator out, each with its interval or with the reason why it
has none. The formulae are in estimators.py, intervals.py, verdict.py and models.py; problem.py brings them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np

from bandit.linear import Matrix
from simulator import estimators as of
from simulator.estimators import Acceptance, Estimate
from simulator.intervals import Interval, bootstrap, normal, standard_error, student
from simulator.logged import Log, span_of
from simulator.models import GROUPS, QFit
from simulator.moving import sequence_of
from simulator.problem import Ends, InMemory, Options, Problem
from simulator.verdict import ENOUGH, Overlap, Verdict, kish, skewness, too_few, verdict

ESTIMATORS = ("ips", "clipped", "snips", "dm", "dr", "sndr", "switch-dr", "dros", "mrdr", "replay")
BIASED = {"clipped", "dm", "switch-dr", "dros", "mrdr"}
MODELLED = {"dm", "dr", "sndr", "switch-dr", "dros", "mrdr"}
SUM_TOLERANCE = 1e-3  # how far a target's probabilities may be from 1 in sum, for rounding


@dataclass(frozen=True)
class Row:
    """One estimator's answer.

    Attributes:
        estimator: its name, one of `ESTIMATORS`.
        value: the estimate, in reward units per decision; None where no row counts.
        low: lower end of the interval of the verdict; None if refused.
        high: upper end.
        n: rows of the log.
        n_eff: effective n by which it was judged: n_eff*, for replay the matches.
        max_weight: the largest w = pi / mu of a row.
        mean_weight: the mean of w, near 1 in a sound log.
        standard_error: of the value, by the delta method; None where it has none.
        verdict: `interval`, `sequence` or `refused`.
        note: what a reader must know beside the number; may be empty.
    """

    estimator: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_eff: float
    max_weight: float
    mean_weight: float
    standard_error: float | None
    verdict: Verdict
    note: str


def evaluate(
    log: Log,
    target: Matrix,
    *,
    estimators: Sequence[str] | None = None,
    q: Any = "ridge",
    q_fit: QFit | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    tau: float | None = None,
    lam: float | None = None,
    clip: float = 10.0,
    acceptance: Acceptance = "rejection",
    interval: Ends = "normal",
    reward_range: tuple[float, float] | None = None,
    drifts: bool = False,
) -> list[Row]:
    """The value of a target policy by each estimator, with intervals where the log allows them.

    Args:
        log: n rows, in the order in which they were logged (confidence sequences need it).
        target: pi(a|x) of every row, shape (n, K); each row sums to 1.
        estimators: names out of `ESTIMATORS`; None: all.
        q: the reward model: `ridge`, `mean`, `mean-position`, an object with scikit-learn's methods, or predictions of
            every row and arm, shape (n, K), taken as they are.
        q_fit: which rows it is fitted on; None: the other folds (`cross`), or the `past` only if the log's policy
            learned. `in_sample` is for comparison with others only: q has then seen the reward it predicts.
        alpha: 1 - confidence.
        seed: of folds, of replay's draws and of the bootstrap.
        tau: SWITCH-DR's; None: by its authors' bound.
        lam: the lambda of DRos; None: by its authors' bound.
        clip: c of `clipped`.
        acceptance: replay's: `rejection` also on logs that are not uniform; `none` is obp's.
        interval: what is given where the verdict is `interval`.
        reward_range: lowest and highest possible reward; None: 0 to 1, wider if the log has others. Predictions are cut
            to it and confidence sequences need it.
        drifts: the target's value is not the same in all rows, because it learns or because visitors change: sequences
            are then for the mean over the rows, and wider where rows are few (`simulator.moving`).

    Raises:
        ValueError: if the log is empty, shapes do not agree, a row of the target does not sum to 1, a reward is outside
            its range or not a number, a propensity is not in (0, 1], or a name is not known.
    """
    names = names_of(estimators)
    span = span_of(log.reward) if reward_range is None else reward_range
    check_rows(log, target, span)
    if isinstance(q, np.ndarray) and q.shape != target.shape:
        raise ValueError(f"predictions must have the target's shape {target.shape}; got {q.shape}")
    options = options_of(
        log, span, q=q, q_fit=q_fit, alpha=alpha, seed=seed, tau=tau, lam=lam, clip=clip, acceptance=acceptance,
        interval=interval, drifts=drifts,
    )  # fmt: skip
    return judged(InMemory(log, target, options), names)


def names_of(estimators: Sequence[str] | None) -> tuple[str, ...]:
    """The estimators asked for; None: all.

    Raises:
        ValueError: one is not known.
    """
    names = ESTIMATORS if estimators is None else tuple(estimators)
    if unknown := [name for name in names if name not in ESTIMATORS]:
        raise ValueError(f"estimators are {', '.join(ESTIMATORS)}; unknown {unknown}")
    return names


def options_of(log: Log, span: tuple[float, float], *, q_fit: QFit | None = None, **how: Any) -> Options:
    """The options of `evaluate` for a log, with what depends on whether its policy learned.

    Raises:
        ValueError: one is not what it can be.
    """
    options = Options(q_fit=q_fit or ("past" if log.learning else "cross"), span=span, **how)
    for name, kind in (("q_fit", QFit), ("acceptance", Acceptance), ("interval", Ends)):
        if (value := getattr(options, name)) not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {value!r}")
    return options


def judged(problem: Problem, names: Sequence[str]) -> list[Row]:
    """A row for each of the estimators named."""
    failures = [*problem.support.failures(), *problem.ratio.failures()]
    return [_row(name, problem, problem.support, failures) for name in names]


def check_rows(log: Log, target: Matrix, span: tuple[float, float]) -> None:
    """What `evaluate` says it raises of rows."""
    if not len(log):
        raise ValueError("the log has no rows")
    if target.shape != (len(log), log.K):
        raise ValueError(f"target must have shape {(len(log), log.K)}, a row for each decision; got {target.shape}")
    sums, least = target.sum(axis=1), target.min(axis=1)
    if (wrong := ~((abs(sums - 1) <= SUM_TOLERANCE) & (least >= 0))).any():
        row = int(wrong.argmax())
        got = f"has {least[row]}" if least[row] < 0 else f"sums to {sums[row]}"
        raise ValueError(f"each row of the target must be probabilities that sum to 1; row {row} {got}")
    if (wrong := ~((log.reward >= span[0]) & (log.reward <= span[1]))).any():
        row = int(wrong.argmax())
        raise ValueError(f"rewards must be in [{span[0]}, {span[1]}]; row {row} has {log.reward[row]}")


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
            return of.dm(problem.model[1], s)
        case "dr":
            return of.dr(*shared, *problem.model, s)
        case "sndr":
            return of.sndr(*shared, *problem.model, s)
        case "switch-dr":
            return of.switch_dr(*shared, *problem.model, problem.tau, s)
        case "dros":
            return of.dros(*shared, *problem.model, problem.lam, s)
        case "mrdr":
            return of.dr(*shared, *problem.mrdr, s)
    return of.replay(*shared, s, acceptance=options.acceptance, seed=options.seed)


class Judged(NamedTuple):
    """What the verdict rests on."""

    verdict: Verdict
    n_eff: float
    skewness: float


def _row(name: str, problem: Problem, support: Overlap, failures: list[str]) -> Row:
    """One estimator's answer: value, verdict, and the interval that the verdict allows."""
    found = estimate(name, problem)
    found = found if problem.unit is None else found.grouped(problem.unit)
    known = math.isfinite(found.value)
    n_eff = kish(found.bottom[0]) if name == "replay" else support.n_eff
    skew = skewness(found.scores()) if known else math.inf
    rests = Judged(verdict(n_eff, skew, failures), n_eff, skew)
    error = standard_error(found) if known else math.inf
    if name == "dm" and problem.dm_error is not None:
        error = problem.dm_error
    low, high = _interval(name, problem, found, rests.verdict)
    return Row(
        estimator=name,
        value=found.value if known else None,
        low=low,
        high=high,
        n=len(problem.log),
        n_eff=n_eff,
        max_weight=support.max_weight,
        mean_weight=support.mean_weight,
        standard_error=error if math.isfinite(error) else None,
        verdict=rests.verdict,
        note="; ".join(_notes(name, problem, support, rests, failures)),
    )


def _interval(name: str, problem: Problem, found: Estimate, said: Verdict) -> tuple[float, float] | tuple[None, None]:
    if said == "refused":
        return None, None
    alpha = problem.options.alpha
    if said == "sequence":
        return sequence(name, problem, found)
    if name == "dm" and problem.dm_error is not None:
        half = student(1 - alpha / 2, GROUPS - 1) * problem.dm_error
        return found.value - half, found.value + half
    if problem.options.interval == "bootstrap":
        return bootstrap(found, alpha, seed=problem.options.seed)
    return normal(found, alpha)


def sequence(name: str, problem: Problem, found: Estimate) -> Interval:
    """The confidence sequence that goes with an estimator.

    Where its rows are bounded (replay, and the biased ones, whose own expectation it covers) it is theirs. Else it is
    that of IPS, which covers the same value as SNIPS, DR, SNDR and MRDR; their own rows have no bound on both sides.
    """
    bounds, alpha = _bounds(name, problem), problem.options.alpha
    low, high = problem.options.span
    if bounds is not None:
        low, high = bounds
        gain = np.clip((found.top - low * found.bottom) / (high - low), 0, found.bottom)
        gains, losses = (Estimate(top, found.bottom) for top in (gain, found.bottom - gain))
        return _scaled(sequence_of(gains, losses, alpha, moves=problem.moves), low, high)
    r = (problem.log.reward - low) / (high - low)
    w, s = problem.pi / problem.log.propensity, problem.log.weight
    both = [of.mean(w * r, s), of.mean(w * (1 - r), s)]
    gains, losses = both if problem.unit is None else [each.grouped(problem.unit) for each in both]
    return _scaled(sequence_of(gains, losses, alpha, problem.largest, moves=problem.moves), low, high)


def _scaled(unit: Interval, low: float, high: float) -> Interval:
    return Interval(*(low + (high - low) * end for end in unit))


def _bounds(name: str, problem: Problem) -> tuple[float, float] | None:
    """Between which values an estimator's rows lie; None where there is no bound."""
    low, high = problem.options.span
    match name:
        case "dm" | "replay":
            return low, high
        case "clipped":
            return min(0.0, problem.options.clip * low), max(0.0, problem.options.clip * high)
        case "switch-dr":
            reach = problem.tau
        case "dros":
            reach = math.sqrt(problem.lam) / 2
        case _:
            return None
    return (low - reach * (high - low), high + reach * (high - low)) if math.isfinite(reach) else None


def _notes(name: str, problem: Problem, support: Overlap, judged: Judged, failures: list[str]) -> list[str]:
    """What a reader must know beside the number."""
    notes = [*failures, *problem.ratio.warnings, *_own_notes(name, problem, judged.verdict)]
    notes += too_few(judged.n_eff)
    if judged.verdict == "sequence" and judged.n_eff >= ENOUGH:
        notes.append(f"skewness {judged.skewness:.2f} is too large for a normal interval")
    if judged.verdict == "sequence" and problem.options.drifts and not problem.moves:
        notes.append("the sequence takes a value that moves for one that stays: of users and weighted rows it must")
    if judged.verdict == "sequence" and name in ("snips", "dr", "sndr", "mrdr"):
        notes.append("the sequence is that of IPS")
    if support.basis == "rows":
        notes.append("effective n is optimistic: only the shown arm's propensity is known")
    return notes


def _own_notes(name: str, problem: Problem, said: Verdict) -> list[str]:
    """Notes that belong to an estimator and its settings, whatever the log."""
    options, notes = problem.options, []
    if name in BIASED:
        notes.append("bias not included")
    if name == "dm" and (said == "sequence" or problem.dm_error is None):
        notes.append("nor is the error of the fitted model")
    if name == "switch-dr" and options.tau is None:
        notes.append(f"tau {problem.tau:.4g}")
    if name == "dros" and options.lam is None:
        notes.append(f"lambda {problem.lam:.4g}")
    if name in MODELLED and not isinstance(options.q, np.ndarray):
        notes += _fit_notes(problem)
    if name == "replay" and options.acceptance == "none" and np.ptp(problem.log.propensity) > 1e-9:
        notes.append("matches on a log that is not uniform are biased")
    return notes


def _fit_notes(problem: Problem) -> list[str]:
    """What is wrong with the rows that the model was fitted on."""
    how = problem.options.q_fit
    if how == "in_sample":
        return ["model fitted in sample"]
    return ["model fitted on the future of a policy that learned"] if how == "cross" and problem.log.learning else []
