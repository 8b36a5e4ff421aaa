"""The event loop's connection to the store: one a worker. Commands are sent without waiting for replies to those
before, and replies come in the same order.

redis-py connects and shakes hands, so every option of an address means what it means to its own client (TLS, user,
database, keepalive). Then the transport is ours: no pool, no retry, no task and no timer a command. Whatever ends the
connection fails all that is under way, whose fate is then unknown; the next command connects anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as Overdue

from bandit.store.redis_faults import fault, is_moved

COMMANDS = 512  # under way, at most; PROTOCOL: one an experiment
BYTES = 32 << 20  # under way, at most; a larger command goes alone. It bounds the transport's buffer too
NOTHING = object()


class Pipeline(asyncio.Protocol):
    """One connection, from its handshake to its end. Lives on the event loop that made it."""

    def __init__(self, connection: Any) -> None:
        self.loop, self.timeout = asyncio.get_running_loop(), float(connection.socket_timeout)
        self.ended, self.lost = False, self.loop.create_future()
        self._waiting: deque[tuple[float, int, asyncio.Future[Any]]] = deque()  # deadline, bytes, who waits
        self._bytes, self._freed = 0, asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None  # one for all: it looks after the oldest
        self._reader: Any = hiredis.Reader(protocolError=InvalidResponse, replyError=fault, notEnoughData=NOTHING)
        self._writer = taken_over(connection)  # kept: a writer that nobody holds closes its transport
        self._transport: Any = self._writer.transport
        self._transport.set_protocol(self)

    def takes(self, size: int) -> bool:
        """Whether a command of so many bytes may be sent now, from this event loop."""
        if self.ended or self.loop is not asyncio.get_running_loop():
            return False
        return not self._waiting or (len(self._waiting) < COMMANDS and self._bytes + size <= BYTES)

    async def room(self, size: int) -> None:
        """Wait until it takes so many bytes."""
        try:
            async with asyncio.timeout(self.timeout):
                while not self.takes(size):
                    if self.ended:
                        raise Disconnected("the connection ended")
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise Overdue(f"others' commands are under way for {self.timeout:g} s") from None

    def send(self, data: bytes) -> asyncio.Future[Any]:
        """Write a command: its reply. A waiter who is cancelled keeps its place, for the reply will come."""
        answer = self.loop.create_future()
        self._waiting.append((self.loop.time() + self.timeout, len(data), answer))
        self._bytes += len(data)
        self._transport.write(data)
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout, self._look)
        return answer

    def data_received(self, data: bytes) -> None:
        """Give each reply to the one whose turn it is."""
        try:
            self._reader.feed(data)
            while not self.ended and (reply := self._reader.gets()) is not NOTHING:
                if not isinstance(reply, hiredis.PushNotification):  # of `?protocol=3`: nobody's reply
                    self._answer(reply)
        except InvalidResponse as error:  # the reply whose turn it was; of those behind it nothing is known
            if self._waiting:
                _give(self._waiting.popleft()[2], error)
            self.end("it sent what is no reply")
        self._freed.set()

    def _answer(self, reply: Any) -> None:
        if not self._waiting:
            raise InvalidResponse("a reply that nobody asked for")
        _, size, answer = self._waiting.popleft()
        self._bytes -= size
        _give(answer, reply)
        if is_moved(reply):  # nobody else ends connections to a node that was demoted
            self.end("its node is not the one to ask")

    def _look(self) -> None:
        """Give up where the oldest command is overdue; else look when it would be.

        An event loop that was held up reads first what has come meanwhile: both kinds look at sockets before timers.
        """
        self._timer = None
        if not self._waiting:
            return
        left = self._waiting[0][0] - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        else:
            self.end(f"no reply within {self.timeout:g} s", Overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side hung up, or we did."""
        self.end(str(exc or "the connection was closed"))
        if not self.lost.done():
            self.lost.set_result(None)

    def end(self, why: str, kind: type[RedisError] = Disconnected) -> None:
        """Close the connection; all that is under way fails, and nobody knows what became of it."""
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        for _, _, answer in self._waiting:
            _give(answer, kind(why))
        self._waiting.clear()
        self._freed.set()
        self._transport.abort()


class Pipelined:
    """The event loop's way to the store: connects when something is to be sent and there is no connection."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make  # a connection of redis-py's that is not connected yet
        self._pipeline: Pipeline | None = None
        self._connecting: asyncio.Task[Pipeline] | None = None

    async def ask(self, *command: Any) -> Any:
        """The reply to one command. Raises what redis-py's own client would."""
        data = hiredis.pack_command(command)
        pipeline = self._pipeline
        if pipeline is None or not pipeline.takes(len(data)):
            pipeline = await self._connected()
            await pipeline.room(len(data))
        return await pipeline.send(data)

    def part(self) -> None:
        """End the connection: the next command connects anew."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None or pipeline.loop.is_closed():
            return
        if pipeline.loop is asyncio.get_running_loop():
            pipeline.end("it leads to another node")
        else:
            pipeline.loop.call_soon_threadsafe(pipeline.end, "another event loop has taken over")

    async def aclose(self) -> None:
        """End the connection, also one that is being made, and wait until it has ended."""
        loop, connecting = asyncio.get_running_loop(), self._connecting
        if connecting is not None and connecting.get_loop() is loop:
            connecting.cancel()
            await asyncio.wait([connecting])
        pipeline = self._pipeline
        self.part()
        if pipeline is not None and pipeline.loop is loop:
            await asyncio.wait([pipeline.lost], timeout=pipeline.timeout)

    async def _connected(self) -> Pipeline:
        """The connection there is, or a new one: whoever comes meanwhile waits for the same."""
        loop, pipeline = asyncio.get_running_loop(), self._pipeline
        if pipeline is not None and not pipeline.ended and pipeline.loop is loop:
            return pipeline
        if self._connecting is None or self._connecting.done() or self._connecting.get_loop() is not loop:
            self.part()
            self._connecting = loop.create_task(self._connect())
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)  # one who loses patience takes it from nobody
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if connecting.cancelled() and current is not None and not current.cancelling():
                raise Disconnected("closed before it was connected") from None
            raise

    async def _connect(self) -> Pipeline:
        connection = self._make()
        try:
            async with asyncio.timeout(connection.socket_timeout):  # redis-py's is for each of its steps
                await connection.connect()
            self._pipeline = made = Pipeline(connection)
        except Disconnected as error:  # on a unix socket it wraps what the handshake was answered
            raise error.__cause__ if isinstance(error.__cause__, RedisError) else error from None
        except TimeoutError:
            raise Overdue(f"no connection within {connection.socket_timeout:g} s") from None
        finally:
            await connection.disconnect(nowait=True)  # of one that was taken over it has nothing left
        return made


def taken_over(connection: Any) -> asyncio.StreamWriter:
    """The stream of a connection of redis-py's, which has none from then on.

    The only place that stands on redis-py's inside; pyproject.toml bounds its version for that.
    """
    reader, writer = connection._reader, connection._writer
    if reader.at_eof() or writer.transport.is_closing():
        raise Disconnected("the connection was closed at once")
    connection._reader = connection._writer = None
    return writer  # type: ignore[no-any-return] # its types are private too


def _give(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():  # cancelled
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)
