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
    Activate,
    Ahead,
    Batch,
    Decide,
    Gap,
    Item,
    Logged,
    Outcome,
    Reply,
    Result,
    Row,
    Rules,
    Stale,
    Stored,
)

POSITION = struct.Struct(">QQ")
RULES = struct.Struct("<BBHqq")  # explicit, attribution, how many kinds, grace, how far a clock may be ahead
KIND = struct.Struct("<BqqBq")  # aggregation, low, high, clip, default
FEEDBACK = struct.Struct("<HqBi")  # kind, credit, whether the event's id is the caller's own, arm; the nonce follows
OUTCOME = struct.Struct("<BiB")  # a status's letter, credited, clipped; the decision follows
STATUSES = {
    ord(letter): status
    for letter, status in {
        "A": "accepted", "V": "activated", "D": "duplicate", "L": "late", "U": "unknown", "R": "range",
        "E": "events", "M": "arm", "S": "shown", "C": "record",
    }.items()
}  # fmt: skip
REPEATED = ord("=")
TAGS = 6  # where the items' tags are among the arguments


def stored(config: Config, fields: dict[bytes, bytes]) -> Stored:
    """An experiment of the fields of its config's hash."""
    learned = fields.get(b"learned") == fields[b"generation"]
    return Stored(config, learned, Position.parse(fields[b"identity"]), Position.parse(fields[b"updated"]))


def entries(found: list[Any]) -> list[Entry]:
    """Entries of a stream as XRANGE gives them."""
    return [Entry(Position.parse(at), *next(iter(fields.items()))) for at, fields in found]


@lru_cache(maxsize=1024)
def _rules(rules: Rules) -> tuple[bytes, bytes, bytes]:
    """(schema, generation, the rest packed) as every append of an experiment sends them."""
    head = RULES.pack(rules.explicit, rules.attribution, len(rules.kinds), rules.grace_ms, CLOCK_AHEAD_MS)
    kinds = b"".join(KIND.pack(*kind) for kind in rules.kinds)
    return b"%d" % rules.schema, b"%d" % rules.generation, head + kinds


def append_call(name: str, batch: Batch) -> tuple[list[str], list[Any]]:
    """(keys, arguments) of `lua/append.lua`."""
    keys, tags = Keys.of(name), bytearray()
    args = [keys.prefix, batch.sequence, *_rules(batch.rules), b""]
    args.insert(4, batch.clock_ms)
    for item in batch.items:
        tag, parts = _item(item)
        tags += tag
        args += parts
    args[TAGS] = bytes(tags)
    return [keys.log, keys.config, keys.producer(batch.producer)], args


def _item(item: Item) -> tuple[bytes, tuple[Any, ...]]:
    """(tag, arguments) of an item: what is not said is not sent."""
    if isinstance(item, Decide):
        return (b"D", item) if item.caller or item.user else (b"d", item[:1])
    entry, nonce, caller, user = item.ref
    if isinstance(item, Activate):
        return (b"a", (entry, nonce)) if entry else (b"A", (caller,))
    tag, named = (b"u", user) if user else (b"f", entry) if entry else (b"c", caller)
    return tag, (named, FEEDBACK.pack(item.kind, item.credit, item.own_id, item.arm) + nonce, item.event)


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
    return [_result(item) for item in found[1:]]


def _result(item: Any) -> Result:
    if isinstance(item, list):
        return [_outcome(each) for each in item]
    if (first := item[0]) in STATUSES:
        return _outcome(item)
    if first == REPEATED:
        entry, _, record = item[1:].partition(b" ")
        return Logged(Position.parse(entry), record)
    return Logged(Position.parse(item))


def _outcome(item: bytes) -> Outcome:
    letter, credited, clipped = OUTCOME.unpack_from(item)
    if len(item) == OUTCOME.size:
        return Outcome(STATUSES[letter])
    entry, _, rest = item[OUTCOME.size :].partition(b" ")
    end = 1 + rest[0]
    return Outcome(STATUSES[letter], credited, clipped == 1, Position.parse(entry), rest[1:end], rest[end:])


def row(arm: int, value: bytes) -> Row:
    """A checkpoint of its field: a position, then sums."""
    return Row(arm, Position(*POSITION.unpack_from(value)), value[POSITION.size :])
