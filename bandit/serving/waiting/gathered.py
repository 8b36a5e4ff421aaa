"""The answers to a batch of requests as they come: one event for all, as a future for each costs as much as reading it.

A batch's requests are put in the batcher a few at a time, so that other requests do not wait long for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from bandit.core.experiment import Experiment
from bandit.errors import Problem
from bandit.serving.batcher import MICRO_BATCH, WORK, Batcher, Reader

TURN = 0.01  # seconds of a batch's reading or rendering after which others have theirs
FED = 4 * WORK  # seconds of work in a batcher up to which batches put more there: whoever comes waits behind it
AT_ONCE = 2 * MICRO_BATCH  # requests, likewise


class Gathered:
    """The answers to a number of requests, or their problems, in order.

    Args:
        size: how many requests.
    """

    def __init__(self, size: int) -> None:
        self.found: list[Any] = [None] * size
        self._failed: BaseException | None = None
        self._missing = 0
        self._came = asyncio.Event()

    async def feed(self, batcher: Batcher, reads: Iterable[tuple[int, Reader]], experiment: Experiment) -> None:
        """Give these requests, each with its place, to a batcher."""
        turn, patient = time.monotonic(), len(self.found) > 1
        for at, read in reads:
            try:
                if not patient:
                    batcher.let_in()
                batcher.enqueue(read, experiment, _Slot(self, at), patient=patient)
                self._missing += 1
            except Problem as problem:
                self.found[at] = problem
            if time.monotonic() - turn > TURN:
                await asyncio.sleep(0)
                turn = time.monotonic()
            while (batcher.work > FED or batcher.waiting >= AT_ONCE) and self._missing:
                await self._next()
                turn = time.monotonic()

    async def all(self) -> list[Any]:
        """The answers and problems, once all have come; any other error is raised."""
        while self._missing:
            await self._next()
        if self._failed is not None:
            raise self._failed
        return self.found

    async def _next(self) -> None:
        self._came.clear()
        await self._came.wait()

    def take(self, at: int, answer: Any) -> None:
        """Take one answer."""
        self.found[at] = answer
        self._missing -= 1
        self._came.set()

    def fail(self, at: int, error: BaseException) -> None:
        """Take the reason why one answer cannot come."""
        if not isinstance(error, Problem):
            self._failed = error
        self.take(at, error)


class _Slot:
    """Where one answer goes, as a batcher sees it."""

    __slots__ = ("_all", "_at", "_over")

    def __init__(self, gathered: Gathered, at: int) -> None:
        self._all, self._at, self._over = gathered, at, False

    def done(self) -> bool:
        return self._over

    def set_result(self, value: Any) -> None:
        self._over = True
        self._all.take(self._at, value)

    def set_exception(self, error: BaseException) -> None:
        self._over = True
        self._all.fail(self._at, error)
