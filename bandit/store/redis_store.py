"""The store in Redis or Valkey. Every write is one Lua script in `lua/`, so atomicity lives inside the server."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import msgspec
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from bandit.core.experiment import NAME, Config, Document, Kind
from bandit.errors import CorruptLog, StoreUnsuitable
from bandit.log.records import START, Entry, Position
from bandit.store.keys import EXPERIMENTS, FIRST, META, MODELS, Keys
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
)
from bandit.store.redis_faults import StoreMoved, mapped, refused, understood
from bandit.store.redis_wire import POSITION, ahead, append_call, entries, reply, row, stored

SWEEP = 1000  # keys looked at, or taken away, in one step
PIECE, PIECES_MAX = 64, 2048  # entries asked for at first, and at most: nobody knows their size before
CONNECTIONS = 32  # of the event loop, at most
TIMEOUT = 2.0  # seconds for one command: longer than the longest script, a checkpoint of 1 MB, by far
STORE_FORMAT = b"1"
FLOOR = {"redis": (7, 0), "valkey": (7, 2)}
SCRIPTS = "append", "configure", "reserve", "lease", "beat", "checkpoint", "trim", "forget"


class Script:
    """One Lua script and the digest that Redis knows it by."""

    def __init__(self, name: str, first: str = "") -> None:
        self.text = resources.files("bandit.store").joinpath("lua", f"{name}.lua").read_text()
        if first:
            self.text = first + self.text[self.text.index("\n") :]
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """See `bandit.store.protocol.Store`."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        # The client's own retries turn one write into two when a reply is lost, so it has none: the scripts know what
        # they have done, and callers repeat the same bytes.
        options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        self._fresh, self._moved = True, False
        with understood(url):
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS, timeout=timeout, retry=AsyncRetry(NoBackoff(), 0), **options
            )
            # The client's types call every reply `bytes | str`; ours are never decoded, so these are Any.
            self._async: Any = redis.asyncio.Redis(connection_pool=pool)
            self._sync: Any = redis.Redis.from_url(
                url, retry=Retry(NoBackoff(), 0), redis_connect_func=self._connected, **options
            )
            self._sync.connection_pool.make_connection()  # sends nothing, but finds options that there are not
        self._scripts = {name: Script(name) for name in SCRIPTS}
        self._scripts["bury"] = Script("configure", "#!lua flags=allow-oom")  # a deletion frees memory

    def _connected(self, connection: Any) -> None:
        """Every new connection passes here, also those that the client library makes by itself, without a word."""
        connection.on_connect()
        self._fresh = True

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors as ours; from a node that is no longer, or not yet, what its address stands for, we part at once.

        Nobody closes connections to a node that was demoted: it would answer READONLY for ever.
        """
        try:
            with mapped():
                yield
        except StoreMoved:
            self._sync.connection_pool.disconnect()
            self._moved = True
            raise

    def reconnected(self) -> bool:
        """See `Store`."""
        with self._asking():
            self._sync.ping()  # finds a dead connection now, not in the middle of a read
        if not self._fresh:
            return False
        self._fresh = False  # a connection made from here on is another one
        return True

    def check(self) -> None:
        """Refuse a store that would lose what it is given.

        Raises:
            StoreUnsuitable: too old, written by another version of ours, or it may evict keys.
        """
        with self._asking():
            info = self._sync.info()
            form = self._noted("format", STORE_FORMAT)
        self._run("beat", [Keys.of("~").lease], [b"~"])  # of nobody's: it changes nothing, but may be forbidden
        kind = "valkey" if "valkey_version" in info else "redis"
        version = str(info[f"{kind}_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < FLOOR[kind]:
            floor = ".".join(map(str, FLOOR[kind]))
            raise StoreUnsuitable(f"the store is {kind} {version}; {floor} or later is needed")
        if (policy := info.get("maxmemory_policy")) != "noeviction":
            raise StoreUnsuitable(f"the store's maxmemory-policy is {policy!r}; it must be noeviction, or keys vanish")
        if form != STORE_FORMAT:
            raise StoreUnsuitable(f"the store has data of format {form!r}; this version reads {STORE_FORMAT!r}")

    def info(self) -> dict[str, Any]:
        """What the server tells of itself (INFO)."""
        with self._asking():
            return dict(self._sync.info())

    def memory(self) -> tuple[int, int]:
        """See `Store`."""
        with self._asking():
            info = self._sync.info("memory")
        return int(info["used_memory"]), int(info.get("maxmemory", 0))

    def log_size(self, name: str) -> str:
        """How many entries an experiment's log has, and their memory, for people."""
        log = Keys.of(name).log
        with self._asking():
            entries, size = self._sync.xlen(log), self._sync.memory_usage(log, samples=0) or 0
        return f"{entries} entries ({size / 1e6:.1f} MB)"

    def close(self) -> None:
        """Close the connections of threads."""
        self._sync.close()

    async def aclose(self) -> None:
        """Close the event loop's connections."""
        await self._async.aclose()
        await self._async.connection_pool.aclose()

    def names(self) -> list[str]:
        """See `Store`."""
        with self._asking():
            names = [name.decode(errors="replace") for name in self._sync.smembers(EXPERIMENTS)]
        return sorted(name for name in names if NAME.fullmatch(name))  # others are none of ours

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
        keys = Keys.of(config.name)
        version = before.config.version if before else 0
        new = before is None or before.config.deleted
        state = config.version, config.generation, config.schema, int(config.deleted), int(new), DELETED_MS
        self._name(config)
        done = self._run(
            "bury" if config.deleted else "configure",
            [keys.config, keys.log, keys.table("sums"), keys.table("base"), keys.lease],
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
        """Put an experiment on the list, before its config: so who reads the list misses none."""
        if not config.deleted:  # it is on it, and a store that is full would refuse even to be told so
            with self._asking():
                self._sync.sadd(EXPERIMENTS, config.name)

    def secret(self) -> bytes:
        """See `Store`."""
        with self._asking():
            return self._noted("secret", secrets.token_bytes(32))

    def _noted(self, field: str, new: bytes) -> bytes:
        """A field that every server of this store shares, and the first one writes: who only reads needs no memory."""
        if (found := self._sync.hget(META, field)) is None:
            self._sync.hsetnx(META, field, new)
            found = self._sync.hget(META, field)
        return bytes(found)

    def append(self, name: str, batch: Batch) -> Reply:
        """See `Store`."""
        return reply(self._run("append", *append_call(name, batch)))

    async def append_async(self, name: str, batch: Batch) -> Reply:
        """See `Store`."""
        script, (keys, args) = self._scripts["append"], append_call(name, batch)
        if self._moved:  # by whichever of the two clients it was noticed
            self._moved = False
            await self._async.connection_pool.disconnect(inuse_connections=False)
        with self._asking():
            try:
                found = await self._async.execute_command("EVALSHA", script.digest, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                found = await self._async.execute_command("EVAL", script.text, len(keys), *keys, *args)
        return reply(found)

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script; the script cache is empty after a restart, then its text goes along."""
        script = self._scripts[name]
        with self._asking():
            try:
                return self._sync.execute_command("EVALSHA", script.digest, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return self._sync.execute_command("EVAL", script.text, len(keys), *keys, *args)

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

    def grown(self, positions: Mapping[str, Position]) -> list[str]:
        """See `Store`."""
        if not positions:
            return []
        logs = {Keys.of(name).log.encode(): name for name in positions}
        try:
            with self._asking():
                found = self._sync.xread({Keys.of(name).log: at.text() for name, at in positions.items()}, count=1)
        except CorruptLog:
            return list(positions)  # one of them is no log: who reads it will see
        return [logs[bytes(log)] for log, _ in found]

    def now_ms(self) -> int:
        """See `Store`."""
        with self._asking():
            s, us = self._sync.time()
        return int(s) * 1000 + int(us) // 1000

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

    def probe(self) -> None:
        """See `Store`."""
        with self._asking():
            self._sync.hsetnx(META, "format", STORE_FORMAT)

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
        """See `Store`. The name goes first: so one that is made again in between can be named again."""
        keys = Keys.of(name)
        with self._asking():
            deleted, at = self._sync.hmget(keys.config, "deleted", "updated")
        if deleted is not None and (deleted != b"1" or Position.parse(at).ms > self.now_ms() - DELETED_MS):
            return False
        with self._asking():
            self._sync.srem(EXPERIMENTS, name)
        if done := self._run("forget", [keys.config, *keys.all], [DELETED_MS]):
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
        tables = [keys.table("base"), keys.table("sums")]
        return bool(self._run("trim", [keys.lease, keys.log, *tables], [token, cut.text(), config]))


def _number(fields: Mapping[bytes, bytes], key: bytes) -> int:
    """A field of a config that may be damaged."""
    text = fields.get(key, b"")
    return int(text) if text.isdigit() else 0
