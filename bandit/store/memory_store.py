"""The store in this process's memory: for tests, the simulator and a first look. It keeps the same promises."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from bandit.core.experiment import Config
from bandit.log.records import (
    START,
    Entry,
    Position,
    decision_of,
)
from bandit.store.access import MemoryAccess
from bandit.store.counted.in_memory import MemorySeries, count
from bandit.store.memory_append import MemoryLog, Step
from bandit.store.protocol import (
    Ahead,
    Archived,
    Batch,
    Gap,
    Lease,
    Reply,
    Row,
    Stale,
    Stored,
    Table,
    is_ahead,
    retention_ms,
)


class MemoryStore(MemoryAccess, MemorySeries):
    """See `bandit.store.protocol.Store`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.RLock()
        self._written = threading.Condition(self._lock)
        self._logs: dict[str, MemoryLog] = {}
        self._models: dict[str, tuple[int, int]] = {}
        self._archives: dict[str, Archived] = {}
        self._secret = secrets.token_bytes(32)

    def check(self) -> None:
        """See `Store`."""

    def memory(self) -> tuple[int, int]:
        """See `Store`."""
        return 0, 0

    def close(self) -> None:
        """See `Store`."""

    async def aclose(self) -> None:
        """See `Store`."""

    def names(self) -> list[str]:
        """See `Store`."""
        return sorted(self._logs)

    def config(self, name: str) -> Stored | None:
        """See `Store`."""
        return self._logs[name].stored if name in self._logs else None

    def remains(self, name: str) -> Stored | None:
        """See `Store`."""
        return self.config(name)

    def put(self, config: Config, before: Stored | None, clock_ms: int = 2**53) -> Position | Ahead | None:
        """See `Store`."""
        with self._lock:
            log = self._logs.setdefault(config.name, MemoryLog())
            if log.stored != before:
                return None
            if not config.deleted and (ahead := self._ahead(log, clock_ms)) is not None:
                return ahead
            position = log.add(self.now_ms(), b"x", msgspec.json.encode(config.bare()))
            new = before is None or before.config.deleted
            learned = before is not None and before.learned and before.config.generation == config.generation
            self._written.notify_all()
            log.stored = Stored(config, learned, position if new or before is None else before.identity, position)
            return position

    def secret(self) -> bytes:
        """See `Store`."""
        return self._secret

    def append(self, name: str, batch: Batch) -> Reply:
        """See `Store`."""
        with self._lock:
            log = self._logs.setdefault(name, MemoryLog())
            last, reply = log.producers.get(batch.producer, (0, []))
            if batch.sequence == last:
                return reply
            if batch.sequence != last + 1:
                return Gap(last)
            if log.stored is None or log.stored.config.deleted or log.stored.config.schema != batch.rules.schema:
                return Stale()
            if (ahead := self._ahead(log, batch.clock_ms)) is not None:
                return ahead
            step = Step(log, batch.rules, max(self.now_ms(), log.last.ms))
            results = [step.take(item) for item in batch.items]
            count(log, step.now, results)
            log.producers[batch.producer] = batch.sequence, results
            self._written.notify_all()
            return results

    def _ahead(self, log: MemoryLog, clock_ms: int) -> Ahead | None:
        return Ahead(now, log.last.ms) if is_ahead(now := self.now_ms(), clock_ms, log.last.ms) else None

    async def append_async(self, name: str, batch: Batch) -> Reply:
        """See `Store`."""
        return self.append(name, batch)

    def read(self, name: str, after: Position, count: int) -> list[Entry]:
        """See `Store`."""
        with self._lock:
            entries = self._logs[name].entries if name in self._logs else {}
            return [entry for at, entry in entries.items() if at > after][:count]

    def read_back(self, name: str, upto: Position, count: int) -> list[Entry]:
        """See `Store`."""
        with self._lock:
            entries = self._logs[name].entries if name in self._logs else {}
            return [entry for at, entry in reversed(entries.items()) if at <= upto][:count]

    def end(self, name: str) -> Position:
        """See `Store`."""
        return self._logs[name].last if name in self._logs else START

    def at(self, name: str, position: Position) -> Entry | None:
        """See `Store`."""
        return self._logs[name].entries.get(position) if name in self._logs else None

    def decision(self, name: str, caller: bytes) -> Entry | None:
        """See `Store`."""
        at = self._logs[name].callers.get(caller) if name in self._logs else None
        return None if at is None else self.at(name, at)

    def happened(self, name: str, decision: Position) -> list[Entry]:
        """See `Store`."""
        with self._lock:
            log = self._logs[name]
            found = [entry for entry in log.entries.values() if entry.tag in b"fa"]
            return [entry for entry in found if decision_of(entry) == decision] if decision in log.lives else []

    def grown(self, positions: Mapping[str, Position]) -> list[str]:
        """See `Store`."""
        return [name for name, position in positions.items() if self.end(name) > position]

    def grown_within(self, positions: Mapping[str, Position], seconds: float) -> list[str]:
        """See `Store`."""
        with self._written:
            self._written.wait_for(lambda: self.grown(positions), seconds)
            return self.grown(positions)

    def now_ms(self) -> int:
        """See `Store`."""
        return int(self._clock() * 1000)

    def reconnected(self) -> bool:
        """See `Store`."""
        return False

    def lease(self, name: str) -> Lease | None:
        """See `Store`."""
        return self._logs[name].lease if name in self._logs else None

    def take_lease(self, name: str, seen: Lease | None, holder: bytes) -> bytes | None:
        """See `Store`."""
        with self._lock:
            log = self._logs.setdefault(name, MemoryLog())
            if log.lease != seen:
                return None
            count = int(seen.token.partition(b"-")[0]) + 1 if seen else 1
            log.lease = Lease(b"%d-%s" % (count, holder), 0)
            return log.lease.token

    def attend(self, held: Mapping[str, bytes | None]) -> dict[str, bool | Lease | None]:
        """See `Store`."""
        return {name: self.lease(name) if token is None else self._beat(name, token) for name, token in held.items()}

    def _beat(self, name: str, token: bytes) -> bool:
        with self._lock:
            log = self._logs.setdefault(name, MemoryLog())
            if log.lease is None or log.lease.token != token:
                return False
            log.lease = Lease(token, log.lease.beat + 1)
            return True

    def probe(self) -> None:
        """See `Store`."""

    async def probe_async(self) -> None:
        """See `Store`."""

    def reserve(self, name: str, need: int, most: int) -> int | None:
        """See `Store`."""
        with self._lock:
            others = sum(size for other, (size, _) in self._models.items() if other != name)
            if need > self._models.get(name, (0, 0))[0] and others + need > most:
                return others
            self._models[name] = need, self.now_ms()
            return None

    def reserved(self) -> dict[str, tuple[int, int]]:
        """See `Store`."""
        return dict(self._models)

    def account(self, sizes: Mapping[str, int | None]) -> None:
        """See `Store`."""
        with self._lock:
            for name, size in sizes.items():
                self._models.pop(name, None)
                if size is not None:
                    self._models[name] = size, self.now_ms()

    def sweep(self, names: Sequence[str], at: int) -> int:
        """See `Store`: all goes with `forget`."""
        return 0

    def forget(self, name: str) -> bool:
        """See `Store`."""
        with self._lock:
            was = self.config(name)
            if was and not (was.config.deleted and was.updated.ms < self.now_ms() - retention_ms(was.config)):
                return False
            self._logs.pop(name, None)
            self._archives.pop(name, None)
            return True

    def cursor(self, name: str, table: Table) -> Position:
        """See `Store`."""
        return self._logs[name].cursors[table] if name in self._logs else START

    def rows(self, name: str, table: Table) -> Iterator[Row]:
        """See `Store`."""
        yield from list(self._logs[name].tables[table].values()) if name in self._logs else ()

    def row(self, name: str, table: Table, arm: int) -> Row | None:
        """See `Store`."""
        return self._logs[name].tables[table].get(arm) if name in self._logs else None

    def write_rows(self, name: str, table: Table, token: bytes, rows: Sequence[Row], cursor: Position | None) -> bool:
        """See `Store`."""
        with self._lock:
            log = self._logs.setdefault(name, MemoryLog())
            old = log.tables[table]
            moves = [(row.position, old[row.arm].position if row.arm in old else START) for row in rows]
            moves += [(cursor, log.cursors[table])] if cursor else []
            ours = log.lease is not None and log.lease.token == token
            back = any(new < before and before in log.entries for new, before in moves)
            if not ours or back or any(new not in log.entries for new, _ in moves):
                return False
            old.update({row.arm: row for row in rows})
            log.cursors[table] = cursor or log.cursors[table]
            return True

    def base_config(self, name: str) -> bytes:
        """See `Store`."""
        return self._logs[name].base_config if name in self._logs else b""

    def trim(self, name: str, token: bytes, cut: Position, config: bytes) -> bool:
        """See `Store`."""
        with self._lock:
            log = self._logs.setdefault(name, MemoryLog())
            before = [position for position in log.entries if position < cut]
            ours = log.lease is not None and log.lease.token == token
            if not ours or not before or cut not in log.entries or log.cursors["sums"] < cut:
                return False
            archive = self._archives.get(name)
            if log.cursors["base"] != before[-1] or (archive and archive.cursor < before[-1]):
                return False
            log.base_config = config or log.base_config
            for position in before:
                del log.entries[position]
            return True

    def archived(self, name: str) -> Archived | None:
        """See `Store`."""
        return self._archives.get(name)

    def move_archive(self, name: str, archive: bytes, before: Position | None, upto: Position) -> bool:
        """See `Store`."""
        with self._lock:
            seen = self._archives.get(name)
            if (seen and seen.cursor) != before or (seen and seen.id != archive):
                return False
            self._archives[name] = Archived(archive, upto, self.now_ms())
            return True

    def forget_archive(self, name: str) -> bool:
        """See `Store`."""
        return self._archives.pop(name, None) is not None
