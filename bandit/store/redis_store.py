"""The store in Redis or Valkey. Every write is one Lua script in `lua/`, so atomicity lives inside the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import redis

from bandit.core.document import NAME, Document, Kind
from bandit.core.experiment import Config
from bandit.errors import CorruptLog
from bandit.log.records import START, Entry, Position
from bandit.store.access import RedisAccess
from bandit.store.counted.in_redis import RedisSeries
from bandit.store.keys import EXPERIMENTS, FIRST, MODELS, Keys
from bandit.store.protocol import (
    CLOCK_AHEAD_MS,
    DELETED_MS,
    READ_BYTES,
    Ahead,
    Batch,
    Lease,
    Reply,
    Row,
    Stored,
    Table,
    retention_ms,
)
from bandit.store.redis_copying import Copied
from bandit.store.redis_faults import StoreMoved, mapped, refused
from bandit.store.redis_wire import POSITION, ahead, append_call, entries, reply, row, stored

SWEEP = 1000  # keys looked at, or taken away, in one step
PIECE, PIECES_MAX = 64, 2048  # entries asked for at first, and at most: their size is not known before


class RedisStore(RedisAccess, RedisSeries, Copied):
    """See `bandit.store.protocol.Store`."""

    def names(self) -> list[str]:
        """See `Store`."""
        with self._asking():
            names = [name.decode(errors="replace") for name in self._sync.smembers(EXPERIMENTS)]
        return sorted(name for name in names if NAME.fullmatch(name))  # any other was not written by us

    def config(self, name: str) -> Stored | None:
        """See `Store`."""
        with self._asking():
            fields = self._sync.hgetall(Keys.of(name).config)
        if not fields:
            return None
        try:
            return stored(msgspec.json.decode(fields[b"config"], type=Config), fields)
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise CorruptLog(f"{name}: its config cannot be read, was a later version here? ({error!r})") from None

    def remains(self, name: str) -> Stored | None:
        """See `Store`."""
        with self._asking():
            if (kind := self._sync.type(Keys.of(name).config)) == b"none":
                return None
            fields = self._sync.hgetall(Keys.of(name).config) if kind == b"hash" else {}
        version, generation, schema = (_number(fields, key) for key in (b"version", b"generation", b"schema"))
        config = Config(name, version, generation, schema, Document({"unreadable": Kind()}, ()), (), ())
        return Stored(config, version > 0 and fields.get(b"learned") == b"%d" % generation, START, START)

    def put(self, config: Config, before: Stored | None, clock_ms: int = 2**53) -> Position | Ahead | None:
        """See `Store`."""
        version = before.config.version if before else 0
        new = before is None or before.config.deleted
        state = config.version, config.generation, config.schema, int(config.deleted), int(new), retention_ms(config)
        self._name(config)
        done = self._run(
            "bury" if config.deleted else "configure",
            Keys.of(config.name).all,
            [
                version,
                int(before is not None and before.learned),
                msgspec.json.encode(config),
                *state,
                msgspec.json.encode(config.bare()),
                clock_ms,
                CLOCK_AHEAD_MS,
            ],
        )
        if isinstance(done, list):
            return ahead(done)
        if not done:
            return None
        self._name(config)  # again: it may have been forgotten in between
        return Position.parse(done)

    def _name(self, config: Config) -> None:
        """Put an experiment on the list before its config is written, so that readers of the list miss none."""
        if not config.deleted:  # it is on the list already, and a full store would refuse even this write
            with self._asking():
                self._sync.sadd(EXPERIMENTS, config.name)

    def append(self, name: str, batch: Batch) -> Reply:
        """See `Store`."""
        return reply(self._run("append", *append_call(name, batch)))

    async def append_async(self, name: str, batch: Batch) -> Reply:
        """See `Store`."""
        script, (keys, args) = self._scripts["append"], append_call(name, batch)
        if self._moved:  # noticed by a thread
            self._moved = False
            self._appends.part()
        try:
            with mapped():
                try:
                    found = await self._appends.ask("EVALSHA", script.digest, len(keys), *keys, *args)
                except redis.exceptions.NoScriptError:
                    found = await self._appends.ask("EVAL", script.text, len(keys), *keys, *args)
        except StoreMoved:  # this connection has ended already
            self._sync.connection_pool.disconnect()
            raise
        return reply(found)

    def read(self, name: str, after: Position, count: int) -> list[Entry]:
        """See `Store`."""
        found: list[Entry] = []
        size, step = 0, PIECE
        while size < READ_BYTES and len(found) < count:
            start = found[-1].position if found else after
            asked = min(step, count - len(found))
            with self._asking():
                part = entries(self._sync.xrange(Keys.of(name).log, b"(" + start.text(), "+", count=asked))
            found += part
            if len(part) < asked:
                break
            sizes = [len(entry.record) for entry in part]
            size += sum(sizes)
            step = min(4 * step, max(1, READ_BYTES // max(sizes)), PIECES_MAX)
        return found

    def read_back(self, name: str, upto: Position, count: int) -> list[Entry]:
        """See `Store`."""
        with self._asking():
            return entries(self._sync.xrevrange(Keys.of(name).log, upto.text(), "-", count=count))

    def end(self, name: str) -> Position:
        """See `Store`."""
        with self._asking():
            found = self._sync.xrevrange(Keys.of(name).log, count=1)
        return Position.parse(found[0][0]) if found else START

    def at(self, name: str, position: Position) -> Entry | None:
        """See `Store`."""
        with self._asking():
            found = entries(self._sync.xrange(Keys.of(name).log, position.text(), position.text()))
        return found[0] if found else None

    def decision(self, name: str, caller: bytes) -> Entry | None:
        """See `Store`."""
        with self._asking():
            at = self._sync.get(Keys.of(name).prefix.encode() + b":i:" + caller)
        return self.at(name, Position.parse(at)) if at else None

    def happened(self, name: str, decision: Position) -> list[Entry]:
        """See `Store`."""
        keys = Keys.of(name)
        with self._asking():
            state: dict[bytes, bytes] = self._sync.hgetall(keys.prefix.encode() + b":d:" + decision.text())
        places = {Position.parse(at) for field, at in state.items() if field[:1] in b"ta" and b"-" in at}
        with self._asking():
            pipe = self._sync.pipeline(transaction=False)
            for at in sorted(places):
                pipe.xrange(keys.log, at.text(), at.text())
            return [entry for found in pipe.execute() for entry in entries(found)]

    def grown(self, positions: Mapping[str, Position]) -> list[str]:
        """See `Store`."""
        return self._grown(positions, None) if positions else []

    def grown_within(self, positions: Mapping[str, Position], seconds: float) -> list[str]:
        """See `Store`."""
        most = self._sync.connection_pool.connection_kwargs["socket_timeout"] or seconds
        return self._grown(positions, max(1, round(1000 * min(seconds, most / 2))))

    def _grown(self, positions: Mapping[str, Position], block: int | None) -> list[str]:
        """Those that have grown; waits for it up to `block` milliseconds."""
        logs = {Keys.of(name).log.encode(): name for name in positions}
        after = {log: at.text() for log, at in zip(logs, positions.values(), strict=True)}
        try:
            with self._asking():
                found = self._sync.xread(after, count=1, block=block)
        except CorruptLog:
            return list(positions)  # one of them is not a log: reading it will fail
        return [logs[bytes(log)] for log, _ in found]

    def lease(self, name: str) -> Lease | None:
        """See `Store`."""
        with self._asking():
            token, beat = self._sync.hmget(Keys.of(name).lease, "token", "beat")
        return Lease(token, int(beat)) if token else None

    def take_lease(self, name: str, seen: Lease | None, holder: bytes) -> bytes | None:
        """See `Store`."""
        args = [seen.token, seen.beat, holder] if seen else [b"", b"", holder]
        token = self._run("lease", [Keys.of(name).lease], args)
        return bytes(token) if token else None

    def attend(self, held: Mapping[str, bytes | None]) -> dict[str, bool | Lease | None]:
        """See `Store`."""
        beat = self._scripts["beat"]
        with self._asking():
            pipe = self._sync.pipeline(transaction=False)
            for name, token in held.items():
                key = Keys.of(name).lease
                if token is None:
                    pipe.hmget(key, "token", "beat")
                else:
                    pipe.evalsha(beat.digest, 1, key, token)
            replies = pipe.execute(raise_on_error=False)
        found: dict[str, bool | Lease | None] = {}
        for (name, token), said in zip(held.items(), replies, strict=True):
            if isinstance(said, redis.exceptions.NoScriptError):
                said = self._run("beat", [Keys.of(name).lease], [token])
            if isinstance(said, redis.exceptions.ResponseError) and not refused(said):
                continue
            if isinstance(said, Exception):
                with self._asking():
                    raise said
            if token is None:
                found[name] = Lease(said[0], int(said[1])) if said[0] else None
            else:
                found[name] = bool(said)
        return found

    def sweep(self, names: Sequence[str], at: int) -> int:
        """See `Store`."""
        first = Keys.of(names[0]).prefix if len(names) == 1 else FIRST
        with self._asking():
            following, found = self._sync.scan(at, match=f"{first}*", count=SWEEP)
        for name in names:
            keys = Keys.of(name)
            stay = {key.encode() for key in keys.all}  # for the hour after the deletion
            if mine := [key for key in found if key.startswith(keys.prefix.encode() + b":") and key not in stay]:
                self._run("forget", [keys.config, *mine], [0])
        return int(following)

    def forget(self, name: str) -> bool:
        """See `Store`. The name is removed first, so that an experiment created in between can be listed again."""
        keys = Keys.of(name)
        with self._asking():
            deleted, at, kept = self._sync.hmget(keys.config, "deleted", "updated", "retention")
        kept_ms = int(kept or DELETED_MS)
        if deleted is not None and (deleted != b"1" or Position.parse(at).ms > self.now_ms() - kept_ms):
            return False
        with self._asking():
            self._sync.srem(EXPERIMENTS, name)
        if done := self._run("forget", [keys.config, *keys.all], [kept_ms]):
            return bool(done)
        with self._asking():
            self._sync.sadd(EXPERIMENTS, name)
        return False

    def reserve(self, name: str, need: int, most: int) -> int | None:
        """See `Store`."""
        others = self._run("reserve", [MODELS], [name, need, most, self.now_ms()])
        return None if others is None else int(others)

    def reserved(self) -> dict[str, tuple[int, int]]:
        """See `Store`."""
        with self._asking():
            found = self._sync.hgetall(MODELS)
        sizes = {name.decode(): value.split() for name, value in found.items()}
        return {name: (int(size), int(ms)) for name, (size, ms) in sizes.items()}

    def account(self, sizes: Mapping[str, int | None]) -> None:
        """See `Store`."""
        gone = [name for name, size in sizes.items() if size is None]
        now = self.now_ms()
        with self._asking():
            if gone:
                self._sync.hdel(MODELS, *gone)
            if there := {name: f"{size} {now}" for name, size in sizes.items() if size is not None}:
                self._sync.hset(MODELS, mapping=there)

    def cursor(self, name: str, table: Table) -> Position:
        """See `Store`."""
        with self._asking():
            found = self._sync.hget(Keys.of(name).table(table), "cursor")
        return Position(*POSITION.unpack(found)) if found else START

    def rows(self, name: str, table: Table) -> Iterator[Row]:
        """See `Store`."""
        with self._asking():
            for field, value in self._sync.hscan_iter(Keys.of(name).table(table), count=64):
                if field.isdigit():
                    yield row(int(field), value)

    def row(self, name: str, table: Table, arm: int) -> Row | None:
        """See `Store`."""
        with self._asking():
            value = self._sync.hget(Keys.of(name).table(table), str(arm))
        return row(arm, value) if value else None

    def write_rows(self, name: str, table: Table, token: bytes, rows: Sequence[Row], cursor: Position | None) -> bool:
        """See `Store`."""
        keys = Keys.of(name)
        fields = [part for row in rows for part in (row.arm, POSITION.pack(*row.position) + row.sums)]
        args = [token, POSITION.pack(*cursor) if cursor else b"", *fields]
        return bool(self._run("checkpoint", [keys.lease, keys.log, keys.table(table)], args))

    def base_config(self, name: str) -> bytes:
        """See `Store`."""
        with self._asking():
            return self._sync.hget(Keys.of(name).table("base"), "config") or b""

    def trim(self, name: str, token: bytes, cut: Position, config: bytes) -> bool:
        """See `Store`."""
        keys = Keys.of(name)
        others = [keys.table("base"), keys.table("sums"), keys.archive, keys.hold]
        return bool(self._run("trim", [keys.lease, keys.log, *others], [token, cut.text(), config]))


def _number(fields: Mapping[bytes, bytes], key: bytes) -> int:
    """A field of a config that may be damaged."""
    text = fields.get(key, b"")
    return int(text) if text.isdigit() else 0
