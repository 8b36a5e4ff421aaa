"""Who writes the series: the elected server, which folds what the log has grown by into the rows of the store.

A write reads the cursor and the rows, adds what the log has after it, and puts rows and cursor in one step that checks
the lease and that the cursor is still the one it began with: so each entry is counted once, whoever is killed or
frozen, and whenever. Trimming waits for it. What the replica reads is counted on the way, for the next write, as
reading it again would cost more than counting it; only who is behind, or has traffic in slices, reads for itself.
"""

from __future__ import annotations

import logging
import time

from bandit.log.records import START, Entry, Position
from bandit.replica.replica import UNREADABLE, Replica
from bandit.replica.series import Names, Sums, fold, gone, packed, put, strangers, touched, unpacked
from bandit.store.protocol import Store

log = logging.getLogger(__name__)

STEP = 2000  # entries in one write, where they are read for it; buckets, where they were counted before
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
        self._ahead: Sums = {}  # what the replica has read after `position`, up to `_upto`
        self._upto = START
        self._loads = 0  # of the replica, when that began
        replica.readers.append(self._take)

    def step(self, token: bytes, now: float, *, last: bool = False) -> None:
        """Write for up to `BUDGET` seconds, if it is time; `last` writes all. `now` is a monotonic clock's."""
        if token != self._token:  # another server may have written meanwhile
            self._token = token
            self._begin(self.store.series(self.replica.name, ())[0])
        if not (last or self.is_behind or now >= self._due or len(self._ahead) >= STEP):
            return
        if self.position >= self.replica.position:
            return
        end, self.is_behind = time.monotonic() + BUDGET, True
        while self.is_behind and (last or time.monotonic() < end):
            if not self._write(token):
                self.is_behind = False
                self.rest()
        if not self.is_behind:
            self._due = now + EVERY

    def rest(self) -> None:
        """The lease is not held: nothing is counted."""
        if self._token is not None:
            self._token = None
            self._begin(self.position)

    def _begin(self, position: Position) -> None:
        """The store's rows are folded up to here, and nothing is counted after it."""
        self.position = self._upto = position
        self._ahead, self._loads = {}, self.replica.loads

    def _take(self, after: Position, entries: list[Entry]) -> None:
        """Count what the replica has just read after a position, where that is what comes next."""
        model = self.replica.model
        if self._token is None or after != self._upto or model is None or len(self._ahead) >= STEP:
            return
        names = Names.of(model.experiment)
        if names.slices:
            return  # feedback's slice is that of its decision, which may have to be looked up
        try:
            fold(self._ahead, entries, names, {})
        except UNREADABLE:  # reading it again will tell
            self._begin(self.position)
        else:
            self._upto = entries[-1].position

    def _write(self, token: bytes) -> bool:
        """Fold and write up to `STEP` entries, or what is counted already; False where the write was refused."""
        name, model = self.replica.name, self.replica.model
        if self._loads != self.replica.loads:  # what was counted may have gone from the log
            self._begin(self.position)
        after, sums, entries = self._upto, self._ahead, list[Entry]()
        if after == self.position:
            entries = [entry for entry in self.store.read(name, after, STEP) if entry.position <= self.replica.position]
            after = entries[-1].position if entries else after
        if after == self.position or model is None:
            self.is_behind = False
            return True
        rows = dict[str, bytes]()
        try:
            if entries:
                sums = counted(self.store, name, entries, Names.of(model.experiment))
            rows = folded(self.store, name, self.position, sums, after)
        except UNREADABLE:  # the series must not keep the log from being trimmed
            log.exception("%s: entries up to %s are not counted in its series", name, after.text().decode())
        except Moved:
            return False
        before_ms = self.position.ms
        if not self.store.write_series(name, token, self.position, after, rows, gone(before_ms, after.ms)):
            return False
        self._begin(after)
        self.is_behind = after < self.replica.position
        return True


class Moved(Exception):  # noqa: N818
    """Another server has written the series meanwhile."""


def counted(store: Store, name: str, entries: list[Entry], names: Names) -> Sums:
    """What these entries, which follow each other, add to the buckets."""
    sums: Sums = {}
    fold(sums, entries, names, store.several(name, sorted(strangers(entries))) if names.slices else {})
    return sums


def folded(store: Store, name: str, before: Position, sums: Sums, after: Position) -> dict[str, bytes]:
    """The rows that sums, of the entries between two positions, change, as they are then.

    Raises:
        Moved: the store's rows are not folded up to `before`.
    """
    changes = list(touched(sums, after.ms))
    cursor, rows = store.series(name, list(dict.fromkeys(row for row, _ in changes)))
    if cursor != before:
        raise Moved
    buckets = {row: unpacked(value) for row, value in rows.items()}
    for row, added in changes:
        put(buckets.setdefault(row, []), added)
    return {row: packed(of) for row, of in buckets.items()}
