"""Columns that tell the reward: what came after the decision, under an innocent name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bandit.arrays import Mask, Vector
from bandit.core.inferred.columns import Column

ROWS = 20  # with fewer, chance does the same
ALIKE = 0.98  # correlation
REPEATED = 5  # rows a value must have on average, or it could tell every row apart


def leak(column: Column, rewards: Sequence[Column]) -> str:
    """How a column tells one of the rewards; empty where it does not."""
    for reward in rewards:
        if found := _of(column, reward):
            return found
    return ""


def _of(column: Column, reward: Column) -> str:
    r = np.nan_to_num(reward.values)
    if len(r) < ROWS or np.ptp(r) == 0:
        return ""
    if column.missing and _same(np.array([bool(cell) for cell in column.cells]), r != 0):
        return f"it has a value exactly where {reward.name!r} is not 0"
    if column.kind in ("number", "boolean") and _alike(column.values, r):
        return f"it follows {reward.name!r} nearly exactly"
    if _tells(column, r):
        return f"its values tell {reward.name!r} exactly"
    return ""


def _same(there: Mask, rewarded: Mask) -> bool:
    return bool((there == rewarded).all()) and bool(there.any())


def _alike(values: Vector, r: Vector) -> bool:
    known = ~np.isnan(values)
    v, r = values[known], r[known]
    if len(v) < ROWS or np.ptp(v) == 0 or np.ptp(r) == 0:
        return False
    v, r = v / np.abs(v).max(), r / np.abs(r).max()  # squares of large numbers overflow
    if min(float(v.std()), float(r.std())) == 0:
        return False
    return abs(float(np.mean((v - v.mean()) * (r - r.mean())) / (v.std() * r.std()))) >= ALIKE


def _tells(column: Column, r: Vector) -> bool:
    """Whether the reward is the same wherever the column's value is the same, which is so often enough."""
    value = column.places
    levels = int(value.max()) + 1
    if levels < 2 or levels * REPEATED > len(r):
        return False
    low, high = np.full(levels, np.inf), np.full(levels, -np.inf)
    np.minimum.at(low, value, r)
    np.maximum.at(high, value, r)
    return bool((low == high).all())
