"""The eligible set of a decision and its probabilities, as short as they can be said: the tail of its record.

unsliced   form of the levels, the eligible set, the levels
sliced     the eligible set, how many slices, and of each: its index, its share in millionths, form, levels

set        0 everyone | 1 a list | 2 a bit for each
levels     0 a number for each | 1 two numbers, and the set that has the larger | 2 one number for all
           3 the least, the set that has more, and a number for each of these: where that is shorter than 0
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.slices import WHOLE
from bandit.errors import CorruptLog

_SLICE = struct.Struct("<BI")  # index, share in millionths
_ONE, _TWO = struct.Struct("<d"), struct.Struct("<dd")


class SlicePart(NamedTuple):
    """What one slice of the traffic would have drawn from."""

    slice: int
    share: float
    probabilities: Vector  # of the eligible arms, in order


def _is_listed(size: int, K: int) -> bool:
    """Whether a list of so many indices below K is no longer than a bit for each."""
    return 4 * size <= (K + 7) // 8


def pack_set(members: Int, K: int) -> bytes:
    """A set of arm indices below K: all of them, a list, or bits, whichever is shortest."""
    if len(members) == K:
        return struct.pack("<BI", 0, K)
    if _is_listed(len(members), K):
        return struct.pack("<BI", 1, len(members)) + members.astype("<u4").tobytes()
    bits = np.zeros(K, bool)
    bits[members] = True
    return struct.pack("<BI", 2, K) + np.packbits(bits).tobytes()


def unpack_set(data: bytes, at: int) -> tuple[Int, int]:
    """(the set that `pack_set` packed at `at`, where it ends)."""
    form, size = struct.unpack_from("<BI", data, at)
    at += 5
    if form == 0:
        return np.arange(size), at
    if form == 1:
        return np.frombuffer(data, "<u4", size, at).astype(np.int64), at + 4 * size
    end = at + (size + 7) // 8
    bits = np.unpackbits(np.frombuffer(data[at:end], np.uint8), count=size)
    return np.flatnonzero(bits), end


@lru_cache(maxsize=256)
def _packed_mask(mask: bytes) -> bytes:
    """`pack_set` of a mask given as bytes: most decisions share the experiment's own."""
    bits = np.frombuffer(mask, bool)
    return pack_set(np.flatnonzero(bits), len(bits))


def pack_probabilities(probabilities: Vector, eligible: Mask) -> bytes:
    """The eligible set and each one's probability: two probabilities and a set where that is all there is."""
    packed, K = _packed_mask(eligible.tobytes()), len(eligible)
    members = np.flatnonzero(eligible) if packed[0] else None  # None: everyone
    p = probabilities if members is None else probabilities[members]
    low, high = p.item(p.argmin()), p.item(p.argmax())
    top = p == high
    if low < high and np.count_nonzero(top) + np.count_nonzero(p == low) < len(p):
        form, levels = _many(p, members, K)
        return form + packed + levels
    which = top.nonzero()[0]
    return b"\x01" + packed + struct.pack("<dd", low, high) + pack_set(which if members is None else members[which], K)


def _many(p: Vector, members: Int | None, K: int) -> tuple[bytes, bytes]:
    """(form, levels) of more than two numbers, of these arms or of all."""
    low = p.min()
    above = np.flatnonzero(p > low)
    if 2 * len(above) < len(p):
        more = pack_set(above if members is None else members[above], K)
        return b"\x03", _ONE.pack(low) + more + p[above].astype("<f8").tobytes()
    return b"\x00", p.astype("<f8").tobytes()


def pack_all_probabilities(probabilities: Matrix, eligible: Mask) -> list[bytes]:
    """`pack_probabilities` of each decision: probabilities (N, K), eligible (N, K), or (1, K) where all share it."""
    if len(eligible) < len(probabilities):
        return _packed_together(probabilities, eligible[0])
    return [pack_probabilities(p, mask) for p, mask in zip(probabilities, eligible, strict=True)]


def _packed_together(probabilities: Matrix, eligible: Mask) -> list[bytes]:
    """Of decisions that share an eligible set."""
    packed, K = _packed_mask(eligible.tobytes()), len(eligible)
    members, p = None, probabilities
    if not eligible.all():
        members = np.flatnonzero(eligible)
        p = probabilities[:, members]
    low, high = p.min(axis=1, keepdims=True), p.max(axis=1, keepdims=True)
    top = p == high
    two, tops = (top | (p == low)).all(axis=1).tolist(), np.count_nonzero(top, axis=1).tolist()
    which = np.nonzero(top)[1]
    if members is not None:
        which = members[which]
    lone = struct.Struct(f"<B{len(packed)}sddBII")  # one arm has the larger, among so many that it is listed
    listed, tails, start, arms = _is_listed(1, K), [], 0, which.tolist()
    rows = zip(tops, two, low[:, 0].tolist(), high[:, 0].tolist(), strict=True)
    for row, (size, pair, *ends) in enumerate(rows):
        if pair and size == 1 and listed:
            tails.append(lone.pack(1, packed, *ends, 1, 1, arms[start]))
        elif pair:
            tails.append(b"\x01" + packed + struct.pack("<dd", *ends) + pack_set(which[start : start + size], K))
        else:
            form, levels = _many(p[row], members, K)
            tails.append(form + packed + levels)
        start += size
    return tails


def unpack_probabilities(data: bytes, at: int) -> tuple[Int, Vector, int]:
    """(eligible arms, their probabilities) that `pack_probabilities` packed at `at`, and where they end."""
    members, end = unpack_set(data, at + 1)
    p, end = _unpack_levels(data, end, data[at], members)
    return members, p, end


def pack_slices(parts: Sequence[tuple[int, int]], probabilities: Sequence[Matrix], eligible: Mask) -> list[bytes]:
    """The tail of each decision where traffic is sliced.

    Args:
        parts: (index, share in millionths) of each slice.
        probabilities: of each slice, shape (N, K).
        eligible: shape (N, K), or (1, K) where all share it.
    """
    if len(eligible) < len(probabilities[0]):
        return _sliced_together(parts, probabilities, eligible[0])
    rows = range(len(eligible))
    return [_sliced_together(parts, [p[i : i + 1] for p in probabilities], eligible[i])[0] for i in rows]


def _sliced_together(parts: Sequence[tuple[int, int]], probabilities: Sequence[Matrix], eligible: Mask) -> list[bytes]:
    """Of decisions that share an eligible set."""
    packed, members = _packed_mask(eligible.tobytes()), np.flatnonzero(eligible)
    whole = len(members) == len(eligible)
    each = [_levels(p if whole else p[:, members], members, len(eligible)) for p in probabilities]
    heads = [_SLICE.pack(*part) for part in parts]
    start = packed + bytes([len(parts)])
    return [
        start + b"".join([part for pair in zip(heads, levels, strict=True) for part in pair])
        for levels in zip(*each, strict=True)
    ]


def _levels(p: Matrix, members: Int, K: int) -> list[bytes]:
    """The levels of each row, after their form."""
    low, high = p.min(axis=1, keepdims=True), p.max(axis=1, keepdims=True)
    lows, highs = low[:, 0].tolist(), high[:, 0].tolist()
    if lows == highs:
        return [b"\x02" + _ONE.pack(level) for level in lows]
    top = p == high
    two, sizes = (top | (p == low)).all(axis=1).tolist(), np.count_nonzero(top, axis=1).tolist()
    which, packed, start = members[np.nonzero(top)[1]], [], 0
    for row, (size, pair, *ends) in enumerate(zip(sizes, two, lows, highs, strict=True)):
        if ends[0] == ends[1]:
            packed.append(b"\x02" + _ONE.pack(ends[0]))
        elif pair:
            packed.append(b"\x01" + _TWO.pack(*ends) + pack_set(which[start : start + size], K))
        else:
            packed.append(b"".join(_many(p[row], members, K)))
        start += size
    return packed


def _unpack_levels(data: bytes, at: int, form: int, members: Int) -> tuple[Vector, int]:
    if form == 0:
        return np.frombuffer(data, "<f8", len(members), at).astype(np.float64), at + 8 * len(members)
    if form == 2:
        return np.full(len(members), *struct.unpack_from("<d", data, at)), at + 8
    if form == 3:
        above, end = unpack_set(data, at + 8)
        p = np.full(len(members), *_ONE.unpack_from(data, at))
        p[np.searchsorted(members, above)] = np.frombuffer(data, "<f8", len(above), end)
        return p, end + 8 * len(above)
    low, high = struct.unpack_from("<dd", data, at)
    top, end = unpack_set(data, at + 16)
    p = np.full(len(members), low)
    p[np.searchsorted(members, top)] = high  # both ascend, and the second is within the first
    return p, end


def unpack_slices(data: bytes, at: int) -> tuple[Int, tuple[SlicePart, ...], int]:
    """(eligible arms, the slices) that `pack_slices` packed at `at`, and where they end."""
    members, at = unpack_set(data, at)
    count, at, parts = data[at], at + 1, []
    for _ in range(count):
        index, share = _SLICE.unpack_from(data, at)
        at += _SLICE.size
        p, at = _unpack_levels(data, at + 1, data[at], members)
        parts.append(SlicePart(index, share / WHOLE, p))
    return members, tuple(parts), at


def level_ends(record: bytes, at: int, part: int) -> tuple[float, float]:
    """(least, largest probability of an eligible arm) of a decision's tail; of one slice, where `part` is not -1.

    Sets are skipped, which makes it many times as quick as reading them.
    """
    if part < 0:
        end, count = _skipped(record, at + 1)
        return _ends(record, end, record[at], count)[:2]
    at, count = _skipped(record, at)
    parts, at = record[at], at + 1
    for _ in range(parts):
        number, _ = _SLICE.unpack_from(record, at)
        at += _SLICE.size
        low, high, at = _ends(record, at + 1, record[at], count)
        if number == part:
            return low, high
    raise CorruptLog("a decision has no probabilities of its own slice")


def _skipped(record: bytes, at: int) -> tuple[int, int]:
    """(where a set ends, how many are in it)."""
    form, size = struct.unpack_from("<BI", record, at)
    at += 5
    if form == 0:
        return at, size
    if form == 1:
        return at + 4 * size, size
    end = at + (size + 7) // 8
    return end, int.from_bytes(record[at:end], "big").bit_count()


def _ends(record: bytes, at: int, form: int, count: int) -> tuple[float, float, int]:
    """(least, largest, where they end) of levels."""
    if form == 2:
        (level,) = _ONE.unpack_from(record, at)
        return level, level, at + 8
    if form == 1:
        low, high = _TWO.unpack_from(record, at)
        return low, high, _skipped(record, at + 16)[0]
    if form == 3:
        (low,) = _ONE.unpack_from(record, at)
        at, count = _skipped(record, at + 8)
        return low, max(struct.unpack_from(f"<{count}d", record, at)), at + 8 * count
    each = struct.unpack_from(f"<{count}d", record, at)
    return min(each), max(each), at + 8 * count
