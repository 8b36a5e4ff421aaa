"""Many entries read at once, column by column: the same events that `events` reads record by record.

All records lie one behind the other in one array of bytes; `at` are offsets in it, one for each record or event. What
is not as expected, in any record, is left to the reader of single records, which says what is wrong and where.

    N  entries    n  records of one kind    e  events    M  kinds of reward now    m  those that a record knew
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask
from bandit.core.features import Layout
from bandit.core.sums import Events
from bandit.log.batch import EventBatch
from bandit.log.records import (
    ACTIVATION,
    DECISION,
    DEFERRED,
    FEEDBACK,
    FORMAT,
    PENDING,
    SHOWN,
    SPARSE,
    USER,
    Entry,
)
from bandit.log.vectors import dense_x, fits_dense, put_pairs

Bytes = NDArray[np.uint8]
KINDS = {b"d", b"f", b"a", b"x"}
# what the heads of all three begin with; of feedback `first` is the bytes of x, and so on, of the others it is k
HEAD = np.dtype("<u1,<u1,<u1,<u1,<u2,<u2,<u2,<u4")
HEAD.names = "format", "flags", "m", "kind", "first", "second", "third", "generation"
ARM = 38  # where feedback's head has the arm
ASCII = 128
EVERY = slice(None)
_Shape = tuple[int, Layout | None]  # d, and the numbers of these columns


class Odd(Exception):  # noqa: N818
    """Some record is not as it is read here."""


class _Part(NamedTuple):
    """The events of records of one kind, in order."""

    entry: Int  # (e,) which entry each is of
    within: Int  # (e,) which of its entry's events each is
    arm: Int
    old: Int  # (e, M)
    new: Int
    x: NDArray[np.int16]  # (n, d)
    of: Int | slice  # (e,) which of the n records each is of


class _Log(NamedTuple):
    """Records of one kind among all bytes."""

    raw: Bytes
    entry: Int  # (n,)
    at: Int
    size: Int
    head: NDArray[Any]  # (n,) of `HEAD`

    def only(self, mask: Mask) -> _Log:
        if mask.all():
            return self
        return _Log(self.raw, self.entry[mask], self.at[mask], self.size[mask], self.head[mask])

    def field(self, name: str) -> Int:
        found: Int = self.head[name].astype(np.int64)
        return found


def columns(
    entries: Sequence[Entry], generation: int, defaults: Sequence[int], M: int, d: int, layout: Layout | None = None
) -> EventBatch:
    """The events of these entries.

    Raises:
        Odd: a record, of whatever generation, is malformed or does not fit, or only may be so.
    """
    if not (present := {entry.tag for entry in entries}) <= KINDS:
        raise Odd
    records, tags = [entry.record for entry in entries], b"".join(entry.tag for entry in entries)
    sizes = np.fromiter(map(len, records), np.int64, len(records))
    raw, starts = np.frombuffer(b"".join(records), np.uint8), np.cumsum(sizes) - sizes
    kinds = np.frombuffer(tags, np.uint8)

    def of(tag: bytes, least: int) -> _Log:
        where = np.flatnonzero(kinds == ord(tag))
        at, size = starts[where], sizes[where]
        _expect(size >= least)
        head = _windows(raw, HEAD.itemsize, at).view(HEAD)[:, 0]
        _expect(head["format"] == FORMAT)
        return _Log(raw, where, at, size, head)

    shape, parts = (d, layout), list[tuple[_Part, int]]()
    decisions = feedback = longest = 0
    if b"d" in present:
        part, decisions, longest = _decisions(of(b"d", DECISION.size), generation, defaults, M, shape)
        parts.append((part, 1))
    if b"f" in present:
        part, feedback = _feedback(of(b"f", FEEDBACK.size), generation, M, shape)
        parts.append((part, 0))
    if b"a" in present:
        parts.append((_activations(of(b"a", ACTIVATION.size), generation, M, shape), 1))
    try:
        ids = np.fromiter(chain.from_iterable(entry.position for entry in entries), np.int64, 2 * len(entries))
    except OverflowError:
        raise Odd from None
    events, entry = _merged(parts, len(entries), M, d)
    return EventBatch(events, ids.reshape(-1, 2)[entry], decisions, feedback, longest)


def _merged(parts: Sequence[tuple[_Part, int]], N: int, M: int, d: int) -> tuple[Events, Int]:
    """(the events in the log's order, which entry each is of); each part with what `shown` is."""
    counts = np.zeros(N, np.int64)
    for part, _ in parts:
        np.add.at(counts, part.entry, 1)
    before, e = np.cumsum(counts) - counts, int(counts.sum())
    arm, shown, x = np.empty(e, np.int64), np.empty(e, np.int64), np.empty((e, d), np.int16)
    old, new = np.empty((e, M), np.int64), np.empty((e, M), np.int64)
    for part, showing in parts:
        slot = before[part.entry] + part.within
        arm[slot], shown[slot], x[slot] = part.arm, showing, part.x[part.of]
        old[slot], new[slot] = part.old, part.new
    return Events(arm, x, shown, old, new), np.repeat(np.arange(N), counts)


def _decisions(log: _Log, generation: int, defaults: Sequence[int], M: int, d: _Shape) -> tuple[_Part, int, int]:
    """(events, decisions, arms of the longest list)."""
    log = log.only(log.head["generation"] == generation)
    _expect(log.head["m"] <= M)
    decisions, longest = len(log.entry), int(log.head["first"].max(initial=0))
    log = log.only((log.head["flags"] & DEFERRED) == 0)
    flags, k, x_bytes = log.field("flags"), log.field("first"), log.field("second")
    lists = DECISION.size + x_bytes + log.field("third") + np.where(flags & USER, 16, 0)
    _expect(log.size > lists + SHOWN.size * k)
    of, within = _rows(k)
    at = (log.at + lists)[of] + within * SHOWN.size
    arm = _numbers(log.raw, at, "<u4", 1)[:, 0]
    x = _x(log, DECISION.size, x_bytes, k > 0, d)
    new = np.zeros((M + 1, M), np.int64)
    for known in range(M + 1):
        new[known, :known] = defaults[:known]
    m = log.field("m")[of]
    return _Part(log.entry[of], within, arm, np.zeros((len(m), M), np.int64), new[m], x, of), decisions, longest


def _feedback(log: _Log, generation: int, M: int, d: _Shape) -> tuple[_Part, int]:
    """(events, feedback)."""
    x_bytes, texts, m = log.field("first"), log.field("second") + log.field("third"), log.field("m")
    end = FEEDBACK.size + x_bytes + texts
    _expect(log.size == end + 8 * m)
    _expect_ascii(log.raw, log.at + FEEDBACK.size + x_bytes, texts)
    mine = log.head["generation"] == generation
    _expect(m[mine] <= M)
    mask = mine & ((log.head["flags"] & PENDING) == 0)
    log, at, m, x_bytes = log.only(mask), (log.at + end)[mask], m[mask], x_bytes[mask]
    arm = _numbers(log.raw, log.at + ARM, "<u4", 1)[:, 0]
    credits_ = np.zeros((2, len(m), M), np.int64)
    for known in np.unique(m).tolist():
        rows = np.flatnonzero(m == known)
        credits_[:, rows, :known] = (
            _numbers(log.raw, at[rows], "<i4", 2 * known).reshape(len(rows), 2, known).swapaxes(0, 1)
        )
    x = _x(log, FEEDBACK.size, x_bytes, np.ones(len(m), bool), d)
    return _Part(log.entry, np.zeros_like(m), arm, credits_[0], credits_[1], x, EVERY), int(mine.sum())


def _activations(log: _Log, generation: int, M: int, d: _Shape) -> _Part:
    m, k, x_bytes, caller = (log.field(name) for name in ("m", "first", "second", "third"))
    end, row = ACTIVATION.size + x_bytes + caller, 4 + 4 * m
    _expect(log.size == end + k * row)
    _expect_ascii(log.raw, log.at + ACTIVATION.size + x_bytes, caller)
    mine = log.head["generation"] == generation
    _expect(m[mine & (k > 0)] <= M)
    log, first, m, k, row, x_bytes = log.only(mine), (log.at + end)[mine], m[mine], k[mine], row[mine], x_bytes[mine]
    of, within = _rows(k)
    at = first[of] + within * row[of]
    arm, new = _numbers(log.raw, at, "<u4", 1)[:, 0], np.zeros((len(of), M), np.int64)
    for known in np.unique(m[of]).tolist():
        rows = np.flatnonzero(m[of] == known)
        new[rows, :known] = _numbers(log.raw, at[rows] + 4, "<i4", known)
    x = _x(log, ACTIVATION.size, x_bytes, k > 0, d)
    return _Part(log.entry[of], within, arm, np.zeros_like(new), new, x, of)


def _rows(count: Int) -> tuple[Int, Int]:
    """(which record, which of its rows) of all rows of records that have `count` of them."""
    of = np.repeat(np.arange(len(count)), count)
    return of, np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)


def _x(log: _Log, head: int, size: Int, counts: Mask, shape: _Shape) -> NDArray[np.int16]:
    """The records' feature vectors (n, d); of records that do not count, anything."""
    d, layout = shape
    sparse, at = (log.head["flags"] & SPARSE) != 0, log.at + head
    if not sparse.any() and counts.all() and (size == 2 * d).all() and (layout is None or layout.is_plain):
        return _numbers(log.raw, at, "<i2", d, np.int16)
    x, dense = np.zeros((len(at), d), np.int16), np.flatnonzero(counts & ~sparse)
    for each in np.unique(size[dense]).tolist():
        if not fits_dense(each, d, layout):
            raise Odd
        rows = dense[size[dense] == each]
        x[rows] = dense_x(_numbers(log.raw, at[rows], "<i2", each // 2, np.int16), d, layout)
    pairs = np.flatnonzero(counts & sparse)
    _expect(size[pairs] % 4 == 0)
    of, within = _rows(size[pairs] // 4)
    first = at[pairs][of] + 4 * within
    column = _numbers(log.raw, first, "<u2", 1)[:, 0]
    _expect(column < (d if layout is None else layout.total))
    put_pairs(x, pairs[of], column, _numbers(log.raw, first + 2, "<i2", 1, np.int16)[:, 0], layout)
    return x


def _windows(raw: Bytes, size: int, at: Int) -> Bytes:
    """(n, size) bytes from each offset on, which are all there."""
    if not len(at) or not size:
        return np.zeros((len(at), size), np.uint8)
    found: Bytes = np.ndarray((len(raw) - size + 1, size), np.uint8, raw, 0, (1, 1))[at]
    return found


def _numbers(raw: Bytes, at: Int, form: str, count: int, into: Any = np.int64) -> NDArray[Any]:
    """(n, count) numbers of a form from each offset on."""
    width = np.dtype(form).itemsize
    return _windows(raw, width * count, at).view(form).astype(into, copy=False)


def _expect(held: Mask) -> None:
    if not held.all():
        raise Odd


def _expect_ascii(raw: Bytes, at: Int, size: Int) -> None:
    """Other text, which may be malformed, is read record by record."""
    of, within = _rows(size)
    _expect(raw[at[of] + within] < ASCII)
