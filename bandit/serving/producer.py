"""A producer: a name in the store's log and the next number under it.

The number of an append belongs to its bytes until the store has answered: on a timeout the same bytes are sent again.
Nobody knows what became of a number that was given up, so with it the name is given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bandit.errors import Code, CorruptLog, Problem, StoreUnavailable, StoreUnsuitable
from bandit.serving.outage.watch import UNAVAILABLE, Outage
from bandit.store.protocol import Ahead, Batch, Gap, Item, Reply, Rules, Stale, Store
from bandit.telemetry.counters import Counters

PATIENCE = 4.0  # seconds a request waits for the store
IDLE = 86_400.0  # a producer that was silent for a day takes a new name: its last number may be forgotten


class Producer:
    """Appends to one log, one append at a time."""

    def __init__(
        self, log: str, store: Store, entropy: Callable[[int], bytes], outage: Outage, counters: Counters
    ) -> None:
        self.log, self.store, self.entropy, self.outage, self.counters = log, store, entropy, outage, counters
        self.renew()

    def renew(self) -> None:
        """Take a new name: no number of the old one will be used again."""
        self.name, self.sequence, self.used = self.entropy(12).hex(), 1, time.monotonic()

    async def append(self, rules: Rules, items: list[Item], since: float) -> Reply:
        """Append under the next number; the same bytes again while the store does not answer.

        Args:
            rules: of the experiment's version that the items were made by.
            items: what to append.
            since: when the first of those who wait began to (`time.monotonic()`): a name is given up after `PATIENCE`.

        Raises:
            Problem: the store was away for too long, or cannot be written to.
        """
        if time.monotonic() - self.used > IDLE:
            self.renew()
        append = Batch(self.name, self.sequence, rules, items, round(time.time() * 1000))
        pause = 0.05
        while True:
            try:
                reply = await self._asked(append)
            except StoreUnavailable as error:
                self.outage.failed(error)
                if time.monotonic() - since + pause > PATIENCE:
                    self.counters.add("bandit_append_failures_total")
                    self.renew()
                    raise Problem(Code.STORE_UNAVAILABLE, UNAVAILABLE) from error
                self.counters.add("bandit_append_retries_total")
                await self.outage.pause(pause)
                pause = min(2 * pause, 1.0)
            except CorruptLog as error:
                self.renew()
                raise Problem(Code.NOT_READY, f"this experiment cannot be served: {error}") from error
            except StoreUnsuitable as error:  # our rights in it were taken away
                self.outage.failed(error)
                self.renew()
                raise Problem(Code.STORE_UNAVAILABLE, UNAVAILABLE) from error
            except Exception:
                self.renew()  # a part of it may be written: this number is spent
                raise
            else:
                break
        if not isinstance(reply, Ahead):
            self.outage.worked()
        self.used = time.monotonic()
        if not isinstance(reply, Stale | Gap | Ahead):
            self.sequence += 1
        return reply

    async def _asked(self, append: Batch) -> Reply:
        """One try."""
        self.outage.began()
        try:
            return await self.store.append_async(self.log, append)
        finally:
            self.outage.ended()
