"""The log's records: how an entry is packed, read and named. `events` turns entries into what the sums add up.

An entry of the log is one field and its value; the field's name says what it is:

    d  decision    f  feedback    a  activation    x  the experiment's config (JSON)

All numbers are little-endian. `lua/append.lua` reads and writes the same layouts; `test_store.py` holds the two
together. A decision's deadline is its entry's time plus `window_ms`. A refund is feedback with a value below 0; the
event that it is of is written behind its own, after a zero byte.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bandit.arrays import Int, Vector
from bandit.core.draw import UNKNOWN
from bandit.core.experiment import Config
from bandit.errors import CorruptLog
from bandit.log.probabilities import SlicePart, unpack_probabilities, unpack_slices

FORMAT = 1
DEFERRED, SPARSE, USER, SLICED = 1, 2, 8, 16  # flags of a decision; SPARSE, of its x, is every record's
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

    def before(self) -> Position:
        """The one just before."""
        return Position(self.ms, self.seq - 1) if self.seq else Position(self.ms - 1, 2**64 - 1)

    @classmethod
    def parse(cls, text: bytes) -> Position:
        """From the store's writing."""
        ms, _, seq = text.partition(b"-")
        return cls(int(ms), int(seq))


START = Position(0, 0)


def known(marginal: float) -> float | None:
    """A marginal probability of a record; None where it is not known."""
    return None if marginal == UNKNOWN else marginal


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
    """A decision record, read whole; `probabilities` are those of the slice that decided, which it was drawn from."""

    head: Head
    x: bytes
    caller: str
    user: bytes
    arms: tuple[int, ...]
    propensities: tuple[float, ...]
    marginals: tuple[float, ...]  # `UNKNOWN` where nobody knows
    eligible: Int
    probabilities: Vector
    slices: tuple[SlicePart, ...] = ()  # none where traffic is not sliced

    @property
    def mixture(self) -> Vector:
        """The probability of each eligible arm over all slices."""
        if not self.slices:
            return self.probabilities
        shares, each = [part.share for part in self.slices], [part.probabilities for part in self.slices]
        mixture: Vector = np.array(shares) @ np.stack(each)
        return mixture


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
    refund_of: str = ""


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
    return _spelled(_ID.pack(FORMAT, shard, ms >> 32, ms & 0xFFFFFFFF, seq, nonce))


_ID = struct.Struct(">BHHII8s")  # format, shard, 48 bits of milliseconds, number within them, nonce
_URL_SAFE, _BASE64 = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


def read_decision_id(text: str) -> tuple[int, Position, bytes] | None:
    """(shard, position, nonce) of a server's id; None where it is not one, to the letter."""
    try:
        data = binascii.a2b_base64(text.encode("ascii").translate(_BASE64)[1:])
    except (binascii.Error, UnicodeEncodeError):
        return None
    if len(data) != _ID.size or data[0] != FORMAT or _spelled(data) != text:
        return None
    _, shard, high, low, seq, nonce = _ID.unpack(data)
    return shard, Position(high << 32 | low, seq), nonce


def _spelled(data: bytes) -> str:
    return "~" + binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).decode()


def pack_decision(
    head: Sequence[Any], x: bytes, caller: bytes, user: bytes, shown: Iterable[tuple[int, float, float]], tail: bytes
) -> bytes:
    """A decision record; `head`: the fields of `Head`; `shown`: (arm, propensity, marginal) of each position; `tail`:
    `pack_probabilities`, or `pack_slices` where `SLICED`.
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
    slices: tuple[SlicePart, ...] = ()
    try:
        if head.flags & SLICED:
            eligible, slices, end = unpack_slices(record, shown_end)
            probabilities = next(part.probabilities for part in slices if part.slice == head.slice)
        else:
            eligible, probabilities, end = unpack_probabilities(record, shown_end)
    except (IndexError, StopIteration, ValueError, struct.error):
        raise _misfit(record) from None
    if len(record) != end:
        raise _misfit(record)
    arms, propensities, marginals = zip(*SHOWN.iter_unpack(record[user_end:shown_end]), strict=True)
    x, caller = record[DECISION.size : x_end], record[x_end:caller_end].decode()
    user = record[caller_end:user_end]
    return Decision(head, x, caller, user, arms, propensities, marginals, eligible, probabilities, slices)


def pack_feedback(feedback: Feedback, schema: int) -> bytes:
    """A feedback record."""
    f, m = feedback, len(feedback.new)
    caller, event = f.caller.encode(), (f"{f.event}\0{f.refund_of}" if f.refund_of else f.event).encode()
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
    caller, (event, _, of) = record[x_end:caller_end].decode(), record[caller_end:end].decode().partition("\0")
    at, x = Position(ms, seq), record[FEEDBACK.size : x_end]
    return Feedback(flags, generation, kind, at, nonce, caller, arm, value, event, credits_[:m], credits_[m:], x, of)


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


def decision_of(entry: Entry) -> Position:
    """The decision that feedback or an activation is about."""
    head = unpack_head(FEEDBACK if entry.tag == b"f" else ACTIVATION, entry.record)
    return Position(head[9], head[10])


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
