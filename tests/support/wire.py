"""A server that tells what it took for a request, and a client that says bytes in pieces, each read by itself."""

import asyncio
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import uvicorn
import uvloop
from uvicorn.server import ServerState

from bandit.process.direct import direct_protocol
from bandit.serving.access.gate import Gate
from bandit.serving.api.problems import Answer
from bandit.settings import Settings
from bandit.store.memory_store import MemoryStore

HANGS = 5.0  # seconds without an answer
SECONDS = {"/soon": 0.001, "/slow": 0.02, "/slower": 0.6}  # until an answer
DIRECT, NONE = re.compile(rb"((?!/early)/[^?]*)()"), re.compile(rb"(?!)")
LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n")


class Taken(NamedTuple):
    """What the application was given; `body` is None where its end never came."""

    method: str
    target: bytes
    body: bytes | None


class Heard(NamedTuple):
    """What came back: statuses with bodies in order, whether the server ended, and what it took for requests."""

    answers: list[tuple[int, bytes]]
    ended: bool
    taken: list[Taken]

    @property
    def statuses(self) -> list[int]:
        """The statuses alone."""
        return [status for status, _ in self.answers]


class _Known(dict[bytes, Any]):
    """Heads that were parsed before; `found` are those that were looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[bytes] = []

    def get(self, head: bytes, default: Any = None) -> Any:  # type: ignore[override]
        """As a dictionary's."""
        if head in self:
            self.found.append(head)
        return super().get(head, default)


class Wire:
    """One server and its client, on one event loop: the client knows when the server has read a piece.

    Args:
        seconds: in which a request has to come.
        direct: whether what can be answered without ASGI is.
    """

    def __init__(self, seconds: float = 30, *, direct: bool = True) -> None:
        self.taken: list[Taken] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.most_waiting = 0
        self.full = True  # so that `sheds` is asked each time
        self.loop = uvloop.new_event_loop()
        self.direct = 0  # requests answered without ASGI
        bound: Any = direct_protocol(seconds, 1000, self, Gate(Settings(), MemoryStore()))
        self.known = _Known()
        own = {"data_received": _counting(bound), "address": DIRECT if direct else NONE, "known": self.known}
        self._kind = type("Counting", (bound,), own)
        self._config = uvicorn.Config(
            self._app, http=self._kind, interface="asgi3", ws="none", lifespan="off", log_level="critical"
        )
        self._state = ServerState()
        self._last: Any = None
        self._server = self.loop.run_until_complete(self.loop.create_server(self._made, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Ends it."""
        self._server.close()
        for each in list(self._state.connections):
            each.transport.abort()
        self.loop.run_until_complete(self._until(lambda: not self._state.connections, 10_000))
        self.loop.close()

    async def settled(self) -> None:
        """Until a connection came, and none is left."""
        async with asyncio.timeout(10):
            while self._last is None or self._state.connections:  # noqa: ASYNC110 - they are uvicorn's
                await asyncio.sleep(0.01)

    def say(self, *pieces: bytes, half: bool = False, count: int = 10**9) -> Heard:
        """What came of these pieces on one connection, up to so many answers or to its end.

        Args:
            pieces: each is sent when the one before has been read, or will not be for now.
            half: the client then says that nothing more comes.
            count: answers to wait for.
        """
        return self.loop.run_until_complete(self._say(pieces, half, count))

    def _made(self) -> asyncio.BaseProtocol:
        self._last = self._kind(config=self._config, server_state=self._state, app_state={}, _loop=self.loop)
        self._last.read = 0
        found: asyncio.BaseProtocol = self._last
        return found

    async def _until(self, true: Any, turns: int = 100) -> None:
        """Turns of the loop, which cost nothing where nothing happens, until it is true."""
        while not true() and (turns := turns - 1) >= 0:  # noqa: ASYNC110 - the turns are what is waited for
            await asyncio.sleep(0)

    async def _say(self, pieces: Sequence[bytes], half: bool, count: int) -> Heard:
        self.taken, self.headers, self._last = [], [], None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await self._until(lambda: self._last is not None)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = 0
        with suppress(ConnectionError, RuntimeError):
            for piece in pieces:
                writer.write(piece)
                sent += len(piece)
                await self._until(lambda: self._last.read >= sent)  # noqa: B023 - awaited here
            if half:
                writer.write_eof()
        try:
            found, ended = await _received(reader, count)
        finally:
            writer.transport.abort()
        await self._until(lambda: not self._state.tasks)
        return Heard(found, ended, self.taken)

    def begin(self, what: str, target: str, body: bytes, client: Any) -> None:
        """The same as `_app`, without ASGI."""
        self.direct += 1
        self.headers.append(client._protocol.headers)
        self.most_waiting = max(self.most_waiting, len(self._last.pipeline))
        told = b"POST %b %d" % (target.encode(), len(body))

        def answer() -> None:
            self.taken.append(Taken("POST", target.encode(), body))
            client.answer(Answer(200, (), told))

        seconds = SECONDS.get(target)
        self.loop.call_later(seconds, answer) if seconds else answer()

    def told(self, what: str, status: int, seconds: float) -> None:
        """Takes note of nothing."""

    def sheds(self, what: str, name: str) -> None:
        """Takes everything."""

    def refused(self, experiment: str, what: str, error: BaseException) -> None:
        """Takes note of nothing."""

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers with what it took; /soon and /slow after a while, /early before the body."""
        self.headers.append(scope["headers"])
        self.most_waiting = max(self.most_waiting, len(self._last.pipeline))
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        body: bytes | None = b""
        if scope["path"] != "/early":
            body = await _whole(receive)
            await asyncio.sleep(SECONDS.get(scope["path"], 0))
        self.taken.append(Taken(scope["method"], target, body))
        told = b"%b %b %d" % (scope["method"].encode(), target, len(body or b""))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
        await send({"type": "http.response.body", "body": told})


def _counting(bound: Any) -> Any:
    def data_received(self: Any, data: bytes) -> None:
        self.read += len(data)
        bound.data_received(self, data)

    return data_received


async def _whole(receive: Any) -> bytes | None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _received(reader: asyncio.StreamReader, count: int) -> tuple[list[tuple[int, bytes]], bool]:
    """So many answers, or all until the end, and whether it came to an end.

    Raises:
        TimeoutError: if neither comes.
    """
    found: list[tuple[int, bytes]] = []
    rest, more = b"", b"-"
    async with asyncio.timeout(HANGS):
        while len(found) < count and more:
            try:
                more = await reader.read(1 << 20)
            except ConnectionError:
                more = b""
            rest = _answers(rest + more, found)
    assert more or not rest, rest
    return found, not more


def _answers(received: bytes, found: list[tuple[int, bytes]]) -> bytes:
    """What is left when the (status, body) of each whole answer has gone to `found`."""
    at = 0
    while (end := received.find(b"\r\n\r\n", at) + 4) > 3:
        head = received[at : end - 2]
        assert head.startswith(b"HTTP/1.1 "), head
        length = LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(received) < end + size:
            break
        found.append((int(head[9:12]), received[end : end + size]))
        at = end + size
    return received[at:]


@contextmanager
def wired(seconds: float = 30, *, direct: bool = True) -> Iterator[Wire]:
    """A server for a while."""
    wire = Wire(seconds, direct=direct)
    try:
        yield wire
    finally:
        wire.close()
