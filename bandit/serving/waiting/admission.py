"""Whether one more request may wait: past capacity not where it would have to for longer than `queue_wait`.

Past its capacity a queue only grows, and everybody waits for as long as it lasts. So what cannot be begun soon is
refused at once, before it is read, and those who are let in wait little more than on a busy day. How long the next one
would wait is the estimated work before it, waiting and under way, times the seconds that such work has really taken of
late: of this machine now, with its store, and with whatever else the event loop does.

A burst is no overload: as long as the queue has stood too long for less than `BURST` seconds it is let in, up to
`MOST` seconds of it. Once something was refused, there are no bursts until that is `CALM` seconds ago.
"""

from __future__ import annotations

QUEUE_WAIT = 0.025  # seconds that one may wait, by default
FLOOR = 32  # requests that may wait in any case: a micro-batch of so many costs hardly more than one of a few
BURST = 0.1  # seconds
MOST = 0.5  # seconds that one may wait in a burst
CALM = 1.0  # seconds
SPAN = 0.5  # seconds of work that the pace is measured over, about


class Admission:
    """The pace of one experiment's micro-batches, and what follows from it. Times are of one monotonic clock.

    Args:
        longest: seconds that one may wait.
    """

    def __init__(self, longest: float = QUEUE_WAIT) -> None:
        self.longest = longest
        self._spent, self._done, self._mark = 0.0, 0.0, 0.0
        self._stands: float | None = None  # since when what a micro-batch left behind has been too much
        self._until = 0.0  # nothing is let in as a burst before

    def served(self, begun: float, now: float, work: float) -> None:
        """A micro-batch of so much estimated work began then and is done now.

        Of those that overlap, each took the time since the one before it was done.
        """
        self._spent += now - max(begun, self._mark)
        self._done += work
        self._mark = now
        if self._spent > SPAN:
            self._spent, self._done = self._spent / 2, self._done / 2

    def left(self, work: float, now: float) -> None:
        """A micro-batch begins, and so much estimated work waits for a later one."""
        if self._wait(work) <= self.longest:
            self._stands = None
        elif self._stands is None:
            self._stands = now

    def refuses(self, work: float, now: float) -> bool:
        """Whether the next one would wait for too long behind so many estimated seconds of work."""
        if (wait := self._wait(work)) <= self.longest:
            return False
        stood = self._stands is not None and now - self._stands > BURST
        if now >= self._until and not stood and wait <= MOST:
            return False
        self._until = now + CALM
        return True

    def _wait(self, work: float) -> float:
        """Seconds that so much estimated work takes; 0 before anything was served."""
        return work * self._spent / self._done if self._done else 0.0
