"""Two target policies on one log, as a paired difference: what both have in common in a row cancels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandit.linear import Matrix
from simulator.estimators import Estimate
from simulator.evaluation import Options, Problem, Row, estimate, evaluate
from simulator.intervals import normal
from simulator.logged import Log
from simulator.models import QFit
from simulator.verdict import Verdict

ESTIMATORS = ("snips", "dr")


@dataclass(frozen=True)
class Contrast:
    """By how much a target is better than the baseline, by one estimator.

    The verdict is the weaker of both targets' own: `interval` with the normal interval of the paired difference,
    `sequence` with what their two sequences leave open, `refused` with none.
    """

    target: str
    baseline: str
    estimator: str
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


def contrasts(
    log: Log, targets: Mapping[str, Matrix], *, baseline: str, q: str = "ridge", seed: int = 0
) -> list[Contrast]:
    """Every other target against the baseline.

    Args:
        log: n rows.
        targets: name to probabilities of every arm in every row, shape (n, K).
        baseline: the name of the one that the others are held against.
        q: the reward model, as in `evaluation.evaluate`.
        seed: of the model's folds.

    Raises:
        ValueError: there is no such baseline among the targets.
    """
    if baseline not in targets:
        raise ValueError(f"the baseline is one of {', '.join(targets)}; got {baseline!r}")
    span = min(0.0, float(log.reward.min())), max(1.0, float(log.reward.max()))
    fit: QFit = "past" if log.learning else "cross"
    options = Options(q, fit, 0.05, seed, None, None, 10.0, "rejection", "normal", span)
    problems = {name: Problem(log, target, options) for name, target in targets.items()}
    rows = {name: evaluate(log, target, estimators=ESTIMATORS, q=q, seed=seed) for name, target in targets.items()}
    return [
        _contrast((name, baseline), estimator, (problems[name], problems[baseline]), (rows[name][i], rows[baseline][i]))
        for name in targets
        if name != baseline
        for i, estimator in enumerate(ESTIMATORS)
    ]


def _contrast(names: tuple[str, str], estimator: str, both: tuple[Problem, Problem], rows: tuple[Row, Row]) -> Contrast:
    one, other = (estimate(estimator, problem) for problem in both)
    paired = Estimate(np.vstack([one.top, -other.top]), np.vstack([one.bottom, other.bottom]))
    paired = paired if both[0].unit is None else paired.grouped(both[0].unit)
    verdict: Verdict = max((row.verdict for row in rows), key=("interval", "sequence", "refused").index)
    low, high = _interval(paired, verdict, rows)
    value = paired.value if np.isfinite(paired.value) else None
    return Contrast(*names, estimator, value, low, high, verdict)


def _interval(paired: Estimate, verdict: Verdict, rows: tuple[Row, Row]) -> tuple[float | None, float | None]:
    (low, high), (low0, high0) = ((row.low, row.high) for row in rows)
    if verdict == "refused" or low is None or high is None or low0 is None or high0 is None:
        return None, None
    return normal(paired) if verdict == "interval" else (low - high0, high - low0)
