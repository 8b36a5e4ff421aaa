"""What goes to the store's scripts and comes back from them, as bytes and as our own types."""

from __future__ import annotations

import struct
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
    Stale,
    Stored,
)

POSITION = struct.Struct(">QQ")


def stored(config: Config, fields: dict[bytes, bytes]) -> Stored:
    """An experiment of the fields of its config's hash."""
    learned = fields.get(b"learned") == fields[b"generation"]
    return Stored(config, learned, Position.parse(fields[b"identity"]), Position.parse(fields[b"updated"]))


def entries(found: list[Any]) -> list[Entry]:
    """Entries of a stream as XRANGE gives them."""
    return [Entry(Position.parse(at), *next(iter(fields.items()))) for at, fields in found]


def append_call(name: str, batch: Batch) -> tuple[list[str], list[Any]]:
    """(keys, arguments) of `lua/append.lua`."""
    keys, rules = Keys.of(name), batch.rules
    args: list[Any] = [keys.prefix, batch.sequence, rules.schema, rules.generation, int(rules.explicit)]
    args += [rules.attribution, rules.grace_ms, len(rules.kinds), batch.clock_ms, CLOCK_AHEAD_MS]
    for kind in rules.kinds:
        args += [kind.aggregation, kind.low, kind.high, int(kind.clip), kind.default]
    for item in batch.items:
        args += _item_args(item)
    return [keys.log, keys.config, keys.producer(batch.producer)], args


def _item_args(item: Item) -> list[Any]:
    if isinstance(item, Decide):
        return ["d", *item]
    if isinstance(item, Activate):
        return ["a", *item.ref]
    return ["f", *item.ref, item.kind, item.credit, item.event, int(item.own_id), item.arm]


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


def _result(item: list[Any]) -> Result:
    if item[0] == b"d":
        return Logged(Position.parse(item[1]), item[2])
    if item[0] == b"all":
        return [_outcome(each) for each in item[1:]]
    return _outcome(item)


def _outcome(item: list[Any]) -> Outcome:
    _, status, credited, clipped, entry, nonce, caller = item
    return Outcome(status.decode(), int(credited), bool(clipped), Position.parse(entry), nonce, caller)


def row(arm: int, value: bytes) -> Row:
    """A checkpoint of its field: a position, then sums."""
    return Row(arm, Position(*POSITION.unpack_from(value)), value[POSITION.size :])
