"""How often a key was used in its window, counted over all workers of a server.

    estimate = requests of this window + requests of the window before * (what of it the last `seconds` still cover)

A request is let through while the estimate is under the quota (a sliding window counter). Time is cut into windows
from zero on, so all workers cut alike. Each worker has a column of counts in a piece of shared memory, which it alone
writes, and reads those of all: no lock, and no round trip. Two workers that look at the same instant may both let the
last request through: a window holds at most quota + workers - 1. In any stretch as long as the window there are at most
two quotas, as with any bucket.

A worker takes a free column by a lock on one byte of the file, which the system releases when the process ends: so none
is ever written by two, also not while an old and a new worker stand side by side. What its last owner counted in the
window goes on to count.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the parent of all workers imports this, and nothing large
    from bandit.access.keys import Limit

log = logging.getLogger(__name__)

CELL = struct.Struct("<QQQQ")  # whose key (a part of its id), window, requests of it, requests of the window before
PLACES = 1001  # one more than there may be keys
COLUMN = CELL.size * PLACES


class Standing(NamedTuple):
    """How a key stands: what is left of its quota, and after how many seconds it is whole, or it may ask again."""

    limit: Limit
    left: int
    seconds: int
    admitted: bool


def size_for(workers: int) -> int:
    """Bytes that the counts of so many workers take, and of as many that take their places."""
    return COLUMN * 2 * workers  # pages that nobody writes take no memory


class Limits:
    """The counts, from the side of one worker; its event loop alone uses it.

    Args:
        shared: the descriptor of a file of `size_for` that its parent made; by default it counts for itself.
        clock: seconds; the same for all workers.
    """

    def __init__(self, shared: int | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._marks: dict[str, int] = {}
        self._counts, self._own = mmap.mmap(-1, COLUMN), 0
        if shared is not None:
            size = os.fstat(shared).st_size
            own = _taken(shared, size // COLUMN)
            if own is None:
                log.warning("no place is left to count the requests of keys in: this worker lets in as many as all")
            else:
                self._counts, self._own = mmap.mmap(shared, size), own * COLUMN
        self._columns = range(0, len(self._counts), COLUMN)

    def take(self, key: str, place: int, limit: Limit, cost: int = 1) -> Standing:
        """Count a request of a key, unless its quota is used up.

        Args:
            key: its id.
            place: where it is counted, the same in all workers.
            limit: its own.
            cost: for how many requests this one counts.
        """
        if (whose := self._marks.get(key)) is None:
            whose = self._marks[key] = int.from_bytes(key[:8].encode(), "little")  # there are at most `PLACES` keys
        windows = self._clock() / limit.seconds
        window = int(windows)
        share = windows - window  # of the present window that has passed
        at = place * CELL.size
        this = before = 0
        for column in self._columns:
            owner, when, count, past = CELL.unpack_from(self._counts, column + at)
            if owner != whose:
                continue
            if when == window:
                this, before = this + count, before + past
            elif when == window - 1:
                before += count
        used = this + before * (1 - share)
        if used + cost > limit.quota:
            return Standing(limit, max(0, int(limit.quota - used)), _wait(limit, share, this, before, cost), False)
        self._count(self._own + at, whose, window, cost)
        seconds = max(1, -int(-(1 - share) * limit.seconds // 1))
        return Standing(limit, int(limit.quota - used - cost), seconds, True)

    def _count(self, at: int, whose: int, window: int, cost: int) -> None:
        owner, when, count, past = CELL.unpack_from(self._counts, at)
        if owner != whose or when < window - 1:
            count = past = 0
        elif when == window - 1:
            count, past = 0, count
        CELL.pack_into(self._counts, at, whose, window, count + cost, past)


def _wait(limit: Limit, share: float, this: int, before: int, cost: int) -> int:
    """Whole seconds until the estimate leaves room for this request, if nothing else is asked meanwhile."""
    room = limit.quota - cost
    if this <= room and before:
        windows = 1 - (room - this) / before - share  # in this window
    elif not this:  # more than the whole quota at once: it never will
        windows = 1 - share
    else:
        windows = 1 - share + max(0.0, 1 - max(room, 0) / this)  # in the next, where this one is the one before
    return max(1, -int(-windows * limit.seconds // 1))


def _taken(shared: int, columns: int) -> int | None:
    """The number of a column that is now this process's own; None where each is another's."""
    for column in range(columns):
        try:
            fcntl.lockf(shared, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, column)
        except OSError:
            continue
        return column
    return None
