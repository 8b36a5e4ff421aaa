"""Feature vectors in records: the columns by the numbers that they have for good, whichever there were at the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int
from bandit.core.features import Layout
from bandit.errors import CorruptLog
from bandit.log.records import SPARSE


def pack_x(x: NDArray[np.int16], layout: Layout | None = None) -> list[tuple[bytes, int]]:
    """(bytes, SPARSE or 0) of each row of x (N, d): dense, or pairs of column and value, whichever is shorter.

    Columns go by the layout's numbers: dense are all up to the last of x, 0 where x has none. None: the first d.
    """
    if layout is not None and not layout.is_plain:
        return _pack_numbered(x, layout.own)
    n, d = x.shape
    if (2 * (x != 0).sum(axis=1) >= d).all():
        data, size = x.astype("<i2", copy=False).tobytes(), 2 * d
        return [(data[at : at + size], 0) for at in range(0, n * size, size)]
    dense = x.astype("<i2", copy=False)
    pairs = sparse_x(x, np.arange(d))
    return [(pair, SPARSE) if len(pair) < 2 * d else (dense[i].tobytes(), 0) for i, pair in enumerate(pairs)]


def sparse_x(x: NDArray[np.int16], own: Int) -> list[bytes]:
    """Pairs of column and value, of each row of x (N, d) where it is not 0; `own` numbers the columns, shape (d,)."""
    rows, columns = np.nonzero(x)
    pairs = np.column_stack([own[columns].astype("<u2"), x[rows, columns].astype("<i2").view("<u2")]).tobytes()
    ends = np.searchsorted(rows, np.arange(len(x) + 1)).tolist()
    return [pairs[4 * start : 4 * end] for start, end in pairwise(ends)]


def _pack_numbered(x: NDArray[np.int16], own: Int) -> list[tuple[bytes, int]]:
    """With columns between its own, which are 0: no row is ever longer than its pairs."""
    size, packed = 2 * (int(own[-1]) + 1), [(pair, SPARSE) for pair in sparse_x(x, own)]
    for i in (i for i, (pair, _) in enumerate(packed) if len(pair) >= size):
        wide = np.zeros(size // 2, "<i2")
        wide[own] = x[i]
        packed[i] = wide.tobytes(), 0
    return packed


def unpack_x(parts: Sequence[tuple[bytes, int]], d: int, layout: Layout | None = None) -> NDArray[np.int16]:
    """The feature vectors (N, d) that `pack_x` packed, in the layout's columns: what a record does not have is 0.

    Raises:
        CorruptLog: a record's length does not fit.
    """
    x = np.zeros((len(parts), d), np.int16)
    groups = defaultdict[int, list[int]](list)  # dense records by their size
    for i, (data, flags) in enumerate(parts):
        groups[-1 if flags & SPARSE else len(data)].append(i)
    sparse, most = groups.pop(-1, []), d if layout is None else layout.total
    for size, dense in groups.items():
        if not fits_dense(size, d, layout):
            raise CorruptLog(f"a record's feature vector does not have {most} columns")
        x[dense] = dense_x(np.frombuffer(b"".join(parts[i][0] for i in dense), "<i2").reshape(-1, size // 2), d, layout)
    if any(len(parts[i][0]) % 4 for i in sparse):
        raise CorruptLog(f"a record's feature vector does not have {most} columns")
    if sparse:
        pairs = np.frombuffer(b"".join(parts[i][0] for i in sparse), "<u2").reshape(-1, 2)
        rows = np.repeat(sparse, [len(parts[i][0]) // 4 for i in sparse])
        if len(pairs) and pairs[:, 0].max() >= most:
            raise CorruptLog(f"a record's feature vector has more than {most} columns")
        put_pairs(x, rows, pairs[:, 0], pairs[:, 1].view("<i2"), layout)
    return x


def fits_dense(size: int, d: int, layout: Layout | None) -> bool:
    """Whether so many bytes can be a dense feature vector."""
    if layout is None or not layout.changes:
        return size == 2 * d
    return size % 2 == 0 and 2 <= size <= 2 * layout.total


def dense_x(found: NDArray[np.int16], d: int, layout: Layout | None) -> NDArray[np.int16]:
    """Dense feature vectors (n, g) of the first g columns as (n, d) in the layout's."""
    if layout is None or (layout.is_plain and found.shape[1] == d):
        return found
    x, own = np.zeros((len(found), d), np.int16), layout.own
    known = int(np.searchsorted(own, found.shape[1]))  # the columns ascend
    x[:, :known] = found[:, own[:known]]
    return x


def put_pairs(
    x: NDArray[np.int16], rows: Int, numbers: NDArray[Any], values: NDArray[np.int16], layout: Layout | None
) -> None:
    """Put values in rows of x, by the numbers of their columns; of columns that x does not have any more, none."""
    if layout is None or (layout.is_plain and len(layout.own) == layout.total):
        x[rows, numbers] = values
        return
    columns = layout.local[numbers]
    stay = columns >= 0
    x[rows[stay], columns[stay]] = values[stay]
