"""Transforms that a document fixes: numbers in bins and by their rank, and random Fourier features of several numbers.

    bins     1 in the column of the interval that v lies in: edges[k - 1] <= v < edges[k]
    rank     2 (k + (v - e_k) / (e_k+1 - e_k)) / (n - 1) - 1 where e_k <= v < e_k+1, n edges e; -1 below, 1 above
    fourier  height sqrt(2 / size) cos(w'z / scale + b)   z (p,) columns of the numbers, as x has them
                                                          w (p,) standard normal, b uniform on [0, 2 pi)

w and b are the same for ever and everywhere: column j is made of the outputs r_0, ..., r_p of NumPy's PCG64(seed) from
place j (p + 1) on, each as u = (floor(r / 2^12) + 1/2) / 2^52:

    w_i = Phi^-1(u_i), rounded to a whole number of 2^-20       b = 2 pi u_p

That generator's outputs are promised to stay; what is made of them here uses no more than a quantile of the normal
distribution. z and w are whole numbers of 2^-12 and 2^-20, so w'z is exact, in whatever order it is summed.

Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Matrix, Vector
from bandit.core.features.types import Bins, Fourier, Number, Rank
from bandit.core.sums import ONE

Grid = NDArray[np.int16]
Places = NDArray[np.int64] | slice
FINE = 1 << 20  # steps of w in 1


def rank(edges: Sequence[float], value: float) -> int:
    """The rank of a value among edges, on the grid."""
    k, last = bisect_right(edges, value) - 1, len(edges) - 1
    if k < 0 or k >= last:
        return -ONE if k < 0 else ONE
    share = (value - edges[k]) / (edges[k + 1] - edges[k])
    return round((2 * (k + share) / last - 1) * ONE)


def transformed(how: Bins | Rank, values: Sequence[float]) -> Grid:
    """The columns (n, own) of values."""
    edges = how.edges
    if isinstance(how, Rank):
        return np.array([rank(edges, value) for value in values], np.int16)[:, None]
    x = np.zeros((len(values), len(edges) + 1), np.int16)
    x[np.arange(len(values)), [bisect_right(edges, value) for value in values]] = ONE
    return x


class Placed(NamedTuple):
    """A number in bins or by its rank, and where it is: one row at a time, as requests come alone."""

    feature: Number
    columns: list[int]
    at: int  # in a context
    edges: tuple[float, ...]
    bins: bool
    missing: float | str


def placed(feature: Number, how: Bins | Rank, columns: list[int], at: int) -> Placed:
    """A number with its transform; `columns` are its own in x, and it is the context's value `at`."""
    return Placed(feature, columns, at, how.edges, isinstance(how, Bins), feature.missing)


def place(row: Grid, context: tuple[Any, ...], numbers: Sequence[Placed]) -> None:
    """Write the columns of numbers to a row of x (d,), which is 0 there."""
    for _, columns, at, edges, bins, missing in numbers:
        value = context[at]
        if value is None:
            if isinstance(missing, str):  # "indicator"
                row[columns[-1]] = ONE
                continue
            value = missing
        if bins:
            row[columns[bisect_right(edges, value)]] = ONE
        else:
            row[columns[0]] = rank(edges, value)


def labels(how: Bins | Rank) -> tuple[str, ...]:
    """A name for each column: which values have it."""
    if isinstance(how, Rank):
        return ("",)
    ends = [repr(edge).removesuffix(".0") for edge in how.edges]
    between = (f"{low} to {high}" for low, high in pairwise(ends))
    return f"<{ends[0]}", *between, f">={ends[-1]}"


def candidates(how: Bins | Rank, row: Sequence[int]) -> list[float]:
    """Values of which one at least has these columns, the most typical first."""
    edges = how.edges
    if isinstance(how, Rank):
        at = (row[0] / ONE + 1) / 2 * (len(edges) - 1)
        k = min(int(at), len(edges) - 2)
        value = edges[k] + (at - k) * (edges[k + 1] - edges[k])
        near = [value, edges[k], edges[k + 1]]
        return [*near, *(math.nextafter(each, end) for each in near for end in (-math.inf, math.inf))]
    k = list(row).index(ONE) if ONE in row else 0
    if k == 0:
        gap = edges[1] - edges[0] if len(edges) > 1 else abs(edges[0]) or 1.0
        return [edges[0] - gap, math.nextafter(edges[0], -math.inf)]
    return [edges[k - 1]] if k == len(edges) else [edges[k - 1] / 2 + edges[k] / 2, edges[k - 1]]


class Waves(NamedTuple):
    """A `Fourier`, compiled: which columns of x it reads and writes, and its constants."""

    read: Places
    write: Places
    w: Matrix  # (p, size)
    step: float  # of the phase, for one unit of w'z
    b: Vector  # (size,)
    height: float

    def put(self, x: Grid) -> None:
        """Write the columns to x (n, d), from those of the numbers."""
        phase = x[:, self.read] @ self.w  # whole numbers below 2^53
        phase *= self.step
        phase += self.b
        np.cos(phase, out=phase)
        phase *= self.height
        x[:, self.write] = np.rint(phase, out=phase)


def waves(feature: Fourier, read: Places, write: Places) -> Waves:
    """A `Fourier` that reads and writes these columns."""
    w, b = constants(len(feature.of), feature.size, feature.seed)
    return Waves(read, write, w, 1 / (ONE * FINE * feature.scale), b, feature.top * ONE)


@lru_cache(maxsize=64)
def constants(p: int, size: int, seed: int) -> tuple[Matrix, Vector]:
    """(w in steps of 2^-20, shape (p, size); b, shape (size,)): see the head of this file."""
    raw = np.random.PCG64(seed).random_raw(size * (p + 1)).reshape(size, p + 1)
    u = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    quantile = NormalDist().inv_cdf
    w: Matrix = np.array([[round(quantile(each) * FINE) for each in row] for row in u[:, :-1].tolist()], np.float64).T
    b: Vector = 2 * math.pi * u[:, -1]
    w = np.ascontiguousarray(w)
    for fixed in (w, b):
        fixed.flags.writeable = False
    return w, b
