"""Segments of a log: rows that share a category, a yes or no, a half of a number, or a position in a list.

name=level columns   one category: a segment for each level, those beyond the most frequent ones together
a column of 0 and 1  no, yes
any other column     below its median, at its median or above; where most rows have the lowest, that or above
position             position 1, position 2, ...
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import Int, Matrix
from simulator.logs.log import Log

MOST = 10  # segments that are told apart
OTHERS, NOTHING = "all others", "another or none"
Segments = dict[str, Int]


def names(log: Log) -> dict[str, list[int]]:
    """What a log can be cut by: each name with its columns of the context; none for `position`."""
    found: dict[str, list[int]] = {}
    for j, column in enumerate(_columns(log)):
        if j:
            found.setdefault(column.partition("=")[0], []).append(j)
    if log.position is not None:
        found.setdefault("position", [])
    return found


def _columns(log: Log) -> tuple[str, ...]:
    d = 0 if log.context is None else log.context.shape[1]
    return log.columns or tuple(f"x{j}" for j in range(d))


def chosen(log: Log, name: str | None) -> str | None:
    """`name` if there is one, else the most used: of categories, then of yes and no, then numbers, then `position`.

    The most used category is the one that says something in the most rows. None where there is nothing to cut by.

    Raises:
        ValueError: the log has nothing of that name.
    """
    known = names(log)
    if name is not None and name not in known:
        raise ValueError(f"a log's segments are by one of {', '.join(known) or 'nothing'}; got {name!r}")
    useful = {each: cut for each in known if len(cut := segments(log, each)) > 1}
    return name or max(useful, key=lambda each: _use(log, known[each], useful[each]), default=None)


def _use(log: Log, columns: list[int], cut: Segments) -> tuple[int, int]:
    """(kind of name, how many rows it says something about)."""
    if not columns or log.context is None:
        return 0, 0
    kind = 3 if len(columns) > 1 else 2 if _binary(log.context[:, columns[0]][:, None]) else 1
    return kind, len(log) - len(cut.get(NOTHING, ()))


def segments(log: Log, name: str) -> Segments:
    """Row numbers of each segment, the largest first; positions in their order."""
    code, labels = _coded(log, name)
    counts = np.bincount(code, minlength=len(labels))
    order = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
    kept = order[:MOST] if names(log)[name] else sorted(order[:MOST])
    found = {labels[k]: np.flatnonzero(code == k) for k in kept}
    if rest := order[MOST:]:
        found[OTHERS] = np.flatnonzero(np.isin(code, rest))
    return found


def _coded(log: Log, name: str) -> tuple[Int, list[str]]:
    """The number of each row's segment, and what each number means."""
    columns = names(log)[name]
    if not columns or log.context is None:
        position = np.zeros(len(log), np.int64) if log.position is None else log.position
        return position, [f"position {k + 1}" for k in range(int(position.max(initial=0)) + 1)]
    X = log.context[:, columns]
    first = _columns(log)[columns[0]]
    if "=" in first and _binary(X):
        levels = [_columns(log)[j].partition("=")[2] for j in columns]
        levels = [NOTHING if level == "*" else level for level in levels]
        return np.where(X.any(axis=1), X.argmax(axis=1), len(levels)), [*levels, f"{name} not known"]
    if _binary(X):
        return X[:, 0].astype(np.int64), ["no", "yes"]
    below = X[:, 0] < np.median(X[:, 0])
    if below.any():
        return 1 - below.astype(np.int64), ["below its median", "at its median or above"]
    return (X[:, 0] > X[:, 0].min()).astype(np.int64), ["at its lowest", "above its lowest"]  # as of most rows


def _binary(X: Matrix) -> bool:
    return bool(np.isin(X, (0.0, 1.0)).all())
