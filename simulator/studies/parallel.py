"""One piece of work for each of many items: one after the other, on all cores, or on a cluster; always the same bits.

Each item brings its own seed, and BLAS is kept to one thread, so that a result does not depend on what ran beside it or
where. (Between machines it may: another kind of processor may add up in another order.)
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from simulator.progress import Show, silent

Work = Callable[[Any, Any, Show], Any]  # (what is common to all, an item, told which share of it is done) -> result


class Spread(Protocol):
    """A way to do it."""

    def __call__(self, work: Work, common: Any, items: Sequence[Any], show: Show) -> Iterator[tuple[int, Any]]:
        """(number of an item, its result), each as it is done.

        Args:
            work: a function at the top of a module.
            common: what every item needs; sent to each process once.
            items: what differs.
            show: told how many items are done.
        """


def serial(work: Work, common: Any, items: Sequence[Any], show: Show) -> Iterator[tuple[int, Any]]:
    """One after the other, here."""
    with threadpool_limits(1):
        for i, item in enumerate(items):
            yield i, work(common, item, lambda share, i=i: show(i + share))  # type: ignore[misc]
            show(i + 1)


def processes(workers: int | None = None) -> Spread:
    """On this machine's cores; None: all of them. Workers are ended when it is interrupted or no more is asked for.

    Workers import the calling script anew: it must do its work under `if __name__ == "__main__":`.
    """
    size = workers or os.cpu_count() or 1

    def spread(work: Work, common: Any, items: Sequence[Any], show: Show) -> Iterator[tuple[int, Any]]:
        if len(items) < 2 or size < 2:
            yield from serial(work, common, items, show)
            return
        before = set(active_children())
        executor = ProcessPoolExecutor(min(size, len(items)), _context(), _install, (common,))
        try:
            yield from arriving({executor.submit(_call, work, item): i for i, item in enumerate(items)}, show)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for child in set(active_children()) - before:
                child.terminate()
            raise
        executor.shutdown()

    return spread


def _context() -> BaseContext:
    """Never fork: threads of BLAS and of a progress bar may hold locks."""
    return get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")


def arriving(futures: dict[Future[Any], int], show: Show) -> Iterator[tuple[int, Any]]:
    """Results of futures as they are done, each with its number."""
    for done, future in enumerate(as_completed(futures), 1):
        yield futures[future], future.result()
        show(done)


_held: list[Any] = []  # in a worker: what is common to all its items


def _install(common: Any) -> None:
    """At a worker's start. Ctrl-C reaches every process of a terminal; it is the parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    _held[:] = [common]


def _call(work: Work, item: Any) -> Any:
    return work(_held[0], item, silent)
