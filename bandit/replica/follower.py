"""The thread that follows every experiment's log: reads, folds, refreshes, and writes checkpoints where elected.

Loading and folding stay off the event loop. Reads are paced: one long read costs far less than many short ones, and
each time this thread wakes the event loop waits for it. Logs that nobody writes to are left to the `Watcher`, so an
idle server asks its store a few things a second. Refreshing takes at most a quarter of the thread's time, or half of it
while arms wait, so that decisions keep theirs.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from bandit.core.engine import model_bytes
from bandit.errors import CorruptLog, StoreUnavailable, StoreUnsuitable
from bandit.replica.checkpoint import Beats, Checkpointer
from bandit.replica.figures import StoreMemory
from bandit.replica.replica import TURN, UNREADABLE, Replica
from bandit.replica.trim import trim
from bandit.replica.watcher import BUSY, Watcher
from bandit.store.protocol import Store
from bandit.telemetry.counters import Counters

log = logging.getLogger(__name__)
T = TypeVar("T")

PACE = 0.015  # seconds between two reads of a log that grows: what an entry waits at most before it is seen
BEHIND = 0.005  # seconds between two rounds while arms wait to be refreshed
DIRECTLY = 4  # logs: of more, one command asks first which have grown
WRITING = 0.1  # seconds between two looks at which checkpoints are due
NICE = 5  # of the thread: where a core is short it has a quarter of it, and decisions the rest
HOUSEKEEPING = 1.0  # seconds between two looks for new experiments, and at all logs
CHECK = 5.0  # seconds between two comparisons of an arm with its checkpoint
TRIM = 30.0  # seconds between two trims
RETRY = 60.0  # seconds between two tries to load what could not be loaded, at most
FORGET = 60.0  # seconds between two looks for deleted experiments that can be forgotten
SETTLED_MS = 60_000  # a reservation of memory that is older belongs to an experiment that is here, or to none
CALM = 2.0  # seconds without a refusal before the store is said to answer again: a full one takes a write at times
SWEEPING = 0.02  # seconds of deleting their keys in one round
TRIMMING = 0.2  # seconds of trimming in one round
AHEAD = 600.0  # seconds between two alarms of one log
AHEAD_MS = 60_000  # a log this far ahead of the clock is an alarm: windows are judged by it


class Follower(threading.Thread):
    """Follows the logs. `ready` is set once every experiment is folded up to the end its log had at the start."""

    def __init__(
        self, store: Store, holder: bytes, *, lease_seconds: float, checkpoint_seconds: float, grace_ms: int,
        budget: int = 2**63, forgot: Callable[[str], None] = lambda _: None, counters: Counters | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name="follower", daemon=True)
        self.store, self.holder, self.grace_ms = store, holder, grace_ms
        self.lease_seconds, self.checkpoint_seconds = lease_seconds, checkpoint_seconds
        self.counters = counters or Counters()
        self.budget, self.forgot = budget, forgot  # bytes for all models; called when an experiment is forgotten
        self.replicas: dict[str, Replica] = {}
        self.checkpointers: dict[str, Checkpointer] = {}
        self.ready, self.stopping, self.woken = threading.Event(), threading.Event(), threading.Event()
        self.failed: BaseException | None = None
        self.beats = Beats(store, self._served, self.wrote, self._lost)
        self.watcher, self._dozing = Watcher(store, self._stir), False
        self.refusing = self.away = self._outage_logged = False  # it refuses writes; it did not answer when last asked
        self.secret, self.unsuitable = b"", ""  # keys user ids' hashes; why the store must not be used, found later
        self.reason, self._refused = "", -math.inf  # why the store could not be used, and when that was last so
        self._suspicious = False
        self._due = dict.fromkeys(("housekeeping", "check", "trim", "forget", "sweep"), 0.0)
        self._logging = threading.Lock()
        self._retries: dict[str, tuple[float, float]] = {}  # of what failed: when next, and how long after that
        self._checked, self.store_memory = 0, StoreMemory()
        self._wanted: list[str] = []
        self._sweeping: set[tuple[str, int]] = set()  # deleted experiments, with versions, whose keys are being deleted
        self._swept = set[tuple[str, int]]()  # those whose keys are deleted: forgotten an hour after their deletion
        self._sweep_cursor = 0  # how far the sweep has come

    def run(self) -> None:
        """Follow until stopped; then fold the rest and write the last checkpoint."""
        try:
            self.beats.start()
            self.watcher.start()
            if sys.platform == "linux":  # elsewhere a priority is that of the whole process
                with suppress(OSError):  # a sandbox may forbid it
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
            while not self.stopping.is_set():
                self._guarded(self._round)
            self._guarded(self._last)
        except BaseException as error:  # the worker reports it and ends
            self.failed = error
        finally:
            self.beats.stop()
            self.watcher.stop()

    def want(self, name: str) -> None:
        """Read this experiment's log now: somebody waits for what was written to it."""
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
        except (StoreUnavailable, StoreUnsuitable) as error:
            if isinstance(error, StoreUnsuitable):
                if not self.ready.is_set():
                    raise  # a start on such a store fails with this error
                self.unsuitable, self.suspicious = str(error), True
            self._note_outage(error)
            self.away = True
            self.stopping.wait(0.1)
        else:
            self.away = False
            if self._outage_logged and not self.refusing and time.monotonic() - self._refused > CALM:
                self._outage_logged = False
                log.warning("the store answers again")

    @property
    def store_down(self) -> bool:
        """Whether nothing can be decided: the store does not answer, or took no write when last asked to."""
        return self.away or self.refusing

    def wrote(self, error: Exception | None) -> None:
        """Take note of how the last write to the store ended, whoever wrote: readiness depends on it."""
        if isinstance(error, StoreUnsuitable) and not self.ready.is_set():
            return  # the start itself fails with this error
        self.refusing = error is not None
        if error is not None:
            self._note_outage(error)

    def _note_outage(self, error: Exception) -> None:
        """Remember why the store cannot be used; log it once an outage."""
        self._refused, self.reason = time.monotonic(), str(error)
        with self._logging:  # several threads meet an outage at once
            logged, self._outage_logged = self._outage_logged, True
        if not logged:
            self.counters.add("bandit_store_outages_total")
            log.error("requests are refused, or answered unlogged where that is configured: %s", error)

    @property
    def suspicious(self) -> bool:
        """Whether acknowledged data may have vanished: then every position is checked, at once."""
        return self._suspicious

    @suspicious.setter
    def suspicious(self, now: bool) -> None:
        self._suspicious = now
        if now:
            self.woken.set()

    def _lost(self) -> None:
        """A lease has gone: to another server, or with all the rest."""
        self.suspicious = True

    def _stir(self) -> None:
        """Entries have come where none was expected; a thread that will look soon need not be woken."""
        if self._dozing:
            self.woken.set()

    def _served(self) -> list[Checkpointer]:
        return [each for each in list(self.checkpointers.values()) if each.replica.model is not None]

    def _round(self) -> None:
        start = time.monotonic()
        if self.suspicious or self.store.reconnected():
            self._check_positions()
        wanted = set[str]()
        while self._wanted:
            wanted.add(name := self._wanted.pop())
            self._take_up(name)
        if self._is_due("housekeeping", HOUSEKEEPING):
            self._housekeep()
        grown = self._grown(wanted) if wanted or self._is_due("read", PACE - BEHIND) else []
        for replica in grown:
            replica.busy = (self._isolated(replica, partial(replica.step, TURN)) or 0) >= BUSY
        self.watcher.watch(self._living())
        refreshing = time.monotonic()
        waiting = [replica for replica in self._living() if not replica.is_fresh]
        for replica in waiting:
            self._isolated(replica, replica.refresh_some)
        spent = time.monotonic() - refreshing
        if grown or self._is_due("write", WRITING):
            for replica in self._living():
                self._isolated(replica, partial(self._checkpoint, replica))
        if self._due["trim"] <= time.monotonic():
            self._trim()
        self._pause(start, spent, behind=any(r.model and r.model.waiting for r in waiting))

    def _pause(self, start: float, spent: float, *, behind: bool) -> None:
        """Until the next round: soon while something goes on, else when the watcher, or somebody, wakes the thread."""
        now = time.monotonic()
        if behind:
            self.woken.wait(max(spent, start + BEHIND - now, 0.001))
        elif not self._is_calm():
            self.woken.wait(max(3 * spent, start + PACE - now, 0.001))
        else:
            self._dozing = True
            if self.watcher.waiting or not self.replicas:  # asked again: it may be over by now, and has woken nobody
                self.woken.wait(max(0.001, min(self._due["housekeeping"], self._due["trim"]) - now))
            self._dozing = False
        self.woken.clear()

    def _is_calm(self) -> bool:
        """Whether the watcher sees everything that has to be seen before the next housekeeping."""
        writing = any(each.is_writing for each in self.checkpointers.values())
        return not writing and all(map(self.watcher.covers, self._living()))

    def _checkpoint(self, replica: Replica) -> None:
        if not self.checkpointers[replica.name].step(time.monotonic()):
            replica.check_position()

    def _grown(self, wanted: set[str]) -> list[Replica]:
        """The replicas whose log has grown, or may have; the one that was read longest ago first."""
        living = {replica.name: replica for replica in self._living()}
        asked, now = self.watcher.left(living.values()) | (wanted & living.keys()), time.monotonic()
        everything = self._is_due("sweep", HOUSEKEEPING)
        if everything or len(asked) > DIRECTLY:
            asked = set(living) if everything else asked
            names = self.store.grown({name: living[name].position for name in asked})
            for name in asked.difference(names):
                living[name].busy, living[name].read_at = False, now
            asked = set(names)
        return sorted((living[name] for name in asked), key=lambda replica: replica.read_at)

    def _check_positions(self) -> None:
        """Check the store and every replica's position; if the store fails meanwhile, it is done again later."""
        self.suspicious = False
        try:
            self.store.check()
            self.unsuitable = ""
            for replica in self._living():
                self._isolated(replica, replica.check_position)
        except (StoreUnavailable, StoreUnsuitable):
            self.suspicious = True
            raise

    def _isolated(self, replica: Replica, work: Callable[[], T]) -> T | None:
        """Do a piece of one experiment's work; if its data cannot be read, only that experiment fails."""
        try:
            return work()
        except UNREADABLE as error:
            self._fail(replica, error, "its log cannot be folded")
            return None

    def _fail(self, replica: Replica, error: BaseException, what: str) -> None:
        """Stop serving an experiment until it can be loaded again: tried in the next round, then ever less often."""
        _, pause = self._retries.get(replica.name, (0.0, 0.0))
        unforeseen = pause == 0 and not isinstance(error, (CorruptLog, MemoryError))
        write = log.exception if unforeseen else log.error
        write("%s: %s (%s); the experiment is not served here", replica.name, what, error)
        self._retries[replica.name] = time.monotonic() + pause, min(RETRY, max(1.0, 2 * pause))
        replica.failed, replica.model = error, None

    def _living(self) -> Iterable[Replica]:
        return [replica for replica in self.replicas.values() if replica.failed is None]

    def _housekeep(self) -> None:
        """Take up new experiments, and now and then compare, trim and look at the clock."""
        for name in self.store.names():
            self._take_up(name)
        self._retry()
        self.secret = self.secret or self.store.secret()
        self.ready.set()
        self._forget()
        now_ms = self.store.now_ms()
        for replica in self._living():
            ahead = (replica.position.ms - now_ms) / 1000
            if ahead * 1000 > AHEAD_MS and self._is_due(f"ahead {replica.name}", AHEAD):
                log.error("%s: the log is %.0f s ahead of the store's clock", replica.name, ahead)
        if self._is_due("check", CHECK):
            self.store.check()
            self.store_memory.look(self.store)
            self._account(now_ms - SETTLED_MS)
            self._checked += 1
            for replica in self._living():
                if arms := replica.shape[0]:
                    self._isolated(replica, partial(replica.check_row, self._checked % arms))

    def _account(self, before_ms: int) -> None:
        """Correct the memory reserved for models, except recent reservations: their experiment may not be here yet."""
        reserved = self.store.reserved()
        settled = {name: size for name, (size, since) in reserved.items() if since < before_ms}
        wrong: dict[str, int | None] = {}
        for name, replica in self.replicas.items():
            size = model_bytes(*replica.shape)
            if replica.model is not None and (name not in reserved or settled.get(name, size) != size):
                wrong[name] = size
        wrong |= dict.fromkeys(name for name in settled if name not in self.replicas or self.replicas[name].deleted)
        if wrong:
            self.store.account(wrong)

    def _retry(self) -> None:
        """Try again to load what could not be loaded: it may have been changed while it was read, or mended since."""
        for name, (when, _) in list(self._retries.items()):
            if when <= time.monotonic():
                self._load(name)
                if (replica := self.replicas[name]).failed is None:
                    del self._retries[name]
                    if replica.model is not None:
                        log.warning("%s: it is served again", name)

    def _forget(self) -> None:
        """Delete the keys of deleted experiments, some of the store's keys at a time; an hour later forget the names.

        An experiment that was created again meanwhile is on the store's list, and is loaded anew.
        """
        if not self._sweeping and self._is_due("forget", FORGET):
            gone = {name: _version(replica) for name, replica in self.replicas.items() if replica.deleted}
            self._swept &= gone.items()
            for name in [name for name, version in self._swept if self.store.forget(name)]:
                del self.replicas[name], self.checkpointers[name]
                self.forgot(name)
            self._sweeping = gone.items() - self._swept
        end = time.monotonic() + SWEEPING
        while self._sweeping and time.monotonic() < end:
            self._sweep_cursor = self.store.sweep([name for name, _ in self._sweeping], self._sweep_cursor)
            if self._sweep_cursor == 0:
                self._swept |= self._sweeping
                self._sweeping = set()

    def _take_up(self, name: str) -> None:
        """Load an experiment that is not known yet."""
        if name not in self.replicas:
            self._load(name)

    def _load(self, name: str) -> None:
        """Load an experiment and fold its log up to the end."""
        replica = Replica(name, self.store, self._room(name), self.counters)
        try:
            replica.load()
            replica.catch_up()
        except UNREADABLE as error:
            self._fail(replica, error, "it cannot be loaded")
        made = Checkpointer(replica, self.store, self.holder, self.lease_seconds, self.checkpoint_seconds)
        self.checkpointers[name], self.replicas[name] = made, replica
        self.beats.woken.set()

    def _room(self, name: str) -> int:
        """Bytes that the models of all others leave to this one."""
        others = [replica for other, replica in self.replicas.items() if other != name]
        return self.budget - sum(model_bytes(*each.shape) for each in others)

    def _trim(self) -> None:
        """Trim the logs whose lease this server holds, once folded past the checkpoints: then it knows every config."""
        end, more = time.monotonic() + TRIMMING, False
        for replica in self._living():
            held, model = self.checkpointers[replica.name], replica.model
            if (token := held.token) is None or model is None:
                held.archive = None
                continue
            held.archive = self.store.archived(replica.name)
            total, counted = 0, held.series.position
            try:
                if replica.position < self.store.cursor(replica.name, "sums"):
                    continue
                while gone := trim(self.store, replica.name, token, model.experiment, self.grace_ms, counted):
                    total += gone
                    if time.monotonic() > end:
                        more = True
                        break
            except UNREADABLE:
                log.exception("%s: the start of its log cannot be read, so it is not trimmed", replica.name)
            if total:
                self.counters.add("bandit_trimmed_entries_total", replica.name, by=total)
                log.info("%s: %d entries trimmed", replica.name, total)
        self._due["trim"] = 0.0 if more else time.monotonic() + TRIM

    def _last(self) -> None:
        for replica in self._living():
            self._isolated(replica, replica.fold_to_end)
            if replica.failed is None:
                self.checkpointers[replica.name].step(time.monotonic(), last=True)

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True


def _version(replica: Replica) -> int:
    return replica.config.version if replica.config else 0
