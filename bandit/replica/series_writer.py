"""Who writes the series: the elected server, which folds what the log has grown by into the rows of the store.

Nothing is kept in memory between two writes. A write reads the cursor and the rows, folds the entries after it, and
puts rows and cursor in one step that checks the lease and that the cursor is still the one it began with: so each entry
is counted once, whoever is killed or frozen, and whenever. Trimming waits for it.
"""

from __future__ import annotations

import logging
import time

from bandit.log.records import START, Entry, Position
from bandit.replica.replica import UNREADABLE, Replica
from bandit.replica.series import Names, Sums, fold, gone, packed, put, strangers, touched, unpacked
from bandit.store.protocol import Store

log = logging.getLogger(__name__)

STEP = 2000  # entries in one write
EVERY = 5.0  # seconds between two writes: what a server that is asked has to fold by itself at most
BUDGET = 0.05  # seconds of writing in one turn


class SeriesWriter:
    """Writes one experiment's series while its server holds the lease. One thread calls it."""

    def __init__(self, replica: Replica, store: Store) -> None:
        self.replica, self.store = replica, store
        self.position = START  # the store's rows are folded at least up to here
        self.is_behind = False
        self._token: bytes | None = None
        self._due = 0.0

    def step(self, token: bytes, now: float, *, last: bool = False) -> None:
        """Write for up to `BUDGET` seconds, if it is time; `last` writes all. `now` is a monotonic clock's."""
        if token != self._token:  # another server may have written meanwhile
            self._token, self.position = token, self.store.series(self.replica.name, ())[0]
        if not (last or self.is_behind or now >= self._due) or self.position >= self.replica.position:
            return
        end, self.is_behind = time.monotonic() + BUDGET, True
        while self.is_behind and (last or time.monotonic() < end):
            if not self._write(token):
                self._token, self.is_behind = None, False
        if not self.is_behind:
            self._due = now + EVERY

    def _write(self, token: bytes) -> bool:
        """Fold and write up to `STEP` entries; False where the write was refused."""
        name, model = self.replica.name, self.replica.model
        found = self.store.read(name, self.position, STEP)
        entries = [entry for entry in found if entry.position <= self.replica.position]
        if not entries or model is None:
            self.is_behind = False
            return True
        after, rows = entries[-1].position, dict[str, bytes]()
        try:
            rows = folded(self.store, name, self.position, entries, Names.of(model.experiment))
        except UNREADABLE:  # the series must not keep the log from being trimmed
            log.exception("%s: entries up to %s are not counted in its series", name, after.text().decode())
        except Moved:
            return False
        before_ms = self.position.ms
        if not self.store.write_series(name, token, self.position, after, rows, gone(before_ms, after.ms)):
            return False
        self.position, self.is_behind = after, len(found) >= STEP
        return True


class Moved(Exception):  # noqa: N818
    """Another server has written the series meanwhile."""


def folded(store: Store, name: str, before: Position, entries: list[Entry], names: Names) -> dict[str, bytes]:
    """The rows that these entries, which follow on `before`, change, as they are then.

    Raises:
        Moved: the store's rows are not folded up to `before`.
    """
    sums: Sums = {}
    fold(sums, entries, names, store.several(name, sorted(strangers(entries))) if names.slices else {})
    changes = list(touched(sums, entries[-1].position.ms))
    cursor, rows = store.series(name, list(dict.fromkeys(row for row, _ in changes)))
    if cursor != before:
        raise Moved
    buckets = {row: unpacked(value) for row, value in rows.items()}
    for row, added in changes:
        put(buckets.setdefault(row, []), added)
    return {row: packed(of) for row, of in buckets.items()}
