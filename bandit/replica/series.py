"""What was counted, a minute and an hour at a time: a fold of the log into buckets, by each entry's own time.

    m   minute buckets, 1,440 of them kept      h   hour buckets, 2,160 of them kept

A decision counts in the bucket of its own time, feedback in that of the time when it came, and what it credits also in
the bucket of its decision, where the reward of a slice belongs. Buckets are whole numbers, so however the log is split,
the fold of all its parts is the same. Arms are counted by Misra and Gries (1982): exactly up to `ARMS` of them in a
bucket; where more were shown, an arm's count is too small by at most impressions / (ARMS + 1), and what is missing is
counted among the others.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from bandit.core.experiment import Experiment
from bandit.errors import CorruptLog
from bandit.log.probabilities import level_ends
from bandit.log.records import (
    ACTIVATION,
    DECISION,
    DEFERRED,
    FEEDBACK,
    SHOWN,
    SLICED,
    USER,
    Entry,
    Position,
    unpack_head,
)

Resolution = Literal["minute", "hour"]
MS: dict[Resolution, int] = {"minute": 60_000, "hour": 3_600_000}
MINUTE = MS["minute"]
KEPT: dict[Resolution, int] = {"minute": 1440, "hour": 2160}  # buckets: a day, and 90 days
ARMS = 32  # of a bucket that are told apart
FORMAT = b"\x01"  # of a row
_INT = struct.Struct("<i")


class Credited(msgspec.Struct, array_like=True):
    """Feedback of one kind: how many entries, and what they changed, in the kind's units."""

    count: int = 0
    credits: int = 0


class Part(msgspec.Struct, array_like=True):
    """A slice's decisions, and what has been credited to them since."""

    decisions: int = 0
    earned: dict[str, Credited] = {}


class Bucket(msgspec.Struct, array_like=True):
    """What was counted of one generation in one minute or hour."""

    generation: int
    decisions: int = 0
    impressions: int = 0
    deferred: int = 0
    activated: int = 0
    explored: int = 0  # decisions that showed first what was not likeliest
    even: int = 0  # decisions in which nothing was likelier than another
    decided_ms: int = 0  # when the last decision was made
    rewarded_ms: int = 0  # when the last feedback came
    arms: dict[str, int] = {}
    came: dict[str, Credited] = {}  # by the time of the feedback
    earned: dict[str, Credited] = {}  # by the time of the decision
    slices: dict[str, Part] = {}
    steps: dict[str, float] = {}  # the reward of one unit of each kind
    began_ms: int = 0  # when the first decision was made; 0: there is none, or the row is of before this was kept


@dataclass
class Added:
    """What is to be added to the buckets of a minute: counts, and the arms shown, in the log's order."""

    bucket: Bucket
    shown: list[str] = field(default_factory=list)


Sums = dict[tuple[int, int], Added]  # by minute and generation


class Names(NamedTuple):
    """What indices in records are called, in one generation; others' entries are counted without names."""

    generation: int
    arms: Sequence[str]
    kinds: Sequence[str]
    steps: Sequence[float]
    slices: Sequence[str]

    @classmethod
    def of(cls, experiment: Experiment) -> Names:
        """Those of an experiment's generation."""
        config, steps = experiment.config, [kind.step for kind in experiment.kinds]
        return cls(config.generation, config.index, config.kinds, steps, config.slices)


def strangers(entries: Sequence[Entry]) -> set[Position]:
    """The decisions that feedback among these entries is on, where they are not among them themselves."""
    known = {entry.position for entry in entries if entry.tag == b"d"}
    return {_decision_of(entry) for entry in entries if entry.tag == b"f"} - known


def fold(sums: Sums, entries: Iterable[Entry], names: Names, others: Mapping[Position, Entry]) -> None:
    """Add entries that follow each other in the log.

    Args:
        sums: what they are added to.
        entries: in order.
        names: of the generation in force.
        others: the `strangers` that the log still has; needed only where traffic is sliced.

    Raises:
        CorruptLog: an entry has another format.
        struct.error: an entry is cut short.
    """
    slices = {position: _slice_of(entry.record) for position, entry in others.items() if entry.tag == b"d"}
    decided, credited = dict[_Where, _Decided](), dict[_Credit, list[int]]()
    for entry in entries:
        if entry.tag == b"f":
            _feedback(credited, entry, slices)
        elif entry.tag == b"d":
            _decision(decided, entry, names, slices)
        elif entry.tag == b"a":
            generation = unpack_head(ACTIVATION, entry.record)[7]
            _at(sums, entry.position.ms // MINUTE, generation).bucket.activated += 1
        elif entry.tag != b"x":
            raise CorruptLog("it is of no kind that this version knows")
    for where, found in decided.items():
        _add_decided(_at(sums, *where), found, names)
    for about, (count, change, last_ms) in credited.items():
        _add_credited(sums, about, Credited(count, change), last_ms, names)


def _at(sums: Sums, minute: int, generation: int) -> Added:
    key = minute, generation
    if (found := sums.get(key)) is None:
        found = sums[key] = Added(Bucket(generation))
    return found


# A run of entries is counted by these first: one look in a dictionary an entry.

_Where = tuple[int, int]  # minute, generation
_Credit = tuple[int, int, int, int, int]  # minute of the feedback, of its decision, generation, kind, slice


@dataclass(slots=True)
class _Decided:
    began_ms: int
    decided_ms: int
    decisions: int = 0
    deferred: int = 0
    explored: int = 0
    even: int = 0
    shown: list[int] = field(default_factory=list)
    slices: dict[int, int] = field(default_factory=dict)  # decisions of each


def _decision(decided: dict[_Where, _Decided], entry: Entry, names: Names, slices: dict[Position, int]) -> None:
    record, ms = entry.record, entry.position.ms
    _, flags, _, part, k, x_bytes, caller_bytes, generation = unpack_head(DECISION, record)[:8]
    at = DECISION.size + x_bytes + caller_bytes + (16 if flags & USER else 0)
    arm, propensity, _ = SHOWN.unpack_from(record, at)
    low, high = level_ends(record, at + SHOWN.size * k, part if flags & SLICED else -1)
    where = ms // MINUTE, generation
    if (found := decided.get(where)) is None:
        found = decided[where] = _Decided(ms, ms)
    found.decisions += 1
    found.began_ms, found.decided_ms = min(found.began_ms, ms), max(found.decided_ms, ms)
    found.deferred += flags & DEFERRED
    found.explored += propensity < high
    found.even += low == high < 1.0
    found.shown.append(arm)
    if flags & SLICED and generation == names.generation and part < len(names.slices):
        slices[entry.position] = part
        found.slices[part] = found.slices.get(part, 0) + 1
    if k > 1:
        found.shown += [row[0] for row in SHOWN.iter_unpack(record[at + SHOWN.size : at + SHOWN.size * k])]


def _add_decided(added: Added, found: _Decided, names: Names) -> None:
    bucket = added.bucket
    arms = names.arms if bucket.generation == names.generation else ()
    bucket.decisions += found.decisions
    bucket.impressions += len(found.shown)
    bucket.deferred += found.deferred
    bucket.explored += found.explored
    bucket.even += found.even
    bucket.decided_ms = max(bucket.decided_ms, found.decided_ms)
    bucket.began_ms = min(bucket.began_ms or found.began_ms, found.began_ms)
    added.shown += [arms[arm] if arm < len(arms) else "" for arm in found.shown]
    for part, count in found.slices.items():
        bucket.slices.setdefault(names.slices[part], Part()).decisions += count


def _feedback(credited: dict[_Credit, list[int]], entry: Entry, slices: Mapping[Position, int]) -> None:
    record, ms = entry.record, entry.position.ms
    _, _, m, kind, x, caller, event, generation, _, then_ms, then_seq, *_ = unpack_head(FEEDBACK, record)
    at = FEEDBACK.size + x + caller + event + 4 * kind
    change = _INT.unpack_from(record, at + 4 * m)[0] - _INT.unpack_from(record, at)[0]
    part = slices.get(Position(then_ms, then_seq), -1) if slices else -1
    about = ms // MINUTE, then_ms // MINUTE, generation, kind, part
    if (found := credited.get(about)) is None:
        found = credited[about] = [0, 0, 0]
    found[0] += 1
    found[1] += change
    found[2] = max(found[2], ms)


def _add_credited(sums: Sums, about: _Credit, credited: Credited, last_ms: int, names: Names) -> None:
    """Count feedback twice: when it came, and for the decision that it is on."""
    minute, then_minute, generation, kind, part = about
    known = generation == names.generation and kind < len(names.kinds)
    name = names.kinds[kind] if known else ""
    bucket, then = _at(sums, minute, generation).bucket, _at(sums, then_minute, generation).bucket
    bucket.rewarded_ms = max(bucket.rewarded_ms, last_ms)
    add_credits(bucket.came, {name: credited})
    add_credits(then.earned, {name: credited})
    if known:
        bucket.steps[name] = then.steps[name] = names.steps[kind]
        if 0 <= part < len(names.slices):
            add_credits(then.slices.setdefault(names.slices[part], Part()).earned, {name: credited})


def _decision_of(entry: Entry) -> Position:
    head = unpack_head(FEEDBACK, entry.record)
    return Position(head[9], head[10])


def _slice_of(record: bytes) -> int:
    head = unpack_head(DECISION, record)
    return int(head[3]) if head[1] & SLICED else -1


# rows: the buckets of one minute or hour, one a generation


def place(resolution: Resolution, ms: int) -> int:
    """The number of the bucket of a time."""
    return ms // MS[resolution]


def name_of(resolution: Resolution, number: int) -> str:
    """The field that a row has."""
    return f"{resolution[0]}{number}"


def first_kept(resolution: Resolution, newest_ms: int) -> int:
    """The oldest bucket that is kept once the log has come so far."""
    return place(resolution, newest_ms) - KEPT[resolution] + 1


def gone(before_ms: int, newest_ms: int) -> list[str]:
    """The rows that are not kept any more, of all that may have been there before."""
    names = []
    for resolution in MS:
        oldest = first_kept(resolution, before_ms)
        end = min(first_kept(resolution, newest_ms), oldest + KEPT[resolution])
        names += [name_of(resolution, number) for number in range(max(0, oldest), end)]
    return names


def touched(sums: Sums, newest_ms: int) -> Iterator[tuple[str, Added]]:
    """(row, what is added to it) of every bucket that is kept, in the order of their times."""
    for resolution, ms in MS.items():
        oldest = first_kept(resolution, newest_ms)
        for minute, generation in sorted(sums):
            if (number := minute * MINUTE // ms) >= oldest:
                yield name_of(resolution, number), sums[minute, generation]


def unpacked(row: bytes) -> list[Bucket]:
    """The buckets of a row.

    Raises:
        CorruptLog: it has another format.
    """
    if row[:1] != FORMAT:
        raise CorruptLog(f"a row of the series of format {row[:1].hex()}; this version reads {FORMAT.hex()}")
    try:
        return _DECODER.decode(row[1:])
    except msgspec.DecodeError as error:
        raise CorruptLog(f"a row of the series cannot be read: {error}") from None


def packed(buckets: Sequence[Bucket]) -> bytes:
    """A row of these buckets."""
    return FORMAT + _ENCODER.encode(buckets)


_DECODER, _ENCODER = msgspec.msgpack.Decoder(list[Bucket]), msgspec.msgpack.Encoder()


def put(buckets: list[Bucket], added: Added) -> None:
    """Add to the bucket of its generation."""
    more = added.bucket
    bucket = next((each for each in buckets if each.generation == more.generation), None)
    if bucket is None:
        buckets.append(bucket := Bucket(more.generation))
    for name in ("decisions", "impressions", "deferred", "activated", "explored", "even"):
        setattr(bucket, name, getattr(bucket, name) + getattr(more, name))
    bucket.decided_ms = max(bucket.decided_ms, more.decided_ms)
    bucket.rewarded_ms = max(bucket.rewarded_ms, more.rewarded_ms)
    bucket.began_ms = min(bucket.began_ms or more.began_ms, more.began_ms or bucket.began_ms)
    add_credits(bucket.came, more.came)
    add_credits(bucket.earned, more.earned)
    for name, part in more.slices.items():
        own = bucket.slices.setdefault(name, Part())
        own.decisions += part.decisions
        add_credits(own.earned, part.earned)
    bucket.steps |= more.steps
    _show(bucket.arms, added.shown)


def add_credits(to: dict[str, Credited], more: Mapping[str, Credited]) -> None:
    """Add what was credited, kind by kind."""
    for kind, each in more.items():
        own = to.setdefault(kind, Credited())
        own.count += each.count
        own.credits += each.credits


def _show(counts: dict[str, int], shown: Sequence[str]) -> None:
    """Count the arms shown, in order: where they are too many, one that is new takes one from each."""
    each = Counter(shown)
    del each[""]
    if len(counts.keys() | each.keys()) <= ARMS:
        for arm, count in each.items():
            counts[arm] = counts.get(arm, 0) + count
        return
    for arm in shown:
        if arm in counts or (arm and len(counts) < ARMS):
            counts[arm] = counts.get(arm, 0) + 1
        elif arm:
            for known in list(counts):
                counts[known] -= 1
                if not counts[known]:
                    del counts[known]
