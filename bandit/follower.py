"""The thread that follows every experiment's log: reads, folds, refreshes, and writes checkpoints where elected.

Loading and folding stay off the event loop. Reads are paced: a batch of many entries costs far less an entry than many
batches of few. Refreshing takes at most a quarter of the time, so that decisions keep theirs; half, where arms wait.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from bandit.checkpoint import Beats, Checkpointer
from bandit.errors import CorruptLog, Problem, StoreUnavailable
from bandit.replica import TURN, Replica
from bandit.sizing import model_bytes
from bandit.store import Store
from bandit.trim import trim

log = logging.getLogger(__name__)
T = TypeVar("T")

PACE = 0.01  # seconds between two reads while the log grows
IDLE_PACE = 0.02  # while it does not: what an event waits at most before it is seen
HOUSEKEEPING = 1.0  # seconds between two looks for new experiments
CHECK = 5.0  # seconds between two comparisons of an arm with its checkpoint
TRIM = 30.0  # seconds between two trims
UNREADABLE = (  # of one experiment's data
    CorruptLog, OverflowError, Problem, struct.error, ValueError, IndexError, KeyError, TypeError, MemoryError,
)  # fmt: skip
RETRY = 60.0  # seconds between two tries to load what could not be loaded, at most
FORGET = 60.0  # seconds between two looks for deleted experiments whose hour is over
SWEEPING = 0.02  # seconds of that in one round
TRIMMING = 0.2  # seconds of trimming in one round
FULL = 0.8  # of the store's memory: from there on people are told
AHEAD_MS = 60_000  # a log this far ahead of the clock is an alarm: windows are judged by it


class Follower(threading.Thread):
    """Follows the logs. `ready` is set once every experiment is folded up to the end its log had at the start."""

    def __init__(
        self, store: Store, holder: bytes, *, lease_seconds: float, checkpoint_seconds: float, grace_ms: int,
        budget: int = 2**63,
    ) -> None:  # fmt: skip
        super().__init__(name="follower", daemon=True)
        self.store, self.holder, self.grace_ms = store, holder, grace_ms
        self.lease_seconds, self.checkpoint_seconds = lease_seconds, checkpoint_seconds
        self.budget = budget  # bytes of the models of all experiments
        self.replicas: dict[str, Replica] = {}
        self.checkpointers: dict[str, Checkpointer] = {}
        self.ready, self.stopping, self.woken = threading.Event(), threading.Event(), threading.Event()
        self.failed: BaseException | None = None
        self.beats = Beats(store, self._served, self.wrote)
        self.refusing = self._away = self._told = False  # what the store does with writes, and with reads
        self.suspicious = False  # somebody has seen acknowledged data vanish: check every position
        self._due = dict.fromkeys(("housekeeping", "check", "trim", "forget"), 0.0)
        self._retries: dict[str, tuple[float, float]] = {}  # of what failed: when next, and how long after that
        self._checked = 0
        self._full = False
        self._wanted: list[str] = []
        self._sweeping: list[str] = []  # deleted experiments that are being forgotten
        self._swept = 0  # how far that is

    def run(self) -> None:
        """Follow until told to stop; then fold the rest and write the last checkpoint."""
        try:
            self.beats.start()
            while not self.stopping.is_set():
                self._guarded(self._round)
            self._guarded(self._last)
        except BaseException as error:  # told by the worker, which ends
            self.failed = error
        finally:
            self.beats.stop()

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
        except StoreUnavailable as error:
            self._tell(error)
            self._away = True
            self.stopping.wait(0.1)
        else:
            self._away = False
            if self._told and not self.refusing:
                self._told = False
                log.warning("the store answers again")

    @property
    def store_down(self) -> bool:
        """Whether nothing can be decided: the store does not answer, or took no write when last asked to."""
        return self._away or self.refusing

    def wrote(self, error: Exception | None) -> None:
        """What became of the last write to the store, whoever tried: readiness follows it."""
        self.refusing = error is not None
        if error is not None:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._told:
            log.error("decisions wait, and are refused after a while: %s", error)
        self._told = True

    def _served(self) -> list[Checkpointer]:
        return [each for each in list(self.checkpointers.values()) if each.replica.model is not None]

    def _round(self) -> None:
        start = time.monotonic()
        if self.store.reconnected() or self.suspicious:
            self._check_positions()
        while self._wanted:
            self._take_up(self._wanted.pop())
        if self._is_due("housekeeping", HOUSEKEEPING):
            self._housekeep()
        grown, polled = self._grown(), time.monotonic()
        for replica in grown:
            self._sound(replica, partial(replica.step, TURN))
        refreshing = time.monotonic()
        for replica in self._living():
            if replica not in grown:
                replica.read_at = polled
            self._sound(replica, replica.refresh)
        spent = time.monotonic() - refreshing
        for replica in self._living():
            if not self.checkpointers[replica.name].step(time.monotonic()):
                self._sound(replica, replica.check_position)
        if self._due["trim"] <= time.monotonic():
            self._trim()
        behind = any(r.model and r.model.pending for r in self._living())
        pace = PACE if grown or behind else IDLE_PACE
        self.woken.wait(max((1 if behind else 3) * spent, pace - (time.monotonic() - start), 0.001))
        self.woken.clear()

    def _grown(self) -> list[Replica]:
        """Whose log has grown; the one that waited for longest first."""
        living = {replica.name: replica for replica in self._living()}
        names = self.store.grown({name: replica.position for name, replica in living.items()})
        return sorted((living[name] for name in names), key=lambda replica: replica.read_at)

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
            self._fail(replica, error, "its log cannot be folded")
            return None

    def _fail(self, replica: Replica, error: BaseException, what: str) -> None:
        """Serve an experiment no more, until it can be loaded again: with the next round, then less and less often."""
        _, pause = self._retries.get(replica.name, (0.0, 0.0))
        told = log.exception if pause == 0 else log.error
        told("%s: %s (%s); the experiment is not served here", replica.name, what, error)
        self._retries[replica.name] = time.monotonic() + pause, min(RETRY, max(1.0, 2 * pause))
        replica.failed, replica.model = error, None

    def _living(self) -> Iterable[Replica]:
        return [replica for replica in self.replicas.values() if replica.failed is None]

    def _housekeep(self) -> None:
        """Take up new experiments, and now and then compare, trim and look at the clock."""
        for name in self.store.names():
            self._take_up(name)
        self._retry()
        self.ready.set()
        self._forget()
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

    def _retry(self) -> None:
        """Load again what could not be loaded: a change may have come between two questions, or the fault is mended."""
        for name, (when, _) in list(self._retries.items()):
            if when <= time.monotonic():
                self._load(name)
                if self.replicas[name].failed is None:
                    del self._retries[name]
                    log.warning("%s: it is served again", name)

    def _forget(self) -> None:
        """Forget deleted experiments whose hour is over, with all that is left of them: a piece of all keys at a time.

        One that has been made again meanwhile is on the store's list, and taken up anew.
        """
        if not self._sweeping and self._is_due("forget", FORGET):
            self._sweeping = self.store.gone([name for name, replica in self.replicas.items() if replica.deleted])
        end = time.monotonic() + SWEEPING
        while self._sweeping and time.monotonic() < end:
            self._swept = self.store.sweep(self._sweeping, self._swept)
            if self._swept == 0:
                for name in self._sweeping:
                    if self.replicas[name].deleted:
                        del self.replicas[name], self.checkpointers[name]
                self._sweeping = []

    def _take_up(self, name: str) -> None:
        """Load an experiment that is not known yet."""
        if name not in self.replicas:
            self._load(name)

    def _load(self, name: str) -> None:
        """Load an experiment and fold its log up to the end."""
        replica = Replica(name, self.store, self.room(name))
        try:
            replica.load()
            replica.catch_up()
        except UNREADABLE as error:
            self._fail(replica, error, "it cannot be loaded")
        made = Checkpointer(replica, self.store, self.holder, self.lease_seconds, self.checkpoint_seconds)
        self.checkpointers[name], self.replicas[name] = made, replica
        self.beats.woken.set()

    def room(self, name: str) -> int:
        """Bytes that the models of all others leave to this one; from any thread."""
        others = [replica for other, replica in list(self.replicas.items()) if other != name]
        return self.budget - sum(model_bytes(*each.shape) for each in others)

    def _trim(self) -> None:
        """Trim what is ours to trim, once folded past the checkpoints: then no config in the log is news to us."""
        end, more = time.monotonic() + TRIMMING, False
        for replica in self._living():
            token, model = self.checkpointers[replica.name].token, replica.model
            if token is None or model is None or replica.position < self.store.cursor(replica.name, "sums"):
                continue
            total = 0
            try:
                while gone := trim(self.store, replica.name, token, model.experiment, self.grace_ms):
                    total += gone
                    if time.monotonic() > end:
                        more = True
                        break
            except UNREADABLE:
                log.exception("%s: its log cannot be read at the start, so it is not trimmed", replica.name)
            if total:
                log.info("%s: %d entries trimmed", replica.name, total)
        self._due["trim"] = 0.0 if more else time.monotonic() + TRIM

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
