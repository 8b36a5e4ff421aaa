"""Whether the store is away, as a worker's event loop knows it, so that nobody waits for what cannot come.

It is noticed in two ways. An append that fails is followed by a probe at once: where that fails too the store is away,
within a millisecond or two where connections are refused or cut. And where appends are under way and nothing has been
heard for `store_patience` it is silent: who can be answered without it is. A frozen process and a network that swallows
are silent for longer, and so is a busy machine or a slow disk for a moment: only after `REFUSES` times that long it is
away, and all others are refused.

While it is away one probe is under way at a time, and one begins each `PROBE` seconds: the first that succeeds, or
an append that does, ends it. A false alarm costs refusals and nothing else: what is under way stays under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bandit.errors import Code, Problem, StoreUnavailable, StoreUnsuitable
from bandit.store.protocol import Store
from bandit.telling import REQUEST_ID

SILENCE = 0.25  # seconds, by default (`store_patience`)
REFUSES = 4  # times that: whoever is refused for a silence would have waited for so long at most
PROBE = 0.1  # seconds between the beginnings of two probes, at least
GRACE = 0.05  # seconds more where this process itself stood still
UNAVAILABLE = "the store does not answer or cannot write now"


class Outage:
    """Whether the store is away. Lives on the event loop; one for all experiments of a worker.

    Args:
        store: which is probed.
        wrote: told how each write ended, and each probe while the store is away.
        patience: seconds without a word, while something is under way, after which the store is silent.
        unsuitable: why the store must not be used although it answers, or nothing.
    """

    def __init__(
        self, store: Store, wrote: Callable[[Exception | None], None] = lambda _: None, patience: float = SILENCE,
        unsuitable: Callable[[], str] = lambda: "",
    ) -> None:  # fmt: skip
        self.store, self.wrote, self.patience, self.unsuitable = store, wrote, patience, unsuitable
        self.noticed: list[Callable[[], None]] = []  # called when the store is found to be silent, or heard, or away
        self.since = 0.0  # when it was last found silent or away (`time.monotonic()`)
        self.silent = False  # whether nothing has been heard for `patience`
        self._away = False
        self._under_way, self._heard = 0, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._back = asyncio.Event()

    @property
    def away(self) -> bool:
        """Whether nothing can be written now."""
        return self._away or self.unsuitable() != ""

    def refusal(self) -> Problem:
        """Why nothing is written."""
        why = self.unsuitable()
        return Problem(Code.STORE_UNAVAILABLE, f"the store must not be used as it is: {why}" if why else UNAVAILABLE)

    def began(self) -> None:
        """An append is under way."""
        if not self._under_way:
            self._heard = time.monotonic()
        self._under_way += 1
        if self._timer is None:
            self._look_in(self.patience)

    def ended(self) -> None:
        """It is not any more: something was heard."""
        self._under_way -= 1
        self._heard = time.monotonic()
        if self.silent:
            self.silent = False
            self._notify()

    def worked(self) -> None:
        """A write succeeded."""
        self.wrote(None)
        if self._away:
            self._return()

    def failed(self, error: Exception) -> None:
        """A write failed, and may have for a reason of its connection's: a probe will tell."""
        self.wrote(error)
        if self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the store is back."""
        try:
            async with asyncio.timeout(seconds):
                await self._back.wait()
        except TimeoutError:
            pass

    def leave(self, error: Exception) -> None:
        """It is away from now on."""
        self.wrote(error)
        if self._away:
            return
        self._away, self.since = True, time.monotonic()
        self._back.clear()
        self._notify()

    def _notify(self) -> None:
        for notice in list(self.noticed):
            notice()

    def _return(self) -> None:
        self._away = False
        self._back.set()
        self._back.clear()  # who waits now is woken; who comes later waits anew

    def _look_in(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Look whether there is silence. One timer for all appends: it runs on while there are any."""
        self._timer = None
        if not self._under_way:
            return
        now = time.monotonic()
        limit = self.patience * (REFUSES if self.silent else 1)
        left = self._heard + limit - now
        if left <= 0 and now - self._due > GRACE:
            left = GRACE  # we stood still ourselves: what has come meanwhile is read first
        if left <= 0 and not self.silent:
            self.silent, self.since, left = True, now, (REFUSES - 1) * self.patience
            self._notify()
        elif left <= 0:
            self.leave(StoreUnavailable(f"nothing was heard from the store for {limit:g} s"))
            if self._probing is None:
                self._probing = asyncio.get_running_loop().create_task(self._probe())
            left = self.patience
        self._look_in(left)

    async def _probe(self) -> None:
        """Probe until one succeeds."""
        REQUEST_ID.set("")  # this task was begun by one request, and is for all
        try:
            while True:
                begun = time.monotonic()
                error = await self._probed()
                if error is None:
                    break
                self.leave(error)
                await asyncio.sleep(max(0.0, begun + PROBE - time.monotonic()))
        finally:
            self._probing = None
        if self._away:
            self.worked()

    async def _probed(self) -> Exception | None:
        """How a probe ended; one that takes too long is waited for, and the store is away meanwhile."""
        probe = asyncio.ensure_future(self.store.probe_async())
        try:
            if not (await asyncio.wait([probe], timeout=self.patience))[0]:
                self.leave(StoreUnavailable(f"a probe was not answered within {self.patience:g} s"))
            await probe
        except (StoreUnavailable, StoreUnsuitable) as error:
            return error
        finally:
            probe.cancel()
        return None

    async def aclose(self) -> None:
        """End the probes and the timer."""
        if self._timer is not None:
            self._timer.cancel()
        if (probing := self._probing) is not None:
            probing.cancel()
            await asyncio.wait([probing])
