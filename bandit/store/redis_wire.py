"""What goes to the store's scripts and comes back from them, as bytes and as our own types."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from bandit.core.experiment import Config
from bandit.log.records import Entry, Position
from bandit.store.keys import Keys
from bandit.store.protocol import (
    CLOCK_AHEAD_MS,
    Ahead,
    Batch,
    Decide,
    Gap,
    Item,
    Logged,
    Outcome,
    Reply,
    Result,
    Reward,
    Row,
    Rules,
    Stale,
    Stored,
)

POSITION = struct.Struct(">QQ")
# explicit, how many kinds, grace, how far a clock may be ahead, refunds; attribution's word follows
RULES = struct.Struct("<BHqqq")
KIND = struct.Struct("<qqBq")  # after aggregation's word: low, high, clip, default
FEEDBACK = struct.Struct("<HqBi")  # kind, credit, whether the event's id is the caller's own, arm; the nonce follows
OUTCOME = struct.Struct("<BiB")  # a status's letter, credited, clipped; the decision follows
STATUSES = {
    ord(letter): status
    for letter, status in {
        "A": "accepted", "V": "activated", "D": "duplicate", "L": "late", "U": "unknown", "R": "range",
        "E": "events", "M": "arm", "S": "shown", "C": "record", "N": "event", "X": "left", "O": "amount",
    }.items()
}  # fmt: skip
REPEATED, STUCK = b"=~"
STICKY = ord("S")
PLAIN, NAMED, BY_ENTRY, BY_CALLER, BY_USER, SHOWN_ENTRY, SHOWN_CALLER = b"dDfcuaA"  # tags of items
REFUND = ord("F") - ord("f")  # from the tag of feedback to that of a refund
_new = tuple.__new__  # a named tuple's own constructor is a function of Python: three times the cost, for each item
TAGS = 6  # where the items' tags are among the arguments


def stored(config: Config, fields: dict[bytes, bytes]) -> Stored:
    """An experiment of the fields of its config's hash."""
    learned = fields.get(b"learned") == fields[b"generation"]
    return Stored(config, learned, Position.parse(fields[b"identity"]), Position.parse(fields[b"updated"]))


def entries(found: list[Any]) -> list[Entry]:
    """Entries of a stream as XRANGE gives them, unread by redis-py: a dictionary each would cost more than the rest."""
    split = [(at.partition(b"-"), fields) for at, fields in found]
    return [_new(Entry, (_new(Position, (int(ms), int(seq))), tag, data)) for (ms, _, seq), (tag, data) in split]


@lru_cache(maxsize=1024)
def _rules(rules: Rules) -> tuple[bytes, bytes, bytes]:
    """(schema, generation, the rest packed) as every append of an experiment sends them."""
    head = RULES.pack(rules.explicit, len(rules.kinds), rules.grace_ms, CLOCK_AHEAD_MS, rules.refunds_ms)
    kinds = b"".join(_word(word) + KIND.pack(*limits) for word, *limits in rules.kinds)
    return b"%d" % rules.schema, b"%d" % rules.generation, head + _word(rules.attribution) + kinds


def _word(word: str) -> bytes:
    """A word as the script reads it, up to a zero."""
    return word.encode() + b"\0"


def append_call(name: str, batch: Batch) -> tuple[list[str], list[Any]]:
    """(keys, arguments) of `lua/append.lua`."""
    keys, tags = Keys.of(name), bytearray()
    args = [keys.prefix, batch.sequence, *_rules(batch.rules), b""]
    args.insert(4, batch.clock_ms)
    for item in batch.items:
        tags.append(_add(item, args))
    args[TAGS] = bytes(tags)
    return [keys.log, keys.config, keys.producer(batch.producer)], args


def _add(item: Item, args: list[Any]) -> int:
    """Append an item's arguments, and return its tag: what is not said is not sent."""
    kind = type(item)
    if kind is Decide:
        if item.sticky_ms:  # type: ignore[union-attr] # it is a Decide
            args += item
            return STICKY
        if item.caller or item.user:  # type: ignore[union-attr] # it is a Decide
            args += item[:-1]
            return NAMED
        args.append(item[0])
        return PLAIN
    if kind is Reward:
        (entry, nonce, caller, user), index, credit, event, own, arm, of = item  # type: ignore[misc] # it is a Reward
        packed = FEEDBACK.pack(index, credit, own, arm) + nonce
        args += (user or entry or caller, packed, event)
        tag = BY_USER if user else BY_ENTRY if entry else BY_CALLER
        if not of:
            return tag
        args.append(of)
        return tag + REFUND
    entry, nonce, caller, _ = item[0]
    args += (entry, nonce) if entry else (caller,)
    return SHOWN_ENTRY if entry else SHOWN_CALLER


def ahead(found: list[Any]) -> Ahead:
    """What a script says of clocks that differ."""
    return Ahead(int(found[1]), int(found[2]))


def reply(found: list[Any]) -> Reply:
    """The answer of `lua/append.lua`."""
    if found[0] == b"stale":
        return Stale()
    if found[0] == b"ahead":
        return ahead(found)
    if found[0] == b"gap":
        return Gap(int(found[1]))
    return [_outcome(item) if item[0] in STATUSES else _result(item) for item in found[1:]]


def _result(item: Any) -> Result:
    if isinstance(item, list):
        return [_outcome(each) for each in item]
    if item[0] in (REPEATED, STUCK):
        entry, _, record = item[1:].partition(b" ")
        return Logged(Position.parse(entry), record, item[0] == STUCK)
    ms, _, seq = item.partition(b"-")
    return _new(Logged, (_new(Position, (int(ms), int(seq))), b"", False))


def _outcome(item: bytes) -> Outcome:
    letter, credited, clipped = OUTCOME.unpack_from(item)
    if len(item) == OUTCOME.size:
        return Outcome(STATUSES[letter])
    entry, _, rest = item[OUTCOME.size :].partition(b" ")
    ms, _, seq = entry.partition(b"-")
    end, position = 1 + rest[0], _new(Position, (int(ms), int(seq)))
    return _new(Outcome, (STATUSES[letter], credited, clipped == 1, position, rest[1:end], rest[end:]))


def row(arm: int, value: bytes) -> Row:
    """A checkpoint of its field: a position, then sums."""
    return Row(arm, Position(*POSITION.unpack_from(value)), value[POSITION.size :])
