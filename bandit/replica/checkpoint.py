"""Checkpoints: each arm's sums at a position of the log, written by one elected server and read by every new one.

A pass starts at a position P and writes the row of every arm that was dirty then, a slice at a time. When all are
written it moves the cursor of the table `sums` to P: an arm whose row is older than P had no event between its row
and P. What the rows and the cursor mean is in `bandit.replica.folded`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence, Set

import numpy as np

from bandit.errors import StoreUnavailable, StoreUnsuitable
from bandit.log.records import START
from bandit.replica.replica import Replica
from bandit.replica.series_writer import SeriesWriter
from bandit.store.protocol import Ahead, Archived, Lease, Store, is_ahead

log = logging.getLogger(__name__)

SLICE = 1 << 20  # bytes of rows in one script
BEAT = 1.0  # seconds between two beats of the leases
LAST = "bandit_last_checkpoint_timestamp_seconds"
BUDGET = 0.05  # seconds of slices in one turn


class Checkpointer:
    """Writes one experiment's checkpoints while its server holds the lease.

    The follower's thread calls `step`, the thread of `Beats` calls `heard`. They need no lock: the script of each write
    checks the token.
    """

    def __init__(self, replica: Replica, store: Store, holder: bytes, lease_seconds: float, seconds: float) -> None:
        self.replica, self.store, self.holder = replica, store, holder
        self.lease_seconds, self.seconds = lease_seconds, seconds
        self.token: bytes | None = None
        self.archive: Archived | None = None  # as the last trim found it
        self.series = SeriesWriter(replica, store)
        self._seen: tuple[Lease | None, float] = (None, -np.inf)
        self._acting: bytes | None = None  # the token that the pass under way began with
        self._written = -np.inf
        self._todo: list[int] | None = None  # arms of the pass under way
        self._start = START  # where it started

    @property
    def is_writing(self) -> bool:
        """Whether a pass is under way."""
        return self._todo is not None or self.series.is_behind

    def step(self, now: float, *, last: bool = False) -> bool:
        """Write slices for up to `BUDGET` seconds, if it is time; `last` writes all. `now` is a monotonic clock's.

        Returns:
            False where a write was refused: the lease is another's now, or the log has lost an entry.
        """
        token = self.token
        if token != self._acting:
            self._acting, self._todo, self._written = token, None, now
        if token is None or self.replica.model is None:
            self.series.rest()
            return True
        if last or (self._todo is None and self._is_due(now)):
            self._todo, self._start = list(self.replica.dirty), self.replica.position
            self.replica.grown_bytes = 0
        end = time.monotonic() + BUDGET
        while self._todo is not None:
            if not self._slice(token, now):
                self._todo, self._written = None, now
                return False
            if not last and time.monotonic() > end:
                break
        self.series.step(token, now, last=last)
        return True

    def heard(self, answer: bool | Lease | None, now: float) -> None:
        """Act on the store's answer: whether our beat counted, or the lease, to be taken if its beat stands still."""
        if isinstance(answer, bool):
            if not answer and self.token is not None:
                taken = self.store.lease(self.replica.name) is not None
                event = "another server has taken over the checkpoints" if taken else "the lease has vanished"
                log.warning("%s: %s", self.replica.name, event)
                self.token, self._seen = None, (None, now)
            return
        if answer != self._seen[0] or answer is None:
            self._seen = answer, now
            if answer is not None:
                return
        if answer is None or now - self._seen[1] >= self.lease_seconds:
            self.token = self.store.take_lease(self.replica.name, answer, self.holder)

    def _is_due(self, now: float) -> bool:
        """Whether to begin a pass: the log has grown by more bytes than the dirty rows have, or it is time."""
        if not self.replica.dirty and self.replica.grown_bytes == 0:
            return False
        _, m, d = self.replica.shape
        row = 8 * (d * (d + 1) // 2 + m * d + m * (m + 1)) + 24
        return self.replica.grown_bytes > len(self.replica.dirty) * row or now - self._written >= self.seconds

    def _slice(self, token: bytes, now: float) -> bool:
        """Write up to `SLICE` bytes of rows, at the position folded up to now; after the last, move the cursor.

        An arm leaves the pass only when its row is written: a store that fails meanwhile must not let the cursor pass
        it. One that is no longer dirty was loaded anew, or is of an older generation.
        """
        todo = [arm for arm in self._todo or () if arm in self.replica.dirty]
        rows, size = [], 0
        while todo and size < SLICE:
            row = self.replica.row(todo.pop())
            rows.append(row)
            size += len(row.sums)
        done = not todo
        if not self.store.write_rows(self.replica.name, "sums", token, rows, self._start if done else None):
            return False
        for row in rows:
            self.replica.dirty.pop(row.arm, None)
        if done:
            self.replica.freshness.counters.add("bandit_checkpoints_total", self.replica.name)
            self.replica.freshness.counters.set(LAST, time.time(), self.replica.name)
        self._todo = None if done else todo
        self._written = now if done else self._written
        return True


class Beats(threading.Thread):
    """Raises the beats of the leases held and watches the others: one message a second, however long a fold takes.

    Args:
        store: where they are.
        checkpointers: those of the experiments that are served.
        wrote: called with the error of a write, or None where it succeeded: a store that refuses writes is noticed.
        lost: called when a lease of ours is no longer ours.
    """

    def __init__(
        self,
        store: Store,
        checkpointers: Callable[[], Sequence[Checkpointer]],
        wrote: Callable[[Exception | None], None],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="beats", daemon=True)
        self.store, self.checkpointers, self.wrote, self.lost = store, checkpointers, wrote, lost
        self.stopping, self.woken = threading.Event(), threading.Event()
        self._unreadable: Set[str] = set()  # leases
        self.offset_ms = 0  # how far the store's clock is ahead of ours

    def run(self) -> None:
        """Beat once a second until stopped."""
        while not self.stopping.is_set():
            try:
                self.beat(time.monotonic())
            except (StoreUnavailable, StoreUnsuitable) as error:
                self.wrote(error)
            except Exception:
                log.exception("the leases could not be renewed")  # their beats stand still, and others take them
            self.woken.wait(BEAT)
            self.woken.clear()

    def beat(self, now: float) -> None:
        """Beat once, and probe whether the store takes writes and whether its clock is right."""
        living = {checkpointer.replica.name: checkpointer for checkpointer in self.checkpointers()}
        held = {name: checkpointer.token for name, checkpointer in living.items()}
        answers = self.store.attend(held) if held else {}
        for name, answer in answers.items():
            if living[name].token == held[name]:
                living[name].heard(answer, now)
                if answer is False:
                    self.lost()
        for name in held.keys() - answers.keys() - self._unreadable:
            log.error("%s: its lease cannot be read: nobody writes checkpoints, and its log grows", name)
        self._unreadable = held.keys() - answers.keys()
        self.store.probe()
        store, ours = self.store.now_ms(), round(time.time() * 1000)
        self.offset_ms = store - ours
        newest = max((checkpointer.replica.position.ms for checkpointer in living.values()), default=0)
        self.wrote(Ahead(store, newest).problem(ours) if is_ahead(store, ours, newest) else None)

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        self.woken.set()
