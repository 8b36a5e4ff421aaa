"""Targets that do not learn: probabilities of every arm in every row of a log, or of the arms of its lists."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bandit.arrays import Mask, Matrix
from bandit.errors import nearest
from simulator.logs.contexts import LogError
from simulator.logs.loaders.csv_blocks import Blocks
from simulator.logs.loaders.csv_text import form_of
from simulator.logs.log import Log, eligible_of
from simulator.ope.list_estimators import Lists
from simulator.wording import named

Target = Callable[[Log], Matrix]  # pi(a|x) of a piece's rows, (n, K); called with a log's pieces in order
MakeTarget = Callable[[Log, tuple[float, float]], Target]  # from the first piece and the range of rewards


def uniform(log: Log) -> Matrix:
    """Evenly over the arms that could have been shown."""
    mask = eligible_of(log, slice(None))
    P: Matrix = np.broadcast_to(mask / mask.sum(axis=1, keepdims=True), (len(log), log.K)).copy()
    return P


def fixed(log: Log, arm: str) -> Matrix:
    """Always this arm."""
    P = np.zeros((len(log), log.K))
    P[:, index_of(log, arm)] = 1.0
    return P


def index_of(log: Log, arm: str, where: str = "") -> int:
    """The index of an arm.

    Raises:
        LogError: the log has none of this name; `where` stands before what is said.
    """
    if arm not in log.arms:
        raise LogError(f"{where}the log has no arm {arm!r}{nearest(arm, log.arms)}")
    return log.arms.index(arm)


def from_file(log: Log, path: Path) -> Matrix:
    """The probabilities that a CSV gives each arm, or each arm at each position (counted from the file's lowest)."""
    form = form_of(path)
    text = b"".join(Blocks(path, form, None)).decode("utf-8", "replace")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=form.separator))[1:]
    if not rows or not {"arm", "probability"} <= set(form.names):
        got = form.names if rows else "no rows"
        raise LogError(f"{path.name}: expected columns arm and probability, got {got}")
    found: dict[tuple[int, int], float] = {}
    for number, row in enumerate(rows, form.above + 2):
        if row:
            where, cells = f"{path.name}, line {number}", dict(zip(form.names, row, strict=False))
            position, arm, probability = _line(log, where, cells, form.decimal)
            if (position, arm) in found:
                raise LogError(f"{where}: expected each arm once, got {log.arms[arm]!r} again")
            found[position, arm] = probability
    positions = sorted({position for position, _ in found})
    table = np.zeros((len(positions), log.K))
    for (position, arm), probability in found.items():
        table[positions.index(position), arm] = probability
    if len(positions) == 1:
        return np.repeat(table, len(log), axis=0)
    if log.position is None or log.position.max() >= len(positions):
        raise LogError(f"{path.name} has positions {positions}; the log has {_places(log)}")
    P: Matrix = table[log.position]
    return P


def _line(log: Log, where: str, row: Mapping[str, str], decimal: str) -> tuple[int, int, float]:
    """(position, arm's index, probability) of a line."""
    arm = index_of(log, row["arm"], f"{where}: ")
    position, probability = row.get("position") or "0", row.get("probability", "")
    try:
        return int(position), arm, float(probability.replace(decimal, "."))
    except ValueError:
        got = f"{probability!r}" if position.isdigit() else f"position {position!r}"
        raise LogError(f"{where}: expected a number as probability and a whole one as position, got {got}") from None


def _places(log: Log) -> str:
    return "none" if log.position is None else f"{int(log.position.max()) + 1} of them"


class ListTarget(NamedTuple):
    """Conditional and marginal probabilities of the arms shown, (n, k); conditional ones of all arms, (n, k, K)."""

    conditional: Matrix | None
    marginal: Matrix
    choices: Matrix | None


def list_target(log: Log, lists: Lists, text: str) -> ListTarget:
    """The target that a text names: `uniform` (all orders alike), the arms' order (`list:a,b,c`), or a CSV with columns
    arm, probability and position. The last says nothing of arms given those above them, so that only an estimator that
    needs no conditional probability can use it.

    Raises:
        LogError: it names none of these.
    """
    wanted = named(text)
    match wanted.kind:
        case "uniform":
            return _uniform_lists(lists)
        case "list":
            return _ordered(lists, wanted.rest.split(","))
        case "csv":
            shown = from_file(log, Path(text))[np.arange(len(log)), log.arm]
            return ListTarget(None, np.where(lists.there, shown[lists.rows], 1.0), None)
    raise LogError(f"a target of lists is uniform, list:ARM,ARM,... or a CSV with positions; got {text!r}")


def _left(lists: Lists) -> Mask:
    """Which arms could still be shown at each position, (n, k, K): the eligible ones but for those above."""
    n, k = lists.arm.shape
    left = np.repeat(np.broadcast_to(eligible_of(lists.log, slice(None)), (n, lists.log.K))[:, None], k, axis=1)
    for j in range(1, k):
        for above in range(j):
            rows = np.flatnonzero(lists.arm[:, above] >= 0)
            left[rows, j, lists.arm[rows, above]] = False
    return left & lists.there[:, :, None]


def _shown(lists: Lists, choices: Matrix) -> Matrix:
    """The probabilities of the arms shown, 1 where a position is empty."""
    found = np.take_along_axis(choices, np.maximum(lists.arm, 0)[:, :, None], axis=2)[:, :, 0]
    return np.where(lists.there, found, 1.0)


def _uniform_lists(lists: Lists) -> ListTarget:
    left = _left(lists)
    choices = left / np.maximum(left.sum(axis=2, keepdims=True), 1)
    marginal = np.where(lists.there, 1.0 / np.maximum(left[:, 0].sum(axis=1), 1)[:, None], 1.0)
    return ListTarget(_shown(lists, choices), marginal, choices)


def _ordered(lists: Lists, names: Sequence[str]) -> ListTarget:
    n, k = lists.arm.shape
    arms = [index_of(lists.log, name) for name in names]
    if len(set(names)) < len(names) or len(names) < k:
        raise LogError(f"expected {k} different arms or more, as the longest list has, got {len(set(names))}")
    choices = np.zeros((n, k, lists.log.K))
    choices[:, np.arange(k), arms[:k]] = 1.0
    choices *= lists.there[:, :, None]
    shown = _shown(lists, choices)
    return ListTarget(shown, shown, choices)
