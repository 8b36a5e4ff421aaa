"""What a backup, a restore and an archive need of a Redis or Valkey beyond what serving does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from bandit.errors import CorruptLog
from bandit.log.records import Entry, Position
from bandit.store.keys import EVERY, EXPERIMENTS, META, Keys
from bandit.store.protocol import Archived, Table
from bandit.store.redis_connection import Connected
from bandit.store.redis_wire import POSITION

SCAN = 500  # keys looked at in one step
CHANGES, CHANGES_BYTES = 200, 1 << 18  # entries whose keys are read in one step, and bytes of them, about
READS = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "list": ("LRANGE", 0, -1),
    "set": ("SMEMBERS",),
    "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    "stream": ("XRANGE", "-", "+"),
}  # by the type of a key
WRITES = {"string": "SET", "hash": "HSET", "list": "RPUSH", "set": "SADD"}


class Key(NamedTuple):
    """A key with its value, as it is kept in a file: of a stream a list of ids and fields in turn."""

    key: bytes
    type: str
    expires_ms: int  # -1: never
    value: Any  # bytes, or a list of bytes


class Changes(NamedTuple):
    """What the entries after one have written to, up to a position."""

    upto: Position
    is_end: bool  # of the log: everything read before, and not here, is as it stood there
    config: dict[bytes, bytes]  # the fields of the experiment's config there
    keys: list[Key]


class Copied(Connected):
    """Whole keys, read and written as they are; and the archive's cursor."""

    def archived(self, name: str) -> Archived | None:
        """See `Store`."""
        with self._asking():
            archive, cursor, seen = self._sync.hmget(Keys.of(name).archive, "id", "cursor", "seen")
        return Archived(archive, Position(*POSITION.unpack(cursor)), int(seen)) if cursor else None

    def move_archive(self, name: str, archive: bytes, before: Position | None, upto: Position) -> bool:
        """See `Store`."""
        args = [archive, POSITION.pack(*before) if before is not None else b"", POSITION.pack(*upto)]
        return bool(self._run("archive", [Keys.of(name).archive], args))

    def forget_archive(self, name: str) -> bool:
        """See `Store`."""
        with self._asking():
            return bool(self._sync.delete(Keys.of(name).archive))

    def hold(self, name: str, seconds: float) -> None:
        """Trim nothing of a log for so many seconds from now; 0: do so again."""
        self._run("hold", [Keys.of(name).hold], [round(seconds * 1000)])

    def changes(self, name: str, after: Position) -> Changes:
        """The keys that the first entries after a position have written to, in one step of at most `CHANGES` entries.

        Raises:
            CorruptLog: a record is of a later format.
        """
        keys = Keys.of(name)
        args = [keys.prefix, after.text(), CHANGES, CHANGES_BYTES]
        upto, is_end, fields, found = self._run("changes", [keys.log, keys.config], args)
        config = dict(zip(fields[::2], fields[1::2], strict=True))
        return Changes(Position.parse(upto), is_end == 1, config, [_key(*each) for each in found])

    def every_key(self) -> Iterator[list[bytes]]:
        """The names of all our keys, some at a time; one may come twice."""
        cursor = 0
        while True:
            with self._asking():
                cursor, names = self._sync.scan(cursor, match=EVERY, count=SCAN)
            yield names
            if cursor == 0:
                return

    def keys(self, names: Sequence[bytes]) -> list[Key]:
        """These keys as they are now, each at a moment of its own; those that have gone are left out."""
        with self._asking():
            pipe = self._sync.pipeline(transaction=False)
            for name in names:
                pipe.type(name)
                pipe.pexpiretime(name)
            said = pipe.execute()
            there = [
                (name, kind.decode(), expires)
                for name, kind, expires in zip(names, said[::2], said[1::2], strict=True)
                if kind.decode() in READS
            ]
            pipe = self._raw()
            for name, kind, _ in there:
                command, *args = READS[kind]
                pipe.execute_command(command, name, *args)
            values = pipe.execute()
        found = zip(there, values, strict=True)
        return [_key(name, kind.encode(), expires, value) for (name, kind, expires), value in found if value]

    def _raw(self) -> Any:
        """A pipeline whose replies come as they are."""
        pipe = self._sync.pipeline(transaction=False)
        pipe.response_callbacks = {}
        return pipe

    def write_keys(self, keys: Iterable[Key]) -> None:
        """Write keys in place of what stands there; those past their time are only taken away."""
        now = self.now_ms()
        with self._asking():
            pipe = self._raw()
            for key in keys:
                pipe.execute_command("UNLINK", key.key)
                if key.expires_ms != -1 and key.expires_ms <= now:
                    continue
                for command in _writing(key):
                    pipe.execute_command(*command)
                if key.expires_ms != -1:
                    pipe.execute_command("PEXPIREAT", key.key, key.expires_ms)
            pipe.execute()

    def write_entries(self, name: str, entries: Iterable[Entry]) -> None:
        """Append entries to a log under their own positions, which come after all that it has."""
        log = Keys.of(name).log
        with self._asking():
            pipe = self._raw()
            for position, tag, record in entries:
                pipe.execute_command("XADD", log, position.text(), tag, record)
            pipe.execute()

    def write_table(self, name: str, table: Table, fields: Sequence[bytes]) -> None:
        """Write fields of a table, name and value in turn."""
        if fields:
            with self._asking():
                self._sync.execute_command("HSET", Keys.of(name).table(table), *fields)

    def expire(self, keys: Iterable[str], expires_ms: int) -> None:
        """Let keys go at a time."""
        with self._asking():
            for key in keys:
                self._sync.pexpireat(key, expires_ms)

    def expires_ms(self, key: str) -> int:
        """When a key goes; -1: never."""
        with self._asking():
            return int(self._sync.pexpiretime(key))

    def config_fields(self, name: str) -> dict[bytes, bytes]:
        """The fields of an experiment's config as they are."""
        with self._asking():
            return dict(self._sync.hgetall(Keys.of(name).config))

    def write_config(self, name: str, fields: dict[bytes, bytes]) -> bool:
        """Write an experiment's config and name, with which it begins to be there; False where it is already."""
        key = Keys.of(name).config
        with self._asking():
            if not self._sync.hsetnx(key, "identity", fields[b"identity"]):
                return False
            self._sync.hset(key, mapping=fields)
            self._sync.sadd(EXPERIMENTS, name)
        return True

    def noted(self) -> dict[bytes, bytes]:
        """What all servers of this store share: format, secret, and what is being restored."""
        with self._asking():
            return dict(self._sync.hgetall(META))

    def note(self, fields: dict[str, bytes]) -> None:
        """Write some of that."""
        with self._asking():
            self._sync.hset(META, mapping=fields)

    def unnote(self, field: str) -> None:
        """Take one of that away."""
        with self._asking():
            self._sync.hdel(META, field)

    def unlink(self, names: Sequence[bytes]) -> None:
        """Delete keys."""
        if names:
            with self._asking():
                self._sync.unlink(*names)


def _key(key: bytes, kind: bytes, expires: int, value: Any) -> Key:
    """A key of the store's answers."""
    if kind == b"stream":
        value = [part for at, fields in value for part in (at, msgspec.msgpack.encode(fields))]
    elif isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    elif not isinstance(value, bytes):  # scores come in pairs, or in turn, as numbers or as text: by the protocol
        flat = [part for each in value for part in (each if isinstance(each, list | tuple) else (each,))]
        value = [part if isinstance(part, bytes) else repr(part).encode() for part in flat]
    return Key(key, kind.decode(), expires, value)


def _writing(key: Key) -> Iterator[tuple[Any, ...]]:
    """The commands that write a key's value."""
    if key.type in WRITES:
        yield WRITES[key.type], key.key, *([key.value] if isinstance(key.value, bytes) else key.value)
    elif key.type == "zset":
        yield "ZADD", key.key, *(part for pair in _pairs(key.value) for part in reversed(pair))
    elif key.type == "stream":
        for at, fields in _pairs(key.value):
            yield "XADD", key.key, at, *msgspec.msgpack.decode(fields, type=list[bytes])
    else:
        raise CorruptLog(f"a key of type {key.type!r}; this version writes string, hash, list, set, zset and stream")


def _pairs(values: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(values[::2], values[1::2], strict=True)
