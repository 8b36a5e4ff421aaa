"""Off-policy selection: which of several policies is best, from a log, and how much of that is luck.

One half of the log chooses by an estimator; the other half, which had no part in it, values the choice. Users are never
divided. What the chosen policy loses from one half to the other is its optimism.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bandit.linear import Matrix
from simulator.evaluation import Row, evaluate
from simulator.logged import Log
from simulator.sweeps import Chosen, Tried, chosen, halves


class Selection(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        tried: every policy on both halves.
        chosen: the best on the first, valued on the second.
        low: lower end of the interval that the second half allows of its value; None: refused.
        high: upper end.
        verdict: of the second half: `interval`, `sequence` or `refused`.
        note: what a reader must know beside the number.
    """

    tried: list[Tried]
    chosen: Chosen
    low: float | None
    high: float | None
    verdict: str
    note: str


def select(
    log: Log, targets: Mapping[str, Matrix], *, estimator: str = "snips", alpha: float = 0.05, seed: int = 0
) -> Selection:
    """Choose among policies that do not depend on which half a row is in.

    Args:
        log: n rows.
        targets: name to probabilities of every arm in every row, shape (n, K).
        estimator: see `evaluation.ESTIMATORS`.
        alpha: 1 - confidence.
        seed: of the halves.

    Raises:
        ValueError: no policy has a value, or `evaluation.evaluate` refuses the log or a target.
    """
    found: dict[str, tuple[Row, Row]] = {}
    for name, target in targets.items():
        one, other = (
            evaluate(log.take(rows), target[rows], estimators=[estimator], alpha=alpha, seed=seed)[0]
            for rows in halves(log, seed)
        )
        found[name] = one, other
    tried = [Tried(name, *_figures(one), *_figures(other), other.n) for name, (one, other) in found.items()]
    best = chosen(tried)
    row = found[best.policy][1]
    return Selection(tried, best, row.low, row.high, row.verdict, row.note)


def _figures(row: Row) -> tuple[float, float]:
    value = float("nan") if row.value is None else row.value
    return value, float("inf") if row.standard_error is None else row.standard_error
