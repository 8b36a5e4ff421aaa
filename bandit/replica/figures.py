"""What the follower's thread notes for the metrics: how full the store is, and how fresh scoring data are."""

from __future__ import annotations

import logging
import time

from bandit.log.records import Position
from bandit.store.protocol import FULL, Store
from bandit.telemetry.counters import Counters

log = logging.getLogger(__name__)


class StoreMemory:
    """Memory of the store, as last asked for."""

    def __init__(self) -> None:
        self.used = self.limit = 0  # bytes; no limit: 0
        self._full = False

    def look(self, store: Store) -> None:
        """Ask; warn before the store is full and refuses decisions, and say when it has room again."""
        self.used, self.limit = used, most = store.memory()
        full = most > 0 and used > FULL * most
        if full and not self._full:
            log.warning(
                "the store uses %d of %d MiB: at its end decisions are refused until older ones leave the log;"
                " give it more, or shorten reward_window", used >> 20, most >> 20,
            )  # fmt: skip
        elif self._full and not full:
            log.warning("the store has room again: it uses %d of %d MiB", used >> 20, most >> 20)
        self._full = full


class Freshness:
    """How many entries of one log decisions do not reflect yet, and for how long the oldest of them has waited.

    Args:
        counters: of this process.
    """

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self._folded = self._reflected = self._goal = 0  # entries: read, reflected, and read when the goal was set
        self._oldest_ms = 0  # of the first entry that is not reflected; 0: none

    @property
    def behind(self) -> int:
        """Entries that were folded and are not reflected."""
        return self._folded - self._reflected

    def folded(self, entries: int, first_ms: int) -> None:
        """So many entries were folded, the first of which was logged then."""
        self._oldest_ms = self._oldest_ms or first_ms
        self._folded += entries
        self.counters.add("bandit_folded_entries_total", by=entries)

    def aim(self) -> None:
        """What was folded up to now is going to be reflected."""
        self._goal = self._folded

    def reflected(self, upto: Position, *, all_: bool) -> None:
        """Decisions reflect the log up to this position: everything that was folded, or what was aimed at."""
        if self._oldest_ms:
            self.counters.observe("bandit_freshness_seconds", max(0.0, time.time() - self._oldest_ms / 1000))
        self._reflected = self._folded if all_ else self._goal
        self._oldest_ms = upto.ms if self.behind else 0

    def loaded(self) -> None:
        """All was loaded: what had been written long before says nothing."""
        self._reflected, self._oldest_ms = self._folded, 0
