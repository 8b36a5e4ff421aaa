"""What arms have seen, kept as integer sums: the only learned state there is.

    x   (d,)       feature vector on the grid: a whole number of 2^-12, |x| <= 8, x[0] = 1 is the intercept
    r   (m,)       credits of a decision: each kind's reward as a whole number of its unit, |r| <= 2^24
    A   (K, d, d)  sum of x x' over impressions            B  (K, m, d)  sum of r_k x over rewards
    R   (K, m, m)  sum of r_k r_l, in 128 bits             n  (K,)       impressions

Integer addition is associative, so any order, batching, sharding or replay of the same events gives bit-identical
sums. Products are formed by BLAS in float64, exact while a batch stays below `BATCH` events: |x x'| <= 2^30 and
|(new - old) x| <= 2^40, times 2^13 events, is at most 2^53.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int
from bandit.errors import CorruptLog

ONE = 4096  # a feature of 1.0 on the grid
X_MAX = 8 * ONE - 1  # the largest feature: an int16
CREDIT_MAX = 2**24  # the largest credit, in units
BATCH = 8191  # events whose products BLAS can add up exactly
LIMB = 62  # bits of the low limb of R
LOW = (1 << LIMB) - 1
LIMIT = 2**62  # a sum beyond it is refused: the next addition might overflow

ROW_FORMAT = 1
NUMBERED = 2  # the format of a row that says which columns it has; else they are the first
_ROW = struct.Struct("<BxHHxxIQ")  # format, m, d, generation, n


@dataclass(frozen=True)
class Events:
    """Events in the one form that sums know, N of them.

    An impression has `shown` 1, `old` 0 and `new` the credits it starts with; feedback has `shown` 0 and the
    decision's credits before and after; an activation has `shown` 1, `old` 0 and `new` the credits so far.
    """

    arm: Int  # (N,)
    x: NDArray[np.int16]  # (N, d)
    shown: Int  # (N,) 0 or 1
    old: Int  # (N, m)
    new: Int  # (N, m)

    def __len__(self) -> int:
        return len(self.arm)

    def __getitem__(self, at: slice | Int | NDArray[np.bool_]) -> Events:
        return Events(self.arm[at], self.x[at], self.shown[at], self.old[at], self.new[at])


@dataclass(frozen=True)
class Sums:
    """The sums of K arms, in arrays of one row an arm. `add` is the only way they change."""

    A: Int
    B: Int
    R: Int  # (K, m, m, 2): high and low limb, value = high * 2^62 + low with 0 <= low < 2^62
    n: Int

    @classmethod
    def zeros(cls, K: int, m: int, d: int) -> Self:
        """Sums of K arms that have seen nothing."""
        shapes = (K, d, d), (K, m, d), (K, m, m, 2), (K,)
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, m, d)."""
        K, m, d = self.B.shape
        return K, m, d

    def copy(self) -> Sums:
        """The same sums in arrays of their own."""
        return Sums(self.A.copy(), self.B.copy(), self.R.copy(), self.n.copy())

    def grown(self, K: int, m: int) -> Sums:
        """The same sums with room for K arms and m kinds; new arms and new kinds have seen nothing."""
        k0, m0, d = self.shape
        larger = Sums.zeros(max(K, k0), max(m, m0), d)
        larger.A[:k0], larger.B[:k0, :m0], larger.R[:k0, :m0, :m0], larger.n[:k0] = self.A, self.B, self.R, self.n
        return larger

    def laid(self, before: Int, after: Int) -> Sums:
        """The same sums of other columns: `before` and `after` are their numbers, ascending; new ones saw nothing.

        Exact, since x is 0 in every column that came later, and what goes takes its row and column along.
        """
        K, m, _ = self.shape
        _, source, target = np.intersect1d(before, after, assume_unique=True, return_indices=True)
        other = Sums.zeros(K, m, len(after))
        other.A[:, target[:, None], target] = self.A[:, source[:, None], source]
        other.B[:, :, target] = self.B[:, :, source]
        return Sums(other.A, other.B, self.R, self.n)

    def add(self, arms: Int, increment: Sums) -> None:
        """Add `increment` (one row for each of `arms`, which are distinct).

        Raises:
            OverflowError: a sum would leave the range in which it is exact; nothing is added.
        """
        A, B = self.A[arms] + increment.A, self.B[arms] + increment.B
        low = self.R[arms, ..., 1] + increment.R[..., 1]
        high = self.R[arms, ..., 0] + increment.R[..., 0] + (low >> LIMB)
        _check(A, B, high)
        self.A[arms], self.B[arms] = A, B
        self.R[arms, ..., 0], self.R[arms, ..., 1] = high, low & LOW
        self.n[arms] += increment.n

    def pack(self, arm: int, generation: int, own: Int | None = None) -> bytes:
        """One arm's sums as bytes: head, n, the upper triangle of A, B, the upper triangle of R.

        `own` are the numbers of the d columns; they come after the head where they are not the first d.
        """
        _, m, d = self.shape
        plain = own is None or int(own[-1]) == d - 1
        head = _ROW.pack(ROW_FORMAT if plain else NUMBERED, m, d, generation, int(self.n[arm]))
        if own is not None and not plain:
            head += own.astype("<u2").tobytes().ljust(_aligned(d), b"\0")
        parts = self.A[arm][triangle(d)], self.B[arm], self.R[arm][triangle(m)]
        return head + b"".join(part.astype("<i8").tobytes() for part in parts)

    def unpack(self, arm: int, row: bytes, local: Int | None = None) -> None:
        """Put a packed row in an arm's place; kinds and columns that the row did not know yet stay at zero.

        `local` says where each column that there ever was is now, -1 where it is not any more; None: in its own place.
        """
        (m, d, n), own = row_head(row)[1:], row_columns(row)
        fits = d == self.shape[2] if local is None else own.max(initial=0) < len(local)
        start = _ROW.size + (_aligned(d) if row[0] == NUMBERED else 0)
        if not fits or m > self.shape[1] or len(row) != start + _row_size(m, d):
            raise CorruptLog(
                f"a checkpoint row of {len(row)} bytes has m={m}, d={d}; "
                f"the experiment has m={self.shape[1]}, d={self.shape[2]}"
            )
        data = np.frombuffer(row, "<i8", offset=start)
        a, b = d * (d + 1) // 2, m * d
        target: Int = own if local is None else local[own]
        source = np.flatnonzero(target >= 0)
        target = target[source]
        A, B = _symmetric(data[:a], d), data[a : a + b].reshape(m, d)
        if len(source) == d == self.shape[2]:  # all of them: both ascend
            self.A[arm], self.B[arm, :m] = A, B
        else:
            self.A[arm, target[:, None], target] = A[source[:, None], source]
            self.B[arm, :m, target] = B[:, source].T
        self.R[arm, :m, :m] = _symmetric(data[a + b :].reshape(-1, 2), m)
        self.n[arm] = n

    def digest(self, arms: slice | Int = slice(None)) -> str:
        """A fingerprint of the sums: equal for equal sums, whatever the order of the events."""
        h = hashlib.blake2b(digest_size=16)
        for part in (self.A, self.B, self.R, self.n):
            h.update(part[arms].tobytes())
        return h.hexdigest()


@cache
def triangle(size: int) -> tuple[Int, Int]:
    """Rows and columns of the upper triangle of a (size, size) matrix, in packed order."""
    rows, columns = np.triu_indices(size)
    return rows, columns


def row_head(row: bytes) -> tuple[int, int, int, int]:
    """(generation, m, d, n) of a packed row."""
    if len(row) < _ROW.size or row[0] not in (ROW_FORMAT, NUMBERED):
        formats = f"{ROW_FORMAT} and {NUMBERED}"
        raise CorruptLog(f"a checkpoint row of format {row[:1].hex() or 'nothing'}; this version reads {formats}")
    _, m, d, generation, n = _ROW.unpack_from(row)
    return generation, m, d, n


def row_columns(row: bytes) -> Int:
    """The numbers of a packed row's columns."""
    d = row_head(row)[2]
    if row[0] == ROW_FORMAT:
        return np.arange(d)
    if len(row) < _ROW.size + 2 * d:
        raise CorruptLog(f"a checkpoint row of {len(row)} bytes does not have the numbers of its {d} columns")
    return np.frombuffer(row, "<u2", d, _ROW.size).astype(np.int64)


def _aligned(d: int) -> int:
    """Bytes of d columns' numbers, so that what follows is aligned."""
    return -(-2 * d // 8) * 8


def _row_size(m: int, d: int) -> int:
    """Bytes of a row after its head."""
    return 8 * (d * (d + 1) // 2 + m * d + m * (m + 1))


def _check(*parts: Int) -> None:
    """Raise `OverflowError` for sums beyond `LIMIT`: two sums within it cannot wrap around when they are added."""
    if any(part.size and (part.min() < -LIMIT or part.max() > LIMIT) for part in parts):
        raise OverflowError("a sum has passed 2^62: start a new generation of the experiment")


def _symmetric(packed: Int, size: int) -> Int:
    """The full symmetric matrix of a packed upper triangle."""
    full = np.zeros((size, size, *packed.shape[1:]), np.int64)
    rows, columns = triangle(size)
    full[rows, columns] = full[columns, rows] = packed
    return full


def increments(events: Events) -> tuple[Int, Sums]:
    """(arms, sums): what the events add, one row for each distinct arm among them.

        A += x x' (if shown)    n += shown    B += (new - old) x'    R += new new' - old old'

    Exact for any number of events: they are taken in batches of at most `BATCH`.

    Raises:
        OverflowError: their sums leave the range in which they are exact.
    """
    ordered = events[np.argsort(events.arm, kind="stable")]
    arms, first, counts = np.unique(ordered.arm, return_index=True, return_counts=True)
    m, d = events.new.shape[1], events.x.shape[1]
    x, change = ordered.x.astype(np.float64), ordered.new - ordered.old
    left = np.concatenate([x * ordered.shown[:, None], change], axis=1).T  # with x, one product gives both A and B
    both = np.empty((len(arms), d + m, d))
    for row, (start, end) in enumerate(zip(first.tolist(), (first + np.minimum(counts, BATCH)).tolist(), strict=True)):
        np.matmul(left[:, start:end], x[start:end], out=both[row])
    A, B, R = both[:, :d].astype(np.int64), both[:, d:].astype(np.int64), np.zeros((len(arms), m, m, 2), np.int64)
    for row in np.flatnonzero(counts > BATCH).tolist():
        for start in range(first[row] + BATCH, end := first[row] + counts[row], BATCH):
            more = (left[:, start : min(start + BATCH, end)] @ x[start : min(start + BATCH, end)]).astype(np.int64)
            A[row] += more[:d]
            B[row] += more[d:]
            _check(A[row], B[row])  # one batch alone stays below 2^53
    _add_squares(R, ordered, first, counts)
    n = np.bincount(np.repeat(np.arange(len(arms)), counts), ordered.shown, len(arms)).astype(np.int64)
    return arms, Sums(A, B, R, n)


def _add_squares(R: Int, ordered: Events, first: Int, counts: Int) -> None:
    """Add new new' - old old' of events that are ordered by arm, of which each has so many from its first on.

    24 bits squared, 8,191 of them: 61 bits, so int64 sums (not BLAS), and then two limbs.
    """
    new, old = ordered.new, ordered.old
    products = np.zeros((len(ordered) + 1, *R.shape[1:3]), np.int64)
    products[:-1] = new[:, :, None] * new[:, None, :] - old[:, :, None] * old[:, None, :]
    for done in range(0, counts.max(initial=0), BATCH):
        rows = np.flatnonzero(counts > done)
        ends = np.minimum(counts[rows], done + BATCH)
        pieces = np.column_stack([first[rows] + done, first[rows] + ends]).ravel()
        added = np.add.reduceat(products, pieces)[::2]  # between the pieces are sums that nobody wants
        low = R[rows, ..., 1] + (added & LOW)
        R[rows, ..., 0] += (added >> LIMB) + (low >> LIMB)
        R[rows, ..., 1] = low & LOW
