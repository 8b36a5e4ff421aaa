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
KEPT: dict[Resolution, int] = {"minute": 1440, "hour": 2160}  # buckets: a day, and 90 days
ARMS = 32  # of a bucket that are told apart
FORMAT = b"\x01"  # of a row


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
    for entry in entries:
        if entry.tag == b"d":
            slices[entry.position] = _decision(sums, entry, names)
        elif entry.tag == b"f":
            _feedback(sums, entry, names, slices)
        elif entry.tag == b"a":
            generation = unpack_head(ACTIVATION, entry.record)[7]
            _at(sums, entry.position.ms, generation).bucket.activated += 1
        elif entry.tag != b"x":
            raise CorruptLog("it is of no kind that this version knows")


def _at(sums: Sums, ms: int, generation: int) -> Added:
    key = ms // MS["minute"], generation
    if (found := sums.get(key)) is None:
        found = sums[key] = Added(Bucket(generation))
    return found


def _decision(sums: Sums, entry: Entry, names: Names) -> int:
    """Count a decision; returns its slice, -1 where there is none."""
    record = entry.record
    _, flags, _, part, k, x_bytes, caller_bytes, generation = unpack_head(DECISION, record)[:8]
    added, at = _at(sums, entry.position.ms, generation), DECISION.size + x_bytes + caller_bytes
    bucket, at = added.bucket, at + (16 if flags & USER else 0)
    shown = list(SHOWN.iter_unpack(record[at : at + SHOWN.size * k]))
    low, high = level_ends(record, at + SHOWN.size * k, part if flags & SLICED else -1)
    bucket.decisions += 1
    bucket.impressions += k
    bucket.decided_ms = max(bucket.decided_ms, entry.position.ms)
    bucket.began_ms = min(bucket.began_ms or entry.position.ms, entry.position.ms)
    bucket.deferred += flags & DEFERRED
    bucket.explored += shown[0][1] < high
    bucket.even += low == high < 1.0
    if generation != names.generation:
        added.shown += [""] * k
        return -1
    added.shown += [names.arms[arm] if arm < len(names.arms) else "" for arm, _, _ in shown]
    if not flags & SLICED or part >= len(names.slices):
        return -1
    bucket.slices.setdefault(names.slices[part], Part()).decisions += 1
    return int(part)


def _feedback(sums: Sums, entry: Entry, names: Names, slices: Mapping[Position, int]) -> None:
    """Count feedback twice: when it came, and for the decision that it is on."""
    record = entry.record
    head = unpack_head(FEEDBACK, record)
    m, kind, generation, decision = head[2], head[3], head[7], Position(head[9], head[10])
    bucket = _at(sums, entry.position.ms, generation).bucket
    bucket.rewarded_ms = max(bucket.rewarded_ms, entry.position.ms)
    old_at = FEEDBACK.size + sum(head[4:7]) + 4 * kind
    (old,), (new,) = struct.unpack_from("<i", record, old_at), struct.unpack_from("<i", record, old_at + 4 * m)
    known = generation == names.generation and kind < len(names.kinds)
    name = names.kinds[kind] if known else ""
    _credit(bucket.came, name, new - old)
    then = _at(sums, decision.ms, generation).bucket
    _credit(then.earned, name, new - old)
    if known:
        bucket.steps[name] = then.steps[name] = names.steps[kind]
        part = slices.get(decision, -1)
        if 0 <= part < len(names.slices):
            _credit(then.slices.setdefault(names.slices[part], Part()).earned, name, new - old)


def _credit(to: dict[str, Credited], kind: str, credits_: int) -> None:
    found = to.setdefault(kind, Credited())
    found.count += 1
    found.credits += credits_


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
            if (number := minute * MS["minute"] // ms) >= oldest:
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
    if len(counts.keys() | {*shown} - {""}) <= ARMS:
        for arm in shown:
            if arm:
                counts[arm] = counts.get(arm, 0) + 1
        return
    for arm in shown:
        if arm in counts or (arm and len(counts) < ARMS):
            counts[arm] = counts.get(arm, 0) + 1
        elif arm:
            for known in list(counts):
                counts[known] -= 1
                if not counts[known]:
                    del counts[known]
