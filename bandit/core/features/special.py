"""Values that take more than one line of numbers: with others standing for missing ones, on circles, hashed, in lists.

    missing     its value, or with `indicator` zeros, and 1 in a last column
    cycle       sin(2 pi v / cycle), cos(2 pi v / cycle)
    log         (sign(v) log(1 + |v|) - mean) / scale
    transform   bins and rank, as in `transforms`
    hashed      1 in the column that the first bits of a hash of the string say
    vector      the numbers as they are

Each way here has its way back: a value that is encoded to the same columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.core.features.transforms import candidates, transformed
from bandit.core.features.types import X_MIN, Boolean, Category, Hashed, Number, Valued, Vector, may_miss
from bandit.core.sums import ONE, X_MAX

Grid = NDArray[np.int16]
OTHER = "other"  # what a string that is not listed is shown as, if that is not listed


class Special(NamedTuple):
    """A feature, and where its columns are."""

    feature: Valued
    columns: list[int]


def is_special(feature: Valued) -> bool:
    """Whether it is none of those that are encoded together."""
    if isinstance(feature, Hashed | Vector) or may_miss(feature):
        return True
    if not isinstance(feature, Number):
        return False
    return feature.log or feature.cycle is not None or feature.transform is not None


def encoded(feature: Valued, values: Sequence[Any]) -> Grid:
    """The columns (n, own) of a feature's values; None: missing."""
    gone = [value is None for value in values]
    if feature.missing == "indicator":
        zeros, present = np.zeros((len(values), 1), np.int16), [value for value in values if value is not None]
        own = encoded_present(feature, present)
        x = np.zeros((len(values), own.shape[1]), np.int16)
        x[~np.array(gone, bool)] = own
        zeros[gone] = ONE
        return np.concatenate([x, zeros], axis=1)
    if any(gone):
        values = [feature.missing if value is None else value for value in values]
    return encoded_present(feature, values)


def encoded_present(feature: Valued, values: Sequence[Any]) -> Grid:
    """The same where none is missing, without the column that would say so."""
    n = len(values)
    if isinstance(feature, Vector):
        return _grid(np.array(values, np.float64).reshape(n, feature.length))
    if isinstance(feature, Category | Hashed):
        width, column = _columns(feature)
        x = np.zeros((n, width), np.int16)
        x[np.arange(n), [column(value) for value in values]] = ONE
        return x
    v = np.array(values, np.float64)
    if isinstance(feature, Boolean):
        return _grid(v[:, None])
    if feature.transform is not None:
        return transformed(feature.transform, values)
    if feature.cycle is not None:
        angle = np.fmod(v, feature.cycle) * (2 * math.pi / feature.cycle)
        return _grid(np.stack([np.sin(angle), np.cos(angle)], axis=1))
    shift, scale = feature.line()
    if feature.log:
        v = np.copysign(np.log1p(np.abs(v)), v)
    v -= shift
    v = v.clip(scale * (X_MIN / ONE), scale * (X_MAX / ONE)) / (scale / ONE)
    found: Grid = np.rint(v)[:, None].astype(np.int16)
    return found


def _grid(y: NDArray[np.float64]) -> Grid:
    """Numbers on the grid; rounded first."""
    found: Grid = np.rint(y.clip(-9, 9) * ONE).clip(X_MIN, X_MAX).astype(np.int16)
    return found


def _columns(feature: Category | Hashed) -> tuple[int, Callable[[str], int]]:
    """(how many columns, which of them a string has)."""
    if isinstance(feature, Hashed):
        return 1 << feature.bits, lambda value: bucket(value, feature.bits)
    column = {level: i for i, level in enumerate(feature.levels)}
    return len(column) + feature.other, lambda value: column.get(value, len(column))


def bucket(value: str, bits: int) -> int:
    """The first bits of a string's hash."""
    return int.from_bytes(blake2b(value.encode(errors="surrogatepass"), digest_size=2).digest(), "big") >> (16 - bits)


def decoded(feature: Valued, x: Grid) -> list[Any]:
    """Values that are encoded to these columns (n, own); None: missing."""
    indicated = feature.missing == "indicator"
    rows, back = np.unique(x, axis=0, return_inverse=True)
    found: list[Any] = []
    for row in rows:
        own = row[:-1] if indicated else row
        found.append(None if indicated and row[-1] else _decoded(feature, own))
    return [found[i] for i in back.ravel().tolist()]


def _decoded(feature: Valued, row: Grid) -> Any:
    if isinstance(feature, Boolean):
        return bool(row[0])
    if isinstance(feature, Hashed):
        return _preimages(feature.bits)[int(row.argmax())]
    if isinstance(feature, Category):
        at = int(row.argmax())
        return feature.levels[at] if at < len(feature.levels) else unlisted(feature)
    if isinstance(feature, Vector):
        return [round(value / ONE, 4) for value in row.tolist()]  # steps of the grid are over twice as far apart
    return _number(feature, row)


def unlisted(feature: Category) -> str:
    """A string that is none of the levels."""
    name = OTHER
    while name in feature.levels:
        name += "'"
    return name


@cache
def _preimages(bits: int) -> list[str]:
    """A string for each column."""
    found: dict[int, str] = {}
    at = 0
    while len(found) < 1 << bits:
        found.setdefault(bucket(str(at), bits), str(at))
        at += 1
    return [found[column] for column in range(1 << bits)]


def _number(feature: Number, row: Grid) -> float:
    def same(value: float) -> bool:
        return bool((encoded_present(feature, [value])[0] == row).all())

    if feature.transform is not None:
        return next((_shortest(v, same) for v in candidates(feature.transform, row.tolist()) if same(v)), 0.0)
    if feature.cycle is not None:
        return next((_shortest(v, same) for v in _angles(feature.cycle, *row.tolist()) if same(v)), 0.0)
    shift, scale = feature.line()
    exact = shift + int(row[0]) / ONE * scale
    if feature.log:
        exact = math.copysign(math.expm1(min(abs(exact), 709.7)), exact)
    return _shortest(exact, same)


def _angles(cycle: float, sine: int, cosine: int) -> list[float]:
    """Values of which one has these columns: the right one lies between angles at which one of the two is rounded."""
    middle = math.atan2(sine, cosine)
    edges = [middle]
    for half in (-0.5, 0.5):
        s, c = (max(-1.0, min(1.0, (part + half) / ONE)) for part in (sine, cosine))
        edges += [math.asin(s), math.pi - math.asin(s), math.acos(c), -math.acos(c)]
    near = sorted(middle + math.remainder(edge - middle, 2 * math.pi) for edge in edges)
    tried = [*near, *((one + other) / 2 for one, other in pairwise(near))]
    return [angle % (2 * math.pi) * cycle / (2 * math.pi) for angle in tried]


def _shortest(exact: float, same: Callable[[float], Any]) -> float:
    """The number of fewest digits near this one that is the same."""
    numbers = (float(f"{exact:.{digits}g}") for digits in range(1, 17))
    return next((number for number in numbers if same(number)), exact)
