"""One blocking read over the logs that nobody writes to, so that the follower need not ask for them again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping

from bandit.log.records import Position
from bandit.replica.replica import Replica
from bandit.store.protocol import Store

log = logging.getLogger(__name__)

BLOCK = 1.0  # seconds of one read: a connection that died unseen is noticed then, or when the store's timeout ends
GATHER = 0.02  # seconds that the first entry after a silence waits for others, so that they are folded together
BUSY = 4  # entries a turn: from so many on the follower goes on looking at a log itself
AGAIN = 0.1  # seconds after a read that failed


class Watcher(threading.Thread):
    """Waits for entries beyond some positions, and wakes the follower.

    A read that is under way is never broken off, as not every store lets its users do that: what is not in it, or has
    moved since, the follower asks for itself until the read is over.

    Args:
        store: waits on a connection of its own.
        wake: called, from this thread, when a read is over that somebody waits for.
    """

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        super().__init__(name="watcher", daemon=True)
        self.store, self.wake = store, wake
        self._asked, self._stopping = threading.Event(), threading.Event()
        self._watched: Mapping[str, Position] = {}
        self._found: list[str] = []  # what has grown, since it was last taken
        self._again = True  # whether a read that found nothing goes on

    @property
    def waiting(self) -> bool:
        """Whether a read is under way."""
        return bool(self._watched)

    def covers(self, replica: Replica) -> bool:
        """Whether an entry after its position would be noticed now."""
        return self._watched.get(replica.name) == replica.position

    def left(self, living: Iterable[Replica]) -> set[str]:
        """What the follower has to look at itself: what has grown, or is busy, or is not in the read under way."""
        if self.waiting:
            return {each.name for each in living if each.busy or not self.covers(each)}
        found, self._found = self._found, []
        return {each.name for each in living if each.busy or each.name in found}

    def watch(self, living: Iterable[Replica]) -> None:
        """Wait for entries of those that are not busy, as soon as what is waited for now is over."""
        quiet = [replica for replica in living if not replica.busy]
        if not self.waiting and quiet:
            self._again, self._watched = True, {replica.name: replica.position for replica in quiet}
            self._asked.set()
        elif self.waiting and not all(map(self.covers, quiet)):
            self._again = False  # the read under way is the last of its kind

    def run(self) -> None:
        """Until told to stop."""
        while not self._stopping.is_set():
            self._asked.wait()
            self._asked.clear()
            if self._watched:
                self._found = self._read()
                if self._found:
                    self._stopping.wait(GATHER)
                self._watched = {}
                self.wake()

    def _read(self) -> list[str]:
        """What has grown; all of them, where that cannot be told."""
        while self._again and not self._stopping.is_set():
            try:
                if found := self.store.grown_within(self._watched, BLOCK):
                    return found
            except Exception:  # whatever it is, the follower meets it itself, and says so
                log.debug("waiting for entries failed", exc_info=True)
                self._stopping.wait(AGAIN)
                return list(self._watched)
        return []

    def stop(self) -> None:
        """End; a read that is under way may take its time."""
        self._stopping.set()
        self._asked.set()
