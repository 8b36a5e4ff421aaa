"""The log's records: how an entry is packed, read and named. `events` turns entries into what the sums add up.

An entry of the log is one field and its value; the field's name says what it is:

    d  decision    f  feedback    a  activation    x  the experiment's config (JSON)

All numbers are little-endian. `lua/append.lua` reads and writes the same layouts; `test_store.py` holds the two
together. A decision's deadline is its entry's time plus `window_ms`.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.experiment import Config
from bandit.errors import CorruptLog

FORMAT = 1
DEFERRED, SPARSE, USER = 1, 2, 8  # flags of a decision; SPARSE, of its x, is every record's
PENDING, CLIPPED = 1, 8  # flags of feedback

# the fields of `Head`
DECISION = struct.Struct("<BBBBHHHIIIQ8s8sdQI")
# format, flags, m, kind, bytes of x, caller's id and event id, generation, schema, decision, nonce, arm, value
FEEDBACK = struct.Struct("<BBBBHHHIIQI8sIi")
# format, flags, m, 0, k, bytes of x and caller's id, generation, schema, decision, nonce
ACTIVATION = struct.Struct("<BBBBHHHIIQI8s")
SHOWN = struct.Struct("<Idd")  # arm, conditional propensity given the arms above it, marginal probability


class Position(NamedTuple):
    """An entry's id: the store's milliseconds, and a number within them."""

    ms: int
    seq: int

    def text(self) -> bytes:
        """As the store writes it."""
        return b"%d-%d" % self

    @classmethod
    def parse(cls, text: bytes) -> Position:
        """From the store's writing."""
        ms, _, seq = text.partition(b"-")
        return cls(int(ms), int(seq))


START = Position(0, 0)


class Entry(NamedTuple):
    """One entry of the log."""

    position: Position
    tag: bytes
    record: bytes


class Head(NamedTuple):
    """The fixed part of a decision record."""

    format: int
    flags: int
    m: int
    slice: int
    k: int
    x_bytes: int
    caller_bytes: int
    generation: int
    schema: int
    version: int
    window_ms: int
    nonce: bytes
    digest: bytes
    u: float
    model_ms: int
    model_seq: int


@dataclass(frozen=True)
class Decision:
    """A decision record, read whole."""

    head: Head
    x: bytes
    caller: str
    user: bytes
    arms: tuple[int, ...]
    propensities: tuple[float, ...]
    marginals: tuple[float, ...]
    eligible: Int
    probabilities: Vector


class Feedback(NamedTuple):
    """A feedback record, read whole: it repeats what the sums need of its decision, so that need not be looked up."""

    flags: int
    generation: int
    kind: int
    decision: Position
    nonce: bytes
    caller: str
    arm: int
    value: int
    event: str
    old: tuple[int, ...]
    new: tuple[int, ...]
    x: bytes


class Activation(NamedTuple):
    """An activation record, read whole."""

    flags: int
    generation: int
    decision: Position
    nonce: bytes
    caller: str
    arms: tuple[int, ...]
    credits: tuple[tuple[int, ...], ...]
    x: bytes


def decision_id(shard: int, position: Position, nonce: bytes) -> str:
    """The server's own name of a decision: 21 bytes after `~`, so base64 has no spare bits and one spelling."""
    ms, seq = position
    data = _ID.pack(FORMAT, shard, ms >> 32, ms & 0xFFFFFFFF, seq, nonce)
    return "~" + binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).decode()


_ID = struct.Struct(">BHHII8s")  # format, shard, 48 bits of milliseconds, number within them, nonce
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def read_decision_id(text: str) -> tuple[int, Position, bytes] | None:
    """(shard, position, nonce) of a server's id; None where it is not one, to the letter."""
    try:
        data = base64.b64decode(text[1:].encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    if len(data) != 21 or data[0] != FORMAT:
        return None
    shard, ms, seq = struct.unpack(">HQI", data[1:3] + b"\0\0" + data[3:13])
    found = shard, Position(ms, seq), data[13:]
    return found if decision_id(*found) == text else None


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
        return b"\x00" + packed + p.astype("<f8").tobytes()
    which = top.nonzero()[0]
    return b"\x01" + packed + struct.pack("<dd", low, high) + pack_set(which if members is None else members[which], K)


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
            tails.append(b"\x00" + packed + p[row].astype("<f8").tobytes())
        start += size
    return tails


def unpack_probabilities(data: bytes, at: int) -> tuple[Int, Vector, int]:
    """(eligible arms, their probabilities) that `pack_probabilities` packed at `at`, and where they end."""
    two = data[at]
    members, end = unpack_set(data, at + 1)
    if not two:
        return members, np.frombuffer(data, "<f8", len(members), end).astype(np.float64), end + 8 * len(members)
    low, high = struct.unpack_from("<dd", data, end)
    top, end = unpack_set(data, end + 16)
    p = np.full(len(members), low)
    p[np.searchsorted(members, top)] = high  # both ascend, and the second is within the first
    return members, p, end


def pack_decision(
    head: Sequence[Any], x: bytes, caller: bytes, user: bytes, shown: Iterable[tuple[int, float, float]], tail: bytes
) -> bytes:
    """A decision record; `head`: the fields of `Head`; `shown`: (arm, propensity, marginal) of each position; `tail`:
    `pack_probabilities`.
    """
    return b"".join((DECISION.pack(*head), x, caller, user, *[SHOWN.pack(*arm) for arm in shown], tail))


def decision_head(record: bytes) -> Head:
    """The fixed part of a decision record.

    Raises:
        CorruptLog: it has another format.
    """
    return Head(*unpack_head(DECISION, record))


def unpack_decision(record: bytes) -> Decision:
    """A decision record, read whole.

    Raises:
        CorruptLog: it has another format or length.
    """
    head = decision_head(record)
    x_end = DECISION.size + head.x_bytes
    caller_end = x_end + head.caller_bytes
    user_end = caller_end + (16 if head.flags & USER else 0)
    shown_end = user_end + SHOWN.size * head.k
    try:
        eligible, probabilities, end = unpack_probabilities(record, shown_end)
    except (IndexError, ValueError, struct.error):
        raise _misfit(record) from None
    if len(record) != end:
        raise _misfit(record)
    arms, propensities, marginals = zip(*SHOWN.iter_unpack(record[user_end:shown_end]), strict=True)
    x, caller = record[DECISION.size : x_end], record[x_end:caller_end].decode()
    user = record[caller_end:user_end]
    return Decision(head, x, caller, user, arms, propensities, marginals, eligible, probabilities)


def pack_feedback(feedback: Feedback, schema: int) -> bytes:
    """A feedback record."""
    f, m = feedback, len(feedback.new)
    caller, event = f.caller.encode(), f.event.encode()
    sizes = len(f.x), len(caller), len(event)
    head = FEEDBACK.pack(FORMAT, f.flags, m, f.kind, *sizes, f.generation, schema, *f.decision, f.nonce, f.arm, f.value)
    return head + f.x + caller + event + struct.pack(f"<{2 * m}i", *f.old, *f.new)


def unpack_feedback(record: bytes) -> Feedback:
    """A feedback record, read whole."""
    fields = unpack_head(FEEDBACK, record)
    _, flags, m, kind, x_bytes, caller_bytes, event_bytes, generation, _, ms, seq, nonce, arm, value = fields
    x_end = FEEDBACK.size + x_bytes
    caller_end = x_end + caller_bytes
    end = caller_end + event_bytes
    if len(record) != end + 8 * m:
        raise _misfit(record)
    credits_ = struct.unpack_from(f"<{2 * m}i", record, end)
    caller, event = record[x_end:caller_end].decode(), record[caller_end:end].decode()
    decision, x = Position(ms, seq), record[FEEDBACK.size : x_end]
    return Feedback(flags, generation, kind, decision, nonce, caller, arm, value, event, credits_[:m], credits_[m:], x)


def pack_activation(activation: Activation, schema: int) -> bytes:
    """An activation record."""
    a, m, caller = activation, len(activation.credits[0]), activation.caller.encode()
    sizes = len(a.arms), len(a.x), len(caller)
    head = ACTIVATION.pack(FORMAT, a.flags, m, 0, *sizes, a.generation, schema, *a.decision, a.nonce)
    arms = (struct.pack(f"<I{m}i", arm, *credit) for arm, credit in zip(a.arms, a.credits, strict=True))
    return head + a.x + caller + b"".join(arms)


def unpack_activation(record: bytes) -> Activation:
    """An activation record, read whole."""
    _, flags, m, _, k, x_bytes, caller_bytes, generation, _, ms, seq, nonce = unpack_head(ACTIVATION, record)
    x_end = ACTIVATION.size + x_bytes
    end = x_end + caller_bytes
    if len(record) != end + k * (4 + 4 * m):
        raise _misfit(record)
    rows = list(struct.iter_unpack(f"<I{m}i", record[end:]))
    arms, credits_ = tuple(row[0] for row in rows), tuple(row[1:] for row in rows)
    x, caller = record[ACTIVATION.size : x_end], record[x_end:end].decode()
    return Activation(flags, generation, Position(ms, seq), nonce, caller, arms, credits_, x)


def unpack_head(layout: struct.Struct, record: bytes) -> tuple[Any, ...]:
    """The fixed part of a record, checked for its format."""
    if len(record) < layout.size or record[0] != FORMAT:
        raise CorruptLog(f"a log record of format {record[:1].hex() or 'nothing'}; this version reads {FORMAT}")
    return layout.unpack_from(record)


def _misfit(record: bytes) -> CorruptLog:
    return CorruptLog(f"a log record of {len(record)} bytes does not have the length that its head says")


def read_config(record: bytes) -> Config:
    """The config that an `x` entry records."""
    try:
        return msgspec.json.decode(record, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLog(f"the log holds a config that this version cannot read: {error}") from None
