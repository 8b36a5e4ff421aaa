"""Threads of the views' own: whatever they are asked for, changes, look-ups and metrics find theirs free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from bandit.errors import Code, Problem

T = TypeVar("T")


class Pool:
    """A few threads, and a bound on who waits for one. Who goes away meanwhile is not worked for.

    Args:
        name: of the threads.
        threads: how many work.
        most: how many may be inside, working or waiting.
    """

    def __init__(self, name: str, threads: int, most: int) -> None:
        self.most = most
        self._inside = 0
        self._threads = ThreadPoolExecutor(threads, name)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """What the work gives.

        Raises:
            Problem: `overloaded`, where too many wait already.
        """
        if self._inside >= self.most:
            raise Problem(Code.OVERLOADED, "too many others look at experiments here now; try again in a second")
        self._inside += 1
        try:
            loop, copied = asyncio.get_running_loop(), copy_context()
            return await loop.run_in_executor(self._threads, lambda: copied.run(work, *args))
        finally:
            self._inside -= 1
