"""Connections to a Redis or Valkey, what is asked of it as a whole, and how its scripts are run."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from bandit.errors import StoreUnsuitable
from bandit.store.keys import META, RESTORING, Keys
from bandit.store.redis_faults import StoreMoved, mapped, understood
from bandit.store.redis_pipeline import Pipelined

CONNECTIONS = 32  # of a worker's threads, about; its event loop has one
TIMEOUT = 2.0  # seconds for one command: longer than the longest script, a checkpoint of 1 MB, by far
STORE_FORMAT = b"1"
FLOOR = {"redis": (7, 0), "valkey": (7, 2)}
SCRIPTS = (
    "append", "configure", "reserve", "lease", "beat", "checkpoint", "trim", "forget", "keys", "audit",
    "archive", "hold", "changes", "series",
)  # fmt: skip


class Script:
    """One Lua script and the digest that Redis knows it by."""

    def __init__(self, name: str, first: str = "") -> None:
        self.text = resources.files("bandit.store").joinpath("lua", f"{name}.lua").read_text()
        if first:
            self.text = first + self.text[self.text.index("\n") :]
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Connected:
    """The connections, the scripts, and the operations on the store as a whole; see `bandit.store.protocol.Store`."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        # The client's own retries turn one write into two when a reply is lost, so it has none: the scripts know what
        # they have done, and callers repeat the same bytes.
        options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        self._fresh, self._moved = True, False
        with understood(url):
            # RESP2 has nothing that is no reply; an address may still ask for `?protocol=3`
            pool: Any = redis.asyncio.ConnectionPool.from_url(
                url, protocol=2, retry=AsyncRetry(NoBackoff(), 0), **options
            )
            self._appends = Pipelined(pool.make_connection)
            # The client's types call every reply `bytes | str`; ours are never decoded, so these are Any.
            self._sync: Any = redis.Redis.from_url(
                url, retry=Retry(NoBackoff(), 0), redis_connect_func=self._connected, **options
            )
            for command in ("XRANGE", "XREVRANGE"):
                self._sync.set_response_callback(command, lambda found, **_: found)  # read by `redis_wire.entries`
            self._sync.connection_pool.make_connection()  # sends nothing, but finds options that there are not
        self._scripts = {name: Script(name) for name in SCRIPTS}
        self._scripts["bury"] = Script("configure", "#!lua flags=allow-oom")  # a deletion frees memory

    def _connected(self, connection: Any) -> None:
        """Note a new connection; the client library calls this for those too that it makes by itself."""
        connection.on_connect()
        self._fresh = True

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Raise errors as ours, and disconnect at once from a node that does not take writes, or not yet.

        A node that was demoted does not close its connections: it would answer READONLY for ever.
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

    def check(self, *, restoring: bool = False) -> None:
        """Refuse a store that would lose data, and unless `restoring` one that is half restored.

        Raises:
            StoreUnsuitable: too old, written by another version of ours, or it may evict keys.
        """
        info = self.info()
        with self._asking():
            form = self._noted("format", STORE_FORMAT)
            begun = self._sync.hget(META, RESTORING)
        # of a lease that nobody has: it changes nothing, but shows if scripts are forbidden
        self._run("beat", [Keys.of("~").lease], [b"~"])
        kind = "valkey" if "valkey_version" in info else "redis"
        version = str(info[f"{kind}_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < FLOOR[kind]:
            floor = ".".join(map(str, FLOOR[kind]))
            raise StoreUnsuitable(f"the store is {kind} {version}; {floor} or later is needed")
        if (policy := info.get("maxmemory_policy")) is None:
            raise StoreUnsuitable(
                "the store does not tell its maxmemory-policy, which must be noeviction, or keys vanish"
            )
        if policy != "noeviction":
            raise StoreUnsuitable(f"the store's maxmemory-policy is {policy!r}; it must be noeviction, or keys vanish")
        if begun is not None and not restoring:
            raise StoreUnsuitable("the store is half restored from a backup: run `bandit-server restore` to its end")
        if form != STORE_FORMAT:
            raise StoreUnsuitable(f"the store has data of format {form!r}; this version reads {STORE_FORMAT!r}")

    def info(self) -> dict[str, Any]:
        """What the server says of itself (INFO)."""
        with self._asking():
            return dict(self._sync.info())

    def setting(self, name: str) -> str | None:
        """A setting of the server (CONFIG GET); None where it may not be asked, as of a managed one."""
        try:
            found = self._sync.config_get(name)
        except redis.RedisError:
            return None
        value = found.get(name.encode(), found.get(name)) if found else None
        return value.decode() if isinstance(value, bytes) else value

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
        """Close the event loop's connection."""
        await self._appends.aclose()

    def secret(self) -> bytes:
        """See `Store`."""
        with self._asking():
            return self._noted("secret", secrets.token_bytes(32))

    def _noted(self, field: str, new: bytes) -> bytes:
        """A value that all servers of this store share, and the first one writes; reading it takes no memory there."""
        if (found := self._sync.hget(META, field)) is None:
            self._sync.hsetnx(META, field, new)
            found = self._sync.hget(META, field)
        return bytes(found)

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script by its digest, or with its text where the store does not have it, as after a restart."""
        script = self._scripts[name]
        with self._asking():
            try:
                return self._sync.execute_command("EVALSHA", script.digest, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return self._sync.execute_command("EVAL", script.text, len(keys), *keys, *args)

    def probe(self) -> None:
        """See `Store`."""
        with self._asking():
            self._sync.hsetnx(META, "format", STORE_FORMAT)

    async def probe_async(self) -> None:
        """See `Store`."""
        with mapped():
            await self._appends.ask("HSETNX", META, "format", STORE_FORMAT)

    def now_ms(self) -> int:
        """See `Store`."""
        with self._asking():
            s, us = self._sync.time()
        return int(s) * 1000 + int(us) // 1000
