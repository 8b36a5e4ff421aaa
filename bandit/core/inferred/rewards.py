"""A column of rewards as a kind of reward: its range and unit, and whether larger ones are clipped."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from bandit.arrays import Vector
from bandit.core.features import SMALLEST
from bandit.core.inferred.columns import Column

QUANTILE = 0.995  # of the rewards that are not 0: where a range of amounts ends
RATING = 20  # whole numbers up to here are points, not amounts
HUNDREDTH = 1e5  # amounts up to here are counted in hundredths


class Told(NamedTuple):
    """What the document says of something, and why."""

    document: dict[str, Any]
    why: str


def kind_of(column: Column) -> Told:
    """A kind of reward for a column of numbers; its values fit into the range, or are clipped to it."""
    values = column.values[~np.isnan(column.values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return Told({}, "a reward from 0 to 1")
    if column.whole and low >= 0 and high <= RATING:
        return Told({"range": [0, int(high)]}, f"whole numbers up to {high:g}")
    ends = [0.0 - _end(-values), _end(values)]
    told: dict[str, Any] = {"range": ends, "over_range": "clip"}
    if 0.01 <= max(-ends[0], ends[1]) <= HUNDREDTH and _hundredths(values):
        told["unit"] = 0.01
    beyond = int(((values < ends[0]) | (values > ends[1])).sum())
    rest = f"; {beyond} of {len(values)} beyond it would be clipped" if beyond else ""
    return Told(told, f"amounts from {low:g} to {high:g}: a range to the {QUANTILE:.1%} quantile, rounded up{rest}")


def _end(values: Vector) -> float:
    """A round number at or above nearly all of the positive values; 0 where there are none."""
    positive = values[values > 0]
    return max(SMALLEST, _round_up(float(np.quantile(positive, QUANTILE)))) if len(positive) else 0.0


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(f"{next(m for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9)) * power:.6g}")


def _hundredths(values: Vector) -> bool:
    """Whether the values are money: no more than two places after the point, and some have them."""
    cents = values * 100
    return bool((np.abs(cents - np.rint(cents)) < 1e-6).all())
