"""uvicorn's HTTP protocol with a deadline for a whole request; silent connections make room for new ones.

uvicorn waits for ever for the rest of a request: 700 half-sent headers use up 512 descriptors, and nobody else is
served. Here a request's headers and body arrive within `request_timeout` of its first byte, or the answer is 408; and
when connections outnumber `most_connections`, the one that has sent no whole request for longest is closed.

The cost is two timers a connection, which look after themselves: per request there is a note of the time and no timer.
"""

import asyncio
import fcntl
import sys
import termios
from contextlib import suppress
from typing import Any, ClassVar

from bandit.process.wire import WireProtocol

RESOLUTION = 0.002  # seconds: a timer may fire so much too early
TIMED_OUT = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 24\r\n\r\nrequest did not complete"
)


class DeadlineProtocol(WireProtocol):
    """One connection; a server sets the class attributes, which its connections share, in a subclass of its own."""

    request_timeout: ClassVar[float]
    most_connections: ClassVar[int]
    # connections from which a request is awaited, the one awaited for longest first
    waiting: ClassVar[dict["DeadlineProtocol", None]]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._begun: float | None = None  # when the first byte of an unfinished request came
        self._timer: asyncio.TimerHandle | None = None
        self._rested = 0.0  # when the last answer was over
        self._unsent = 0  # bytes of answers that the client had not taken when last looked at

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Starts both clocks: a connection that never says anything is idle, and idle ones end after keep-alive."""
        super().connection_made(transport)
        self._keep_alive()
        self._timer = self.loop.call_later(self.request_timeout, self._check)
        self.waiting[self] = None
        if len(self.connections) > self.most_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        super().connection_lost(exc)
        self.waiting.pop(self, None)
        self._unset_keepalive_if_required()  # uvicorn leaves it running after an error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        """Notes when a request's first byte came; even bytes that begin no request cannot hold a connection open."""
        if self._begun is None:
            self._begun = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Gives a pipelined request its own time."""
        self._begun = self.loop.time()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Stops the clock, as now the answer is due, unless that was sent before the whole request had come."""
        super().on_message_complete()
        if self.partial:
            return  # its head is read again
        self._begun = None
        if self.cycle.response_complete:
            self._keep_alive()  # uvicorn stopped it when the rest of the request came
        else:
            self.waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Puts the connection at the end of those awaited, unless a pipelined request has come."""
        super().on_response_complete()
        self._rested = self.loop.time()
        self._unsent = 0  # none begins before the client has taken nearly all of the one before
        self.waiting.pop(self, None)
        if self._begun is not None:
            self._begun = self.loop.time()  # we may have read nothing of the next one meanwhile
        if self.cycle.response_complete and not self.transport.is_closing():
            self.waiting[self] = None

    def shutdown(self) -> None:
        """Closes an idle connection, but not one whose client has begun to send: its answer is the last."""
        if not (self._begun is not None or self._arriving()) or self.transport.is_closing():
            super().shutdown()

    def _arriving(self) -> bool:
        """Whether there are bytes that nobody has read yet."""
        waiting = b"\0\0\0\0"
        with suppress(OSError):
            waiting = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, waiting)
        return any(waiting)

    def _keep_alive(self) -> None:
        """Closes the connection when it stays idle for too long from now on."""
        self._rested = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_in(self.timeout_keep_alive)

    def _look_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection if it has been idle for long enough; else looks again when it will have been."""
        self.timeout_keep_alive_task = None
        if self.cycle is not None and not self.cycle.response_complete:
            return  # once that is answered the connection rests anew
        left = self._rested + self.timeout_keep_alive - self.loop.time()
        if left > RESOLUTION:
            self._look_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _check(self) -> None:
        """Ends an overdue request, or a connection that takes no answer; else looks again when one could be."""
        left = self.request_timeout
        unsent, self._unsent = self._unsent, self._untaken()
        if 0 < unsent <= self._unsent:
            self.transport.abort()  # nothing in a whole period: the client does not take its answer
            return
        if self._begun is not None and not self._answering() and not self.transport.is_closing():
            left -= self.loop.time() - self._begun
            if left <= 0:
                self.refuse(TIMED_OUT)
                left = self.request_timeout
        self._timer = self.loop.call_later(left, self._check)

    def _untaken(self) -> int:
        """Bytes of answers that the client has not taken: ours, and those that the system holds of megabytes sent."""
        unsent, held = self.transport.get_write_buffer_size(), b"\0\0\0\0"
        if unsent:
            with suppress(OSError):  # not every system tells
                held = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, held)
        return unsent + int.from_bytes(held, sys.byteorder)

    def _answering(self) -> bool:
        """Whether a whole request is being answered, so that reading the pipelined next one may be paused by us."""
        if self.pipeline:
            return True
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _make_room(self) -> None:
        """Closes the connection that has been awaited for longest, if it is not the newest."""
        oldest = next(iter(self.waiting))
        if oldest is not self:
            del self.waiting[oldest]
            self.connections.discard(
                oldest
            )  # it does not count any more, although `connection_lost` comes only on the next turn
            oldest.transport.abort()


def deadline_protocol(request_timeout: float, most_connections: int) -> type[DeadlineProtocol]:
    """The protocol of one server: requests arrive in so many seconds, over at most so many connections."""
    bound = {"request_timeout": request_timeout, "most_connections": most_connections, "waiting": {}}
    return type("BoundDeadlineProtocol", (DeadlineProtocol,), bound)
