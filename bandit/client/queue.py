"""Feedback on its way: a bounded queue that is sent in batches, in order, until each event is answered.

Events wait in a line for each experiment. Of a line one batch is under way at a time, and in it at most one event of
the same kind on the same decision: what has to be sent again can then not overtake what came after it.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from bandit.client.connection import Pauses
from bandit.client.wire import NO_ANSWER, ClientError, Event, Receipt, encode

BATCH: Final = 500  # events sent at once
FULL: Final = ClientError(0, "queue_full", "the queue of feedback is full: the event was not taken")
CLOSED: Final = ClientError(0, "queue_closed", "the client was closed before the event could be sent")
CUT_SHORT: Final = ClientError(0, NO_ANSWER, "no answer before the client was closed")

_log = logging.getLogger("bandit.client")

Send = Callable[[str, Sequence[Event]], Awaitable[Sequence[Receipt | ClientError]]]


@dataclass(frozen=True)
class Lost:
    """An event that will not be credited: the server refused it, or it was never sent.

    Attributes:
        experiment: where it belonged.
        event: its kind.
        decision_id: as it was given.
        user_id: as it was given.
        event_id: as it was given, or made.
        value: as it was given; None where it was not.
        error: why; `queue_full` and `queue_closed` are the queue's own codes. What waited when the client was closed
            has why it waited, such as `unreachable`.
        arm: as it was given.
        refund_of: as it was given.
    """

    experiment: str
    event: str | None
    decision_id: str | None
    user_id: str | None
    event_id: str | None
    value: object
    error: ClientError
    arm: str | None = None
    refund_of: str | None = None


@dataclass
class Counts:
    """What became of the events that were enqueued; each is in one of these."""

    waiting: int = 0
    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    refused: int = 0
    dropped: int = 0


class FeedbackQueue:
    """Events that wait to be sent; `put` may be called from any thread, everything else from one event loop.

    Args:
        send: sends events of one experiment: what became of each. It raises ClientError where all were refused.
        capacity: at most so many wait; further ones are dropped, and told.
        on_lost: told of each event that is lost; by default it is logged as a warning.
    """

    def __init__(self, send: Send, capacity: int, on_lost: Callable[[Lost], None] | None) -> None:
        self.counts = Counts()
        self._send, self._capacity, self._on_lost = send, capacity, on_lost or _warn
        self._lines: dict[str, deque[Event]] = {}
        self._stopped: dict[str, ClientError] = {}  # why a line waits
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """From now on what is put is sent, from the running event loop."""
        self._wake, self._empty = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    def put(self, experiment: str, event: Event) -> bool:
        """Whether it was taken; False where the queue is full or closed."""
        with self._lock:
            loop, full = self._loop, self.counts.waiting >= self._capacity
            if taken := loop is not None and not full:
                self._lines.setdefault(experiment, deque()).append(event)
                self.counts.waiting += 1
            else:
                self.counts.dropped += 1
        if loop is not None and taken:
            loop.call_soon_threadsafe(self._wake.set)
        else:
            self._tell(experiment, event, FULL if full else CLOSED)
        return taken

    async def flush(self, seconds: float) -> int:
        """How many events still wait, once none does or the time is over."""
        if self.counts.waiting and self._task is not None:
            self._empty.clear()
            self._wake.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        return self.counts.waiting

    async def close(self, seconds: float) -> None:
        """Send what waits for so long; the rest is dropped, and told."""
        if self._task is None:
            return
        await self.flush(seconds)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with self._lock:
            self._loop = self._task = None
            left = [(name, event) for name, line in self._lines.items() for event in line]
            self._lines.clear()
            self.counts.waiting, self.counts.dropped = 0, self.counts.dropped + len(left)
        for name, event in left:
            self._tell(name, event, self._why(name))

    def _why(self, experiment: str) -> ClientError:
        """Why events of an experiment still wait: its own reason, or a server that no other could reach."""
        nowhere = next((each for each in self._stopped.values() if each.code == NO_ANSWER), CLOSED)
        return self._stopped.get(experiment, nowhere)

    async def _run(self) -> None:
        pauses = Pauses()
        while True:
            self._wake.clear()
            stopped = [error for name in tuple(self._lines) if (error := await self._sent(name)) is not None]
            if stopped:
                await asyncio.sleep(pauses.after(stopped[0]))
                continue
            pauses = Pauses()
            if not self.counts.waiting:
                self._empty.set()
                await self._wake.wait()

    async def _sent(self, experiment: str) -> ClientError | None:
        """The first batch of an experiment's line, sent; what has to be sent again stays first. Why, or None."""
        if not (batch := self._batch(experiment)):
            return None
        try:
            found = await self._send(experiment, batch)
        except ClientError as error:
            found = [error] * len(batch)
        except asyncio.CancelledError:
            self._stopped.setdefault(experiment, CUT_SHORT)
            raise
        except Exception as error:  # whatever it is, the events are not lost in silence
            found = [_failed(error)] * len(batch)
        again = [(event, each) for event, each in zip(batch, found, strict=True) if _passes(each)]
        with self._lock:
            line = self._lines[experiment]
            for _ in batch:
                line.popleft()
            line.extendleft(event for event, _ in reversed(again))
            if not line:
                del self._lines[experiment]
        for event, each in zip(batch, found, strict=True):
            if not _passes(each):
                self._count(experiment, event, each)
        why = next((each for _, each in again if isinstance(each, ClientError)), None)
        self._stopped.pop(experiment, None)
        if why is not None:
            self._stopped[experiment] = why
        return why

    def _batch(self, experiment: str) -> list[Event]:
        """The first events of a line, up to the second about the same."""
        batch: list[Event] = []
        about = set()
        with self._lock:
            for event in self._lines.get(experiment, ()):
                if len(batch) == BATCH or event.about in about:
                    break
                about.add(event.about)
                batch.append(event)
        return batch

    def _count(self, experiment: str, event: Event, found: Receipt | ClientError) -> None:
        name = "refused" if isinstance(found, ClientError) else found.status
        with self._lock:
            self.counts.waiting -= 1
            setattr(self.counts, name, getattr(self.counts, name, 0) + 1)
        if isinstance(found, ClientError):
            self._tell(experiment, event, found)

    def _tell(self, experiment: str, event: Event, error: ClientError) -> None:
        value = None if event.value is msgspec.UNSET else event.value
        lost = Lost(
            experiment, event.event, event.decision_id, event.user_id, event.event_id, value, error, event.arm,
            event.refund_of,
        )  # fmt: skip
        try:
            self._on_lost(lost)
        except Exception:
            _log.exception("on_lost failed for %s", lost)


def _passes(found: Receipt | ClientError) -> bool:
    return isinstance(found, ClientError) and found.passes


def _failed(error: Exception) -> ClientError:
    failed = ClientError(0, "failed", f"{type(error).__name__} {error}")
    failed.__cause__ = error
    return failed


def _warn(lost: Lost) -> None:
    """Log the event as the body that would send it again."""
    body = {name: value for name, value in vars(lost).items() if value is not None}
    error, experiment = body.pop("error"), body.pop("experiment")
    _log.warning("feedback lost in %r: %s: %s", experiment, encode(body).decode(), error)
