"""uvicorn's HTTP protocol, made to read a connection's bytes in one way only: a body is never taken for a request.

The parser, llhttp, stops at `Upgrade` and at CONNECT and takes what follows for another protocol's bytes; uvicorn then
takes them for the next request. Here `Upgrade` is ignored, as RFC 9110 allows: the head is read again without it, and
the body after it is its body. What two readers could read in two ways is refused with 400 and ends the connection.

What llhttp refuses by itself: both lengths, two Content-Lengths, folded lines, line ends without CR, space or NUL in or
after a name. What it lets through and is refused here: see `_judge` and `_target`. `test_wire.py` has all of it.

Answers keep the order of their requests: a refusal waits for the answers due before it. A client that closes its half
of the connection is still answered.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sized
from typing import Any, ClassVar, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_MAX = 64 * 1024  # bytes of a request's line and headers, or of its trailers: uvicorn would take any number
LINGER = 2.0  # seconds


def _refusal(line: str, code: str, detail: str) -> bytes:
    status, title, kind = int(line[:3]), code.replace("_", " "), f"urn:bandit-server:problem:{code}"
    document = {"type": kind, "title": title, "status": status, "code": code, "detail": detail}
    body = json.dumps(document, separators=(",", ":")).encode()
    head = "HTTP/1.1 %s\r\nconnection: close\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n\r\n"
    return (head % (line, len(body))).encode() + body


LARGE_HEAD = _refusal("413 Content Too Large", "too_large", "the head of the request is larger than 64 KiB")


def _no_http(reason: str) -> bytes:
    return _refusal("400 Bad Request", "malformed", f"this is not a request in HTTP/1.1: {reason}")


CUT = _no_http("the connection ended before the request did")


class WireRefusal(Exception):  # noqa: N818 - it is an answer
    """Raised from within the parser: the answer that ends the connection."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class _Flow(FlowControl):
    """Reads nothing more while requests wait for their turn, or each answer would let in another piece of them."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class _Last:
    """The transport of the last answer of a connection: closing it first reads what the client still sends."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, close


class WireProtocol(HttpToolsProtocol):
    """One connection."""

    lasting: ClassVar[bool] = True  # whether connections outlive the answers to requests that begin now

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.pipeline: deque[Any]
        self.partial = False  # a request has begun and is not whole
        self._last: bytes | None = None  # the refusal that ends the connection; nothing after it is a request
        self._ended = False  # the last answer was sent
        self._head_bytes = 0  # of the head so far, or of the trailers
        self._loose = 0  # bytes since a request began or the last byte of a body, but for those that came with it
        self._moved = False  # such a byte is among those at hand
        self._trailing = False  # the head is in: further headers are trailers
        self._hosts = 0
        self._running: Any = None  # the cycle that has a task; uvicorn knows only the one that was parsed last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Uses a flow control that knows the waiting requests."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lets the one under way know, which may wait for a client that takes no answers: there is none to write to."""
        super().connection_lost(exc)
        if self._running is not None:
            self._running.disconnected = True

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # bytes in

    def data_received(self, data: bytes) -> None:
        """Parses the bytes; after a refusal they are ignored."""
        if self._last is not None:
            return
        self._unset_keepalive_if_required()
        self._moved = False
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause.answer if isinstance(cause, WireRefusal) else _no_http(str(error)))
            return
        if not self._moved:
            self._loose += len(data)
            if self._loose > HEAD_MAX:
                self.refuse(LARGE_HEAD)

    def _parse(self, data: bytes) -> None:
        """Parses bytes; where the parser stops for an upgrade, reads the head again without it, then what follows."""
        rest = self._fed(data)
        while rest is not None:
            head = self._without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # passes over it, as uvicorn's own does
            self._fed(head)
            rest = self._fed(rest)

    def _fed(self, data: bytes | memoryview) -> memoryview | None:
        """Feeds the parser; returns what is left where it stopped for an upgrade, else None."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return memoryview(data)[upgrade.args[0] :]
        return None

    def _without_upgrade(self) -> bytes:
        """The present head as it came, without its Upgrade."""
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = (b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return line + b"".join(kept) + b"\r\n"

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn's says nothing, which closes
        """Whether to stay open for what is still to be answered: a half-closed client listens."""
        if self.partial and self._last is None:
            self.refuse(CUT)
        if not self._owing():
            return False
        if self._last is None:
            self.cycle.keep_alive = False  # else the refusal is the end
        if (scope := getattr(self.cycle, "scope", None)) is not None:
            scope["bandit.closed"] = True  # what takes seconds is not gone on with: who has gone looks the same
            self.cycle.message_event.set()
        return True

    # what the parser finds

    def on_message_begin(self) -> None:
        """A request's first byte, or that of a head which is read again."""
        self.partial = self._moved = True
        self._trailing, self._head_bytes, self._loose, self._hosts = False, 0, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self.url += url
        self._head_bytes += len(url)
        if self._head_bytes > HEAD_MAX:
            raise WireRefusal(LARGE_HEAD)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: those belong to no head, and are left out."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_MAX:
            raise WireRefusal(LARGE_HEAD)
        name = name.lower()
        if name in _JUDGED:
            self._judge(name, value)
        if not self._trailing:
            self.headers.append((name, value))

    def _judge(self, name: bytes, value: bytes) -> None:
        """Refuses a header that could be read in two ways, though the parser accepts it."""
        if self._trailing:
            if name == b"connection":
                raise WireRefusal(_no_http("Connection must not be a trailer"))
        elif name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or self.parser.get_http_version() != "1.1":
                raise WireRefusal(_no_http("Transfer-Encoding must be chunked, in HTTP/1.1"))
        elif name == b"expect" and value.strip().lower() == b"100-continue":
            self.expect_100_continue = self.parser.get_http_version() == "1.1"

    def on_headers_complete(self) -> None:
        """Begins a request, unless the parser stops here for an upgrade: `_parse` has the head read again."""
        self._head_bytes, self._loose, self._trailing = 0, 0, True
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise WireRefusal(_no_http("CONNECT is for proxies only"))
            return
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise WireRefusal(_no_http("expected HTTP/1.1 or HTTP/1.0"))
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            raise WireRefusal(_no_http("expected exactly one Host header"))
        self.url = _target(self.url)
        if not self.lasting:
            self.headers.append((b"connection", b"close"))  # older uvicorns send the header only where one came
        self.begin_cycle()
        if not self.lasting:
            self.cycle.keep_alive = False
        if not self.cycle.keep_alive:
            self.cycle.transport = cast(asyncio.Transport, _Last(self.transport, self._hang_up))

    def begin_cycle(self) -> None:
        """Make the request's cycle, and start it if it is its turn."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._moved, self._loose = True, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole, unless its head is to be read again."""
        if self.parser.should_upgrade():
            return
        self.partial = False
        super().on_message_complete()
        self.cycle.more_body = False  # uvicorn leaves it where the answer was the quicker

    # answers out

    def refuse(self, answer: bytes) -> None:
        """Ends the connection with this answer, in its turn, or without where the request has one already."""
        if self._last is not None:
            return
        cycle, self._last = self.cycle, answer
        if cycle is None or not cycle.more_body:  # what is refused has no cycle yet
            if not self._owing():
                self._end()
        elif self.pipeline:
            self.pipeline.popleft()  # it has not begun, and others are before it
        else:
            if cycle.response_started:
                self._last = b""
            cycle.disconnected, cycle.waiting_for_100_continue = True, False  # for whoever waits for the body's rest
            cycle.message_event.set()
            self._end()

    def _owing(self) -> bool:
        """Whether a request is being answered, or waits to be."""
        if self._ended or self.cycle is None:
            return False
        return bool(self.pipeline) or not (self.cycle.response_complete or self.cycle.disconnected)

    def _end(self) -> None:
        """Sends the last answer and reads on for a while: closing at once would reset, and the answer could be lost."""
        if self._ended or self.transport.is_closing():
            return
        self._ended, self._last = True, self._last or b""
        self.transport.write(self._last)
        self.transport.write_eof()
        self.pipeline.clear()
        self.flow.resume_reading()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(LINGER, self.transport.close)

    def _hang_up(self) -> None:
        """Ends the connection after its last answer, whatever came after that request."""
        self._last = b""
        self._end()

    def on_response_complete(self) -> None:
        """Goes on to the next in turn: a request, or the refusal."""
        if self._ended:
            return
        was_last = not self.pipeline
        super().on_response_complete()
        if was_last and self._last is not None:
            self._end()
        elif not self.transport.is_closing():
            self.flow.resume_reading()  # uvicorn's own call came while the next one was still in the queue


_JUDGED = frozenset((b"host", b"transfer-encoding", b"expect", b"connection"))  # all others cost one look


def _target(url: bytes) -> bytes:
    """The target in origin-form: of an address of our own (absolute-form) what is behind its authority.

    Raises:
        WireRefusal: for `*`, for other schemes, and for a fragment: `PUT .../arms/c#` would be an arm c.
    """
    if b"#" in url:
        raise WireRefusal(_no_http("an address must have no fragment; # in a name is written %23"))
    if url.startswith(b"/"):
        return url
    scheme, _, rest = url.partition(b"://")
    if scheme.lower() not in (b"http", b"https") or rest.startswith((b"/", b"?")):
        raise WireRefusal(_no_http("expected an address that begins with /"))
    return url if b"/" in rest.partition(b"?")[0] else _rooted(url)


def _rooted(url: bytes) -> bytes:
    """An address without a path with the path /."""
    before, mark, query = url.partition(b"?")
    return before + b"/" + mark + query
