"""What a target policy would have earned, by every estimator at once, and what of it can be believed.

One function, `evaluate`: log and target in, one row an estimator out, each with its interval or with the reason why it
has none. The formulae are in estimators.py, design.py, intervals.py, drifting.py, checks/overlap.py and models.py;
problem.py and terms.py bring them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

import numpy as np

from bandit.arrays import Matrix
from simulator.logs.log import Log, span_of
from simulator.ope.checks.limits import check_log, check_options, check_predictions, check_span, check_weights
from simulator.ope.checks.overlap import ENOUGH, SKEWNESS, Verdict, kish, lacking, playable, row_weights, verdict
from simulator.ope.design import Spread, crowd
from simulator.ope.drifting import sequence_of
from simulator.ope.estimators import Acceptance, Estimate
from simulator.ope.intervals import Interval, bootstrap, normal, standard_error, student, upper_error
from simulator.ope.models import GROUPS, QFit
from simulator.ope.problem import Ends, EstimationProblem, InMemory, Looks, Options
from simulator.ope.terms import ESTIMATORS, bounds, estimate, spread_of, stakes_of, sufficient_cap
from simulator.wording import amount, capped

NEVER = "in every row the target plays an arm that could not have been shown (no common support)"
MOVED = "the interval did not contain the estimate: its nearer end was moved to it"
ROUNDING = 1e-9  # of the range, that a reward may be beyond it
SUM_TOLERANCE = 1e-3  # how far a target's probabilities may be from 1 in sum, for rounding


@dataclass(frozen=True)
class EstimatorRow:
    """One estimator's answer.

    Attributes:
        estimator: its name, one of `ESTIMATORS`.
        value: the estimate, in reward units per decision; None where no row counts.
        low: lower end of the interval of the verdict; None if refused.
        high: upper end.
        n: rows it was valued on: those in which all that the target plays could be shown.
        share: of the log's rows (by their weights) that these are.
        n_eff: effective n by which it was judged: n_eff*, for replay the matches.
        skewness: by design, by which it was judged; None where it has none.
        max_weight: the largest w = pi / mu of a row.
        mean_weight: the mean of w, near 1 in a sound log.
        standard_error: of the value, the larger of the rows' and the design's; None where it has none.
        verdict: `interval`, `sequence`, `biased` or `refused`: see `simulator.ope.checks.overlap`.
        note: what a reader must know beside the number; may be empty.
    """

    estimator: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    share: float
    n_eff: float
    skewness: float | None
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
    cap: float | None = None,
    drifts: bool = True,
    looks: Looks = "one",
) -> list[EstimatorRow]:
    """The value of a target policy by each estimator, with intervals where the log allows them.

    Rows in which the target plays what could not be shown are left out, and the share of the others is told.

    Args:
        log: n rows, in the order in which they were logged (confidence sequences need it).
        target: pi(a|x) of every row, shape (n, K); each row sums to 1.
        estimators: names out of `ESTIMATORS`; None: all.
        q: the reward model: `ridge`, `mean`, `mean-position`, an object with scikit-learn's methods, or predictions of
            every row and arm, shape (n, K), taken as they are.
        q_fit: which rows it is fitted on; None: the other splits (`cross`), or the `past` only if the log's policy
            learned. `in_sample` is for comparison with others only: q has then seen the reward it predicts.
        alpha: 1 - confidence.
        seed: of splits, of replay's draws and of the bootstrap.
        tau: SWITCH-DR's; None: by its authors' bound.
        lam: the lambda of DRos; None: by its authors' bound.
        clip: c of `clipped`.
        acceptance: replay's: `rejection` also on logs that are not uniform; `none` is obp's.
        interval: what is given where the verdict is `interval`.
        reward_range: lowest and highest possible reward; None: the log's own, else 0 to 1, wider if the log has others
            (then the verdict is `assumed`: nobody knows what the next order will be). Predictions are cut to it.
        cap: rewards above it count as it (below 0, or -cap, as that): of money, what few large orders would hide can be
            seen then; it is another question than what is earned.
        looks: `any`: a sequence, right however often a log that grows is looked at; `one`: where the log allows it an
            interval, which is narrower.
        drifts: the target's value may not be the same in all rows, because it learns or because visitors change:
            sequences are for the mean over the rows (`drifting`). Else they bet on one value, and are narrower
            where rows are few.

    Raises:
        ValueError: if the log is empty, shapes do not agree, a row of the target does not sum to 1, a reward is outside
            its range or not a number, a propensity is not in (0, 1], or a name is not known.
    """
    names = names_of(estimators)
    log, span, stated = ranged(log, reward_range, cap)
    check_rows(log, target, span)
    if isinstance(q, np.ndarray) and q.shape != target.shape:
        raise ValueError(f"predictions must have the target's shape {target.shape}; got {q.shape}")
    rows = playable(log, target)
    if not rows.any():
        return [never(name) for name in names]
    share = 1.0
    if not rows.all():
        share = float(rows @ row_weights(log) / row_weights(log).sum())
        log, target, q = log.take(rows), target[rows], q[rows] if isinstance(q, np.ndarray) else q
    options = options_of(
        log, span, q=q, q_fit=q_fit, alpha=alpha, seed=seed, tau=tau, lam=lam, clip=clip, acceptance=acceptance,
        interval=interval, drifts=drifts, stated=stated, cap=cap,
        looks=looks,
    )  # fmt: skip
    return judged(InMemory(log, target, options, share), names)


def ranged(
    log: Log, reward_range: tuple[float, float] | None, cap: float | None
) -> tuple[Log, tuple[float, float], bool]:
    """The log with its rewards capped, the lowest and highest possible reward, and whether that is known.

    It is known where it is given or the log has it, where all rewards are 0 or 1, and with a cap: then rewards count
    from 0 to the cap, or from minus the cap if one below 0 came.
    """
    given = reward_range or log.reward_range
    low, high = given or span_of(log.reward)
    if cap is not None:
        low, high = given[0] if given else -cap if low < 0 else 0.0, min(high, cap) if given else cap
        return replace(log, reward=np.clip(log.reward, None if given else low, cap)), (low, high), True
    known = given is not None or bool(np.isin(log.reward, (0.0, 1.0)).all())
    inside = np.clip(log.reward, low, high)
    if known and np.abs(inside - log.reward).max(initial=0.0) <= ROUNDING * (high - low):
        log = replace(log, reward=inside)  # sums of weighted kinds are rounded
    return log, (low, high), known


def never(name: str) -> EstimatorRow:
    """The answer where no row of the log could have shown what the target plays."""
    return EstimatorRow(name, None, None, None, 0, 0.0, 0.0, None, 0.0, 0.0, None, "refused", NEVER)


def names_of(estimators: Sequence[str] | None) -> tuple[str, ...]:
    """The estimators asked for; None: all.

    Raises:
        ValueError: one is not known.
    """
    names = tuple(ESTIMATORS if estimators is None else estimators)
    if unknown := [name for name in names if name not in ESTIMATORS]:
        raise ValueError(f"estimators are {', '.join(ESTIMATORS)}; unknown {unknown}")
    return names


def options_of(log: Log, span: tuple[float, float], *, q_fit: QFit | None = None, **how: Any) -> Options:
    """The options of `evaluate` for a log, with what depends on whether its policy learned.

    Raises:
        ValueError: one is not what it can be.
    """
    options = Options(q_fit=q_fit or ("past" if log.learning else "cross"), span=span, **how)
    for name, kind in (("q_fit", QFit), ("acceptance", Acceptance), ("interval", Ends), ("looks", Looks)):
        if (value := getattr(options, name)) not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {value!r}")
    check_options(alpha=options.alpha, clip=options.clip, tau=options.tau, lam=options.lam, cap=options.cap)
    check_span(span)
    if isinstance(options.q, np.ndarray):
        check_predictions(options.q)
    return options


def judged(problem: EstimationProblem, names: Sequence[str]) -> list[EstimatorRow]:
    """A row for each of the estimators named."""
    failures = [*problem.support.failures(), *problem.ratio.failures()]
    dr_error = cache(lambda: spread_of("dr", problem, estimate("dr", problem)).error)
    return [_row(name, problem, failures, dr_error) for name in names]


def check_rows(log: Log, target: Matrix, span: tuple[float, float]) -> None:
    """Refuse rows, or a target, that `evaluate` cannot take: see what it raises."""
    if not len(log):
        raise ValueError("the log has no rows")
    if target.shape != (len(log), log.K):
        raise ValueError(f"target must have shape {(len(log), log.K)}, a row for each decision; got {target.shape}")
    sums, least = target.sum(axis=1), target.min(axis=1)
    if (wrong := ~((abs(sums - 1) <= SUM_TOLERANCE) & (least >= 0))).any():
        row = int(wrong.argmax())
        got = f"has {least[row]}" if least[row] < 0 else f"sums to {sums[row]}"
        raise ValueError(f"each row of the target must be probabilities that sum to 1; row {row} {got}")
    check_log(log, span)
    check_weights(log, target)


def _row(name: str, problem: EstimationProblem, failures: list[str], dr_error: Callable[[], float]) -> EstimatorRow:
    """One estimator's answer: value, verdict, and the interval that the verdict allows."""
    rows, support = estimate(name, problem), problem.support
    found = rows if problem.unit is None else rows.grouped(problem.unit)
    known = math.isfinite(found.value)
    n_eff = kish(found.bottom[0]) if ESTIMATORS[name].weighs == "matches" else support.n_eff
    by_design = _by_design(name, problem, rows, dr_error) if known else Spread(math.inf, math.inf)
    said = verdict(n_eff, by_design.skewness, failures)
    if said == "interval" and (problem.options.looks == "any" or not problem.options.stated):
        said = "sequence"
    error, value = _error(name, problem, found, by_design), _possible(problem.options, found.value)
    low, high, stretched = (None, None, False) if said == "refused" else _ends(name, problem, found, said, by_design)
    notes = _notes(name, problem, said, n_eff, by_design.skewness, rows)
    return EstimatorRow(
        estimator=name,
        value=value if known else None,
        low=low,
        high=high,
        n=len(problem.log),
        share=problem.share,
        n_eff=n_eff,
        skewness=by_design.skewness if math.isfinite(by_design.skewness) else None,
        max_weight=support.max_weight,
        mean_weight=support.mean_weight,
        standard_error=error if math.isfinite(error) else None,
        verdict=_told(name, problem.options, said),
        note="; ".join([*failures, *notes, *[MOVED] * stretched]),
    )


def _told(name: str, options: Options, said: Verdict) -> Verdict:
    """The verdict that users see: `biased` or `assumed` where another would promise too much."""
    if said == "refused":
        return said
    return "biased" if ESTIMATORS[name].biased else said if options.stated else "assumed"


def _possible(options: Options, value: float) -> float:
    """A value, cut to the possible rewards where these are known."""
    return min(max(value, options.span[0]), options.span[1]) if options.stated else value


def _by_design(name: str, problem: EstimationProblem, rows: Estimate, dr_error: Callable[[], float]) -> Spread:
    """The spread by design; where most of an estimate is its model, whose error is not known, at least that of DR."""
    by, spread = ESTIMATORS[name], spread_of(name, problem, rows)
    fitted = not isinstance(problem.options.q, np.ndarray)
    limited = by.model is not None and by.largest is not None
    if limited or (by.weighs == "nothing" and problem.dm_error is None and fitted):
        spread = spread._replace(error=max(spread.error, dr_error()))
    return spread


def _error(name: str, problem: EstimationProblem, found: Estimate, by_design: Spread) -> float:
    """The standard error: the larger of what rows and design say; of DM, with its model's."""
    if not math.isfinite(found.value):
        return math.inf
    if ESTIMATORS[name].weighs == "nothing" and problem.dm_error is not None:
        return problem.dm_error
    return max(standard_error(found), by_design.error)


def _ends(
    name: str, problem: EstimationProblem, found: Estimate, said: Verdict, by_design: Spread
) -> tuple[float, float, bool]:
    """Ends of the interval that a verdict allows, the value between them; whether one was moved to it."""
    if said == "sequence":
        low, high = sequence(name, problem, found)
    else:
        low, high = _interval(name, problem, found, max(upper_error(found), by_design.error))
    least, most = problem.options.span
    low, high = max(low, least), min(high, most)
    value = _possible(problem.options, found.value)
    if not math.isfinite(value):
        return low, high, False
    return min(low, value), max(high, value), not low <= value <= high


def _interval(name: str, problem: EstimationProblem, found: Estimate, error: float) -> Interval:
    alpha = problem.options.alpha
    if ESTIMATORS[name].weighs == "nothing" and problem.dm_error is not None:
        half = student(1 - alpha / 2, GROUPS - 1) * problem.dm_error
        return Interval(found.value - half, found.value + half)
    if problem.options.interval == "normal":
        return normal(found.value, error, alpha)
    low, high = bootstrap(found, alpha, seed=problem.options.seed)
    wider = error / standard_error(found)  # what the rows drawn do not show
    return Interval(found.value - wider * (found.value - low), found.value + wider * (high - found.value))


def sequence(name: str, problem: EstimationProblem, found: Estimate) -> Interval:
    """The confidence sequence that goes with an estimator, in reward units."""
    low, high = bounds(name, problem)
    ends = sequence_of(stakes_of(name, problem, found), problem.options.alpha, drifts=problem.options.drifts)
    return Interval(*(low + (high - low) * end for end in ends))


def _clustered(problem: EstimationProblem, rows: Estimate) -> list[str]:
    """How much wider clustering by user makes the interval, as a note; none where no user repeats."""
    if problem.unit is None or not math.isfinite(rows.value):
        return []
    times = math.sqrt(crowd(rows, problem.unit).times)
    wide = "no wider than" if times < 1.05 else f"{times:.2g} times as wide as"
    return [f"clustered by {int(problem.unit.max()) + 1:,} users or decisions: {wide} if rows were independent"]


def _notes(
    name: str, problem: EstimationProblem, said: Verdict, n_eff: float, skew: float, rows: Estimate
) -> list[str]:
    """What a reader must know beside the number."""
    options, notes = problem.options, [*problem.ratio.warnings, *_own_notes(name, problem, said)]
    flattered = not ESTIMATORS[name].biased and ESTIMATORS[name].weighs != "matches"
    if problem.only is not None and flattered and _picked(problem.log, problem.only):
        notes.append(
            "if chosen by this log, the arm's value is biased upwards: `select` uses separate rows to choose and value"
        )
    if problem.share < 1:
        notes.append(f"on the {problem.share:.4%} of decisions in which every arm that it plays could have been shown")
    if said == "sequence":
        notes += [*too_little(len(problem.log), n_eff, skew), *_caps(name, problem, n_eff, skew)]
    if not options.stated:
        low, high = map(amount, options.span)
        notes.append(f"state the possible rewards: this holds only if all are in the observed range {low} to {high}")
    if options.cap is not None:
        notes.append(capped(options.cap, low=options.span[0]))
    if _possible(options, rows.value) != rows.value and math.isfinite(rows.value):
        notes.append(f"the estimate itself is {rows.value:.3g}, outside the possible rewards")
    if said == "sequence" and not options.drifts:
        notes.append("the sequence assumes a constant mean")
    if problem.support.basis == "rows":
        notes.append("effective n is optimistic: only the shown arm's propensity is known")
    return notes + _clustered(problem, rows)


def _picked(log: Log, arm: int) -> bool:
    """Whether an arm has the best mean of the log, or is the one that a learner showed most."""
    s = row_weights(log)
    shown, earned = np.bincount(log.arm, s, log.K), np.bincount(log.arm, s * log.reward, log.K)
    means = np.divide(earned, shown, out=np.full(log.K, -np.inf), where=shown > 0)
    return bool(log.K > 2 and (arm == means.argmax() or (log.learning and arm == shown.argmax())))


def _caps(name: str, problem: EstimationProblem, n_eff: float, skew: float) -> list[str]:
    """A cap with which DR would have a normal interval, as a note; none where there is no such cap."""
    options = problem.options
    if name != "dr" or options.span[1] <= 1 or n_eff < ENOUGH or skew <= SKEWNESS or options.cap is not None:
        return []
    cap = sufficient_cap(problem)
    if cap is None or cap >= problem.log.reward.max():
        return []
    cap = float(f"{cap:.3g}")  # a quantile has digits that say nothing
    return [f"or a cap of {amount(cap)} (cap={cap:g}): the value is then of the capped reward"]


def too_little(n: int, n_eff: float, skew: float) -> list[str]:
    """How much more data a normal interval needs, as a note; none where there are enough."""
    times = lacking(n_eff, skew)
    if times <= 1 or not math.isfinite(times):
        return []
    more, more_often = float(f"{n * (times - 1):.1e}"), f"{times:.2g}" if times < 10 else f"{times:,.0f}"
    times_it = "" if more_often == "1" else f", or {more_often} times as much exploration"
    return [f"a normal interval needs some {more:,.0f} more decisions like these{times_it}"]


def _own_notes(name: str, problem: EstimationProblem, said: Verdict) -> list[str]:
    """Notes that belong to an estimator and its settings, whatever the log."""
    by = ESTIMATORS[name]
    notes = ["bias not included"] if by.biased else []
    if by.weighs == "nothing" and (said == "sequence" or problem.dm_error is None):
        notes.append("error of the fitted model not included")
    fitted = by.model is not None and not isinstance(problem.options.q, np.ndarray)
    return [*notes, *by.notes(problem), *(_fit_notes(problem) if fitted else [])]


def _fit_notes(problem: EstimationProblem) -> list[str]:
    """Notes on a model that was fitted on rows that bias the estimate."""
    learned = ["model fitted on later rows too, although the logging policy learned"] if problem.log.learning else []
    return {"in_sample": ["model fitted in sample"], "cross": learned}.get(problem.options.q_fit, [])
