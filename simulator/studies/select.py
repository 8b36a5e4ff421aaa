"""Off-policy selection: which of several policies is best, from a log, and how much of that is luck.

The best of many looks better than it is: it was chosen for its luck, too. So one half of the log chooses, and the other
half, which had no part in it, values the choice and its differences from the others; what the chosen policy loses from
one half to the other is its optimism. Where none of the others is clearly worse, nothing has been chosen.

The earlier rows choose and the later ones value: a logging policy that learns shows later what it was told earlier, and
so does a target that learns. Users who return are in one half only: of a log whose policy did not learn, half of them
choose, whenever they came; of one that did, half of them by their earlier rows, and the others value by their later
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bandit.arrays import Int, Matrix
from simulator.environments.episode import stream
from simulator.logs.log import Log
from simulator.ope.checks.limits import check
from simulator.ope.checks.overlap import units
from simulator.ope.differences import Data, Difference, compared
from simulator.ope.evaluate import EstimatorRow, evaluate

HALVES = 2000  # stream of randomness under a seed
BESIDE = "choosing_error", "held_out_error", "matches", "note"  # not in a table for people
NOTHING = "refused to choose: on this log no policy is clearly worse than the best"


class Tried(msgspec.Struct, frozen=True):
    """One policy on both halves of a log.

    Attributes:
        policy: its name, with what was set.
        choosing: value on the half that chooses; NaN where it has none.
        choosing_error: its standard error.
        held_out: value on the other half.
        held_out_error: its standard error.
        low: lower end of the interval that the other half allows of its value; None: refused.
        high: upper end.
        verdict: of the other half: `interval`, `sequence` or `refused`.
        behind: by how much it earns less than the chosen one on the other half, where they can be paired.
        behind_low: lower end of that; above 0 it is clearly worse.
        behind_high: upper end.
        matches: of a replay, decisions that the policy lived on the other half.
        note: what a reader must know beside the number.
    """

    policy: str
    choosing: float
    choosing_error: float
    held_out: float
    held_out_error: float
    low: float | None = None
    high: float | None = None
    verdict: str = "refused"
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    matches: int = 0
    note: str = ""


class Chosen(msgspec.Struct, frozen=True):
    """The policy that was best on one half, and what the other half says of it."""

    policy: str
    choosing: float
    held_out: float
    held_out_error: float

    @property
    def optimism(self) -> float:
        """By how much the half that chose it flattered it: the winner's curse, with the luck of both halves in it."""
        return self.choosing - self.held_out


class Selection(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        tried: every policy on both halves.
        chosen: the best on the first, valued on the second.
        worse: names of those that are clearly worse than it on the second; empty: nothing has been chosen.
        low: lower end of the interval that the second half allows of its value; None: refused.
        high: upper end.
        verdict: of the second half: `interval`, `sequence` or `refused`.
        note: what a reader must know beside the number.
    """

    tried: list[Tried]
    chosen: Chosen
    worse: list[str]
    low: float | None
    high: float | None
    verdict: str
    note: str

    @property
    def decided(self) -> bool:
        """Whether it is known to be better than any other."""
        return bool(self.worse) or len(self.tried) == 1

    def table(self, name: str = "policy", *, brief: bool = False) -> list[dict[str, Any]]:
        """What was tried as plain rows, `chosen` among them; `name`: what policies are called; brief: for people."""
        rows = []
        for each in self.tried:
            row = msgspec.to_builtins(each)
            row = {name: row.pop("policy"), "chosen": self.decided and each.policy == self.chosen.policy, **row}
            rows.append({key: value for key, value in row.items() if not (brief and key in BESIDE)})
        return rows


def halves(log: Log, seed: int = 0, *, in_time: bool | None = None) -> tuple[Int, Int]:
    """Rows of two halves, in order: those that choose, those that value; see the head of this file.

    Args:
        log: n rows, in the order in which they were logged.
        seed: of the users' halves.
        in_time: the earlier rows must choose; None: if the logging policy learned, or nobody returns.
    """
    unit, rows = units(log), np.arange(len(log))
    later = rows >= len(log) // 2
    if unit is None:
        return np.flatnonzero(~later), np.flatnonzero(later)
    if (np.diff(unit) >= 0).all():  # positions of lists, or visits that follow each other: cut between two
        later = unit > unit[len(log) // 2 - 1] if len(log) > 1 else later
        return np.flatnonzero(~later), np.flatnonzero(later)
    side = (stream(seed, HALVES).permutation(int(unit.max()) + 1) % 2)[unit] == 1
    if log.learning if in_time is None else in_time:
        return np.flatnonzero(~side & ~later), np.flatnonzero(side & later)
    return np.flatnonzero(~side), np.flatnonzero(side)


def select(
    log: Log,
    targets: Mapping[str, Matrix],
    *,
    estimator: str = "dr",
    alpha: float = 0.05,
    seed: int = 0,
    in_time: bool | None = None,
    **how: Any,
) -> Selection:
    """Choose among policies.

    Args:
        log: n rows, in the order in which they were logged.
        targets: name to probabilities of every arm in every row, shape (n, K). They do not depend on the log's rows or,
            with `in_time`, on rows before their own only.
        estimator: see `evaluate.ESTIMATORS`.
        alpha: 1 - confidence.
        seed: of the halves.
        in_time: see `halves`.
        how: as of `evaluate`.

    Raises:
        ValueError: no policy has a value, or `evaluate` refuses the log or a target.
    """
    check(log, alpha, how)
    sides = halves(log, seed, in_time=in_time)
    how = {**how, "seed": seed}
    parts = [Data.of(log.take(rows), how) for rows in sides]

    def valued(target: Matrix, half: int) -> EstimatorRow:
        fitted = {"q": parts[half].q} if estimator == "dr" else {}
        rows = sides[half]
        return evaluate(log.take(rows), target[rows], estimators=[estimator], alpha=alpha, **{**how, **fitted})[0]

    found = {name: (valued(target, 0), valued(target, 1)) for name, target in targets.items()}
    tried = [of_rows(name, one, other) for name, (one, other) in found.items()]
    best, rows = chosen(tried).policy, sides[1]
    at = {name: target[rows] for name, target in targets.items() if name != best}
    each = alpha / max(1, len(at))  # all of them hold at once
    gaps = {name: compared(parts[1], targets[best][rows], pi, each) for name, pi in at.items()}
    return decided([paired(one, gaps.get(one.policy)) for one in tried])


def of_rows(name: str, one: EstimatorRow, other: EstimatorRow, matches: int = 0) -> Tried:
    """A policy by its rows of `evaluate` on the half that chooses and on the other."""
    return Tried(
        name, *_figures(one), *_figures(other), other.low, other.high, other.verdict, matches=matches, note=other.note
    )


def _figures(row: EstimatorRow) -> tuple[float, float]:
    value = float("nan") if row.value is None else row.value
    return value, float("inf") if row.standard_error is None else row.standard_error


def paired(one: Tried, gap: Difference | None) -> Tried:
    """With the difference of the chosen one from it."""
    if gap is None or gap.low is None:
        return one
    return msgspec.structs.replace(one, behind=gap.value, behind_low=gap.low, behind_high=gap.high)


def chosen(tried: Sequence[Tried]) -> Chosen:
    """The policy with the largest value on the half that chooses.

    Raises:
        ValueError: none has a value there.
    """
    known = [each for each in tried if np.isfinite(each.choosing)]
    if not known:
        raise ValueError(
            "no policy has a value on the choosing half: nothing that they play could have been shown there"
        )
    best = max(known, key=lambda each: each.choosing)
    return Chosen(best.policy, best.choosing, best.held_out, best.held_out_error)


def decided(tried: list[Tried]) -> Selection:
    """The best, if any other is clearly worse.

    Raises:
        ValueError: none has a value.
    """
    best = chosen(tried)
    (row,) = (each for each in tried if each.policy == best.policy)
    worse = [each.policy for each in tried if each.policy != best.policy and _worse(each, row)]
    notes = [row.note]
    if len(tried) > 1 and (equal := [each.policy for each in tried if each.policy not in (*worse, best.policy)]):
        notes = [f"not clearly better than {', '.join(equal)}" if worse else NOTHING, *notes]
    return Selection(tried, best, worse, row.low, row.high, row.verdict, "; ".join(filter(None, notes)))


def _worse(one: Tried, best: Tried) -> bool:
    """Whether a policy is clearly worse than the best: by their paired difference, else if intervals lie apart."""
    if one.behind_low is not None:
        return one.behind_low > 0
    return one.high is not None and best.low is not None and one.high < best.low
