"""The thread that follows every experiment's log: reads, folds, refreshes, and writes checkpoints where elected.

Loading and folding stay off the event loop. Reads are paced: a batch of many entries costs far less an entry than many
batches of few. Refreshing takes at most a quarter of the time, so that decisions keep theirs.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from bandit.checkpoint import Checkpointer
from bandit.errors import CorruptLog, Problem, StoreUnavailable
from bandit.replica import Replica
from bandit.store import Store
from bandit.trim import trim

log = logging.getLogger(__name__)
T = TypeVar("T")

PACE = 0.01  # seconds between two reads while the log grows
IDLE_PACE = 0.02  # while it does not: what an event waits at most before it is seen
HOUSEKEEPING = 1.0  # seconds between two looks for new experiments
CHECK = 5.0  # seconds between two comparisons of an arm with its checkpoint
TRIM = 30.0  # seconds between two trims
UNREADABLE = CorruptLog, OverflowError, Problem, struct.error, ValueError, IndexError  # of one experiment's data
FULL = 0.8  # of the store's memory: from there on people are told
AHEAD_MS = 60_000  # a log this far ahead of the clock is an alarm: windows are judged by it


class Follower(threading.Thread):
    """Follows the logs. `ready` is set once every experiment is folded up to the end its log had at the start."""

    def __init__(
        self, store: Store, holder: bytes, *, lease_seconds: float, checkpoint_seconds: float, grace_ms: int
    ) -> None:
        super().__init__(name="follower", daemon=True)
        self.store, self.holder, self.grace_ms = store, holder, grace_ms
        self.lease_seconds, self.checkpoint_seconds = lease_seconds, checkpoint_seconds
        self.replicas: dict[str, Replica] = {}
        self.checkpointers: dict[str, Checkpointer] = {}
        self.ready, self.stopping, self.woken = threading.Event(), threading.Event(), threading.Event()
        self.failed: BaseException | None = None
        self.store_down = self._told = False
        self._failed_at = 0.0
        self.suspicious = False  # somebody has seen acknowledged data vanish: check every position
        self._due = dict.fromkeys(("housekeeping", "check", "trim"), 0.0)
        self._checked = 0
        self._full = False
        self._wanted: list[str] = []

    def run(self) -> None:
        """Follow until told to stop; then fold the rest and write the last checkpoint."""
        try:
            while not self.stopping.is_set():
                self._guarded(self._round)
            self._guarded(self._last)
        except BaseException as error:  # told by the worker, which ends
            self.failed = error

    def want(self, name: str) -> None:
        """Read now: somebody waits for what has been written to this experiment."""
        self._wanted.append(name)
        self.woken.set()

    def stop(self) -> None:
        """Fold the rest, write the last checkpoint, end."""
        self.stopping.set()
        self.woken.set()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run one piece of work; a store that is away is waited for, not an error."""
        try:
            work()
            self.store_down = False
            # One that takes no writes answers every read: for as long as a heartbeat may stand, nothing has failed.
            if self._told and time.monotonic() - self._failed_at > self.lease_seconds:
                log.warning("the store answers again")
                self._told = False
        except StoreUnavailable as error:
            if not self._told:
                log.error("decisions wait, and are refused after a while: %s", error)
            self.store_down = self._told = True
            self._failed_at = time.monotonic()
            self.stopping.wait(0.1)

    def _round(self) -> None:
        start = time.monotonic()
        if self.store.reconnected() or self.suspicious:
            self._check_positions()
        while self._wanted:
            self._take_up(self._wanted.pop())
        if self._is_due("housekeeping", HOUSEKEEPING):
            self._housekeep()
        grown = sum(self._sound(replica, replica.step) or 0 for replica in self._living())
        refreshing = time.monotonic()
        for replica in self._living():
            self._sound(replica, replica.refresh)
        spent = time.monotonic() - refreshing
        for replica in self._living():
            self.checkpointers[replica.name].step(time.monotonic())
        pace = PACE if grown or any(r.model and r.model.pending for r in self._living()) else IDLE_PACE
        self.woken.wait(max(3 * spent, pace - (time.monotonic() - start), 0.001))
        self.woken.clear()

    def _check_positions(self) -> None:
        """Check the store and where every replica stands; to be done again if the store fails meanwhile."""
        self.suspicious = False
        try:
            self.store.check()
            for replica in self._living():
                self._sound(replica, replica.check_position)
        except StoreUnavailable:
            self.suspicious = True
            raise

    def _sound(self, replica: Replica, work: Callable[[], T]) -> T | None:
        """Do a piece of one experiment's work; where its data cannot be read it fails alone."""
        try:
            return work()
        except UNREADABLE as error:
            log.exception("%s: its log cannot be folded; the experiment is not served here", replica.name)
            replica.failed, replica.model = error, None
            return None

    def _living(self) -> Iterable[Replica]:
        return [replica for replica in self.replicas.values() if replica.failed is None]

    def _housekeep(self) -> None:
        """Take up new experiments, and now and then compare, trim and look at the clock."""
        for name in self.store.names():
            self._take_up(name)
        self.ready.set()
        now_ms = self.store.now_ms()
        for replica in self._living():
            if replica.position.ms > now_ms + AHEAD_MS:
                ahead = (replica.position.ms - now_ms) / 1000
                log.error("%s: the log is %.0f s ahead of the store's clock", replica.name, ahead)
        if self._is_due("check", CHECK):
            self._look_at_memory()
            self._checked += 1
            for replica in self._living():
                if arms := replica.shape[0]:
                    self._sound(replica, partial(replica.check_row, self._checked % arms))
        if self._is_due("trim", TRIM):
            self._trim()

    def _look_at_memory(self) -> None:
        """Tell early that the store will refuse decisions, and when that has passed."""
        used, most = self.store.memory()
        full = most > 0 and used > FULL * most
        if full and not self._full:
            log.warning(
                "the store uses %d of %d MiB: at its end decisions are refused until older ones leave the log;"
                " give it more, or shorten reward_window", used >> 20, most >> 20,
            )  # fmt: skip
        elif self._full and not full:
            log.warning("the store has room again: it uses %d of %d MiB", used >> 20, most >> 20)
        self._full = full

    def _take_up(self, name: str) -> None:
        """Load an experiment and fold its log up to the end."""
        if name in self.replicas:
            return
        replica = Replica(name, self.store)
        try:
            replica.load()
            replica.catch_up()
        except UNREADABLE as error:
            log.exception("%s: it cannot be loaded; the experiment is not served here", name)
            replica.failed, replica.model = error, None
        self.checkpointers[name] = Checkpointer(
            replica, self.store, self.holder, self.lease_seconds, self.checkpoint_seconds
        )
        self.replicas[name] = replica

    def _trim(self) -> None:
        """Trim what is ours to trim, once folded past the checkpoints: then no config in the log is news to us."""
        for replica in self._living():
            token, model = self.checkpointers[replica.name].token, replica.model
            if token is None or model is None or replica.position < self.store.cursor(replica.name, "sums"):
                continue
            try:
                gone = trim(self.store, replica.name, token, model.experiment, self.grace_ms)
            except UNREADABLE:
                log.exception("%s: its log cannot be read at the start, so it is not trimmed", replica.name)
                continue
            if gone:
                log.info("%s: %d entries trimmed", replica.name, gone)
                self._due["trim"] = 0.0  # there may be more

    def _last(self) -> None:
        for replica in self._living():
            self._sound(replica, replica.fold_to_end)
            if replica.failed is None:
                self.checkpointers[replica.name].step(time.monotonic(), last=True)

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + seconds
        return True
