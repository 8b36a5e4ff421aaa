"""The short way of a request: one that is plain, with a small body, goes to `serving.api.hot` without ASGI.

uvicorn makes a task, an event, a queue of messages and a scope for each request; that costs as much as a decision. Here
a request of one of our addresses with a body of known, small length is an `Exchange`, in the place of uvicorn's own
cycle: it keeps its turn among pipelined requests, and everything else that the protocol promises holds for it too.
Whatever is unusual about a request sends it the long way, where it is refused or served.

A client sends the same head again and again. So what the parser found in a plain one is kept, and the same bytes, with
their whole body behind them and nothing before them, are not parsed again.
"""

from __future__ import annotations

import re
import time
from typing import Any, ClassVar, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from bandit.access.keys import WRITE
from bandit.access.ring import GRANT
from bandit.process.deadline import DeadlineProtocol
from bandit.serving.access.gate import Gate, credential_in
from bandit.serving.api.hot import PLAIN
from bandit.serving.api.problems import Answer
from bandit.telemetry import request_ids

NONE = re.compile(rb"(?!)")
KNOWN = 1024  # heads kept, of at most so many bytes each
SMALL = 64 * 1024  # bytes of a body: uvicorn reads on no further until somebody takes what has come


class Plain(NamedTuple):
    """What a plain head says."""

    name: str  # of the experiment
    what: str  # the operation
    length: int  # bytes of the body
    credential: bytes  # the key that it has
    lines: bytes  # of the answer's head, because of the request's origin
    request_id: bytes = b""  # the caller's; nothing where one is to be made


class Server(Protocol):
    """Who answers (`bandit.serving.api.hot.Hot`)."""

    @property
    def full(self) -> bool:
        """Whether too many waited of late: else nobody has to be asked whether a request is shed."""

    def begin(self, what: str, name: str, data: bytes, client: Exchange, /) -> None:
        """Answer a request now or later; whatever happens, it is answered."""

    def told(self, what: str, status: int, seconds: float, /) -> None:
        """Take note of an answer."""

    def refused(self, experiment: str, what: str, error: BaseException, /) -> None:
        """Take note of a refusal."""

    def sheds(self, what: str, name: str, /) -> Answer | None:
        """The refusal of one more request, which is taken note of, where too many wait; else nothing."""


class _Unheard:
    """In the place of an event that nobody waits for."""

    def set(self) -> None:
        pass


class Exchange:
    """One request and its answer; the attributes without a docstring are those of uvicorn's `RequestResponseCycle`."""

    __slots__ = (
        "_lines", "_plain", "_protocol", "_since", "body", "disconnected", "keep_alive", "message_event", "more_body",
        "request_id", "response_complete", "response_started", "transport", "waiting_for_100_continue",
    )  # fmt: skip

    def __init__(self, protocol: DirectProtocol, plain: Plain, keep_alive: bool, whole: bytes | None = None) -> None:
        self._protocol, self._plain, self._lines = protocol, plain, plain.lines
        self.request_id = plain.request_id or request_ids.made()
        self.transport, self.keep_alive = protocol.transport, keep_alive
        self.body: bytes | bytearray = bytearray() if whole is None else whole
        self.more_body = whole is None
        self.response_started = self.response_complete = self.disconnected = self.waiting_for_100_continue = False
        self.message_event = _UNHEARD

    def begin(self) -> None:
        """Its turn has come, and its body is all there."""
        self._since = time.monotonic()
        body, self.body = bytes(self.body), b""  # an idle connection keeps its last exchange
        plain, protocol = self._plain, self._protocol
        if protocol.gate.on:
            grant = protocol.gate.ring.found.get(plain.credential)
            if grant is None or not grant.plain:
                self._judge(body)
                return
        protocol.direct.begin(plain.what, plain.name, body, self)

    def _judge(self, body: bytes) -> None:
        """Begin, if the gate lets it in; else it is refused here."""
        plain, protocol = self._plain, self._protocol
        verdict = protocol.gate.admit(plain.credential, WRITE, plain.name)
        self._lines += b"".join(b"%b: %b\r\n" % header for header in verdict.headers)
        if verdict.refusal is not None and verdict.problem is not None:
            protocol.direct.refused(plain.name, plain.what, verdict.problem)
            self.answer(verdict.refusal)
            return
        before = GRANT.set(verdict.grant)
        try:
            protocol.direct.begin(plain.what, plain.name, body, self)
        finally:
            GRANT.reset(before)

    def answer(self, answer: Answer) -> None:
        """Send the answer, and let the next request have its turn."""
        self._protocol.direct.told(self._plain.what, answer.status, time.monotonic() - self._since)
        if self.transport.is_closing():
            return
        self.response_started = self.response_complete = True
        self.transport.write(self._protocol.whole(answer, self.keep_alive, self.request_id, self._lines))
        if not self.keep_alive:
            self.transport.close()
        self._protocol.answered()


_UNHEARD = _Unheard()


class DirectProtocol(DeadlineProtocol):
    """One connection; the class attributes, shared by a server's connections, are set by `direct_protocol`."""

    cycle: Any
    address: ClassVar[re.Pattern[bytes]] = PLAIN  # (name, what) of what goes the short way
    direct: ClassVar[Server]
    gate: ClassVar[Gate]
    known: ClassVar[dict[bytes, Plain]]  # of heads that were parsed before, and keep the connection alive
    heads: ClassVar[dict[Any, bytes]]
    stamp: ClassVar[list[Any]]  # the default headers, once a second new ones, that `heads` were made with

    _head = b""  # of the request at hand, where it could be kept

    @classmethod
    def let_go(cls) -> None:
        """From now on each request is the last of its connection, and its answer says so."""
        cls.lasting = False
        cls.known.clear()  # what is known keeps connections

    def data_received(self, data: bytes) -> None:
        """Begins a request at once whose head is known; else has it parsed."""
        self._head = b""
        if self._at_rest():
            end = data.find(b"\r\n\r\n") + 4
            head = data[:end]
            plain = self.known.get(head)
            if plain is not None and plain.length == len(data) - end:
                if self.direct.full and (refusal := self._shed(plain)) is not None:
                    self.transport.write(self.whole(refusal, True, request_ids.made(), plain.lines))
                    self.server_state.total_requests += 1
                    self._rested = self.loop.time()
                    return
                self.waiting.pop(self, None)
                self.cycle = exchange = Exchange(self, plain, True, data[end:])
                exchange.begin()
                return
            if end <= KNOWN and head.startswith(b"POST "):
                self._head = head
        super().data_received(data)

    def _shed(self, plain: Plain) -> Answer | None:
        """The refusal of a request that would wait for too long: most are, past capacity, so it costs little."""
        if self.gate.on:
            grant = self.gate.ring.found.get(plain.credential)
            if grant is None or not grant.plain:
                return None  # the gate is asked first
        return self.direct.sheds(plain.what, plain.name)

    def _at_rest(self) -> bool:
        """Whether the next byte begins a request that is answered next."""
        if self.partial or self._loose or self._last is not None or self.flow.write_paused:
            return False
        return self.cycle is None or self.cycle.response_complete

    def begin_cycle(self) -> None:
        """As an exchange, if it is plain."""
        head, self._head = self._head, b""
        plain = self._plain()
        if plain is None:
            super().begin_cycle()
            return
        before = self.cycle
        keep_alive = self.lasting and self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
        if head and keep_alive and not plain.request_id:  # nor is one like any other then
            if len(self.known) >= KNOWN:
                self.known.clear()
            self.known[head] = plain
        self.cycle = Exchange(self, plain, keep_alive)
        if before is not None and not before.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _plain(self) -> Plain | None:
        """What a request asks for, where it can go the short way."""
        found = self.address.fullmatch(self.url)
        if found is None or self.parser.get_method() != b"POST" or self.flow.write_paused or self.expect_100_continue:
            return None
        length, origin, request_id = SMALL + 1, None, b""
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif (name == b"content-type" and value != b"application/json") or name == b"content-encoding":
                return None
            elif name == b"origin":
                origin = value
            elif name == b"host" and not self.gate.takes(value):
                return None
            elif name == request_ids.HEADER:
                request_id = request_ids.accepted(value)
        if length > SMALL:
            return None
        lines = b"" if self.gate.cors is None else self.gate.cors.lines(origin)
        return Plain(found[1].decode(), found[2].decode(), length, credential_in(self.headers), lines, request_id)

    def on_message_complete(self) -> None:
        """Begins an exchange whose turn it is, once all at hand is parsed: an answer may end the connection."""
        cycle = self.cycle
        whole = isinstance(cycle, Exchange) and cycle.more_body
        super().on_message_complete()
        if whole and not cycle.more_body and not self.pipeline:  # else this was the head of an upgrade, or it waits
            self.loop.call_soon(self._take_turn, cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Serves what had come whole and waited for its turn: nobody hears of it, but nothing is lost."""
        waiting = [cycle for cycle, _ in reversed(self.pipeline) if isinstance(cycle, Exchange) and not cycle.more_body]
        super().connection_lost(exc)
        for exchange in waiting:
            exchange.begin()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Of a pipelined request whose turn it is: an exchange has no task."""
        if not isinstance(cycle, Exchange):
            super()._start_asgi_task(cycle, app)
        elif not cycle.more_body:
            self.loop.call_soon(self._take_turn, cycle)  # not at once, or a long pipeline's answers would nest

    def _take_turn(self, exchange: Exchange) -> None:
        """Begin, even if the connection has ended meanwhile; where the client takes no answers, once it has."""
        if not self.flow.write_paused:
            exchange.begin()
            return
        task = self.loop.create_task(self._when_drained(exchange))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _when_drained(self, exchange: Exchange) -> None:
        await self.flow.drain()
        exchange.begin()

    def answered(self) -> None:
        """As `on_response_complete`, which goes through three classes, where nothing else waits or has happened."""
        if self.pipeline or self._last is not None or self._begun is not None or self.flow.read_paused:
            self.on_response_complete()
        elif not self.transport.is_closing():
            self.server_state.total_requests += 1
            self._unsent = 0
            self.waiting[self] = None  # at the end: it was taken out when the request had come
            self._keep_alive()

    def whole(self, answer: Answer, keep_alive: bool, request_id: bytes, more: bytes) -> bytes:
        """Status line, headers and body; all headers but the length, the id and `more` are made once a second."""
        if self.stamp[0] is not self.server_state.default_headers:
            self.stamp[0] = self.server_state.default_headers
            self.heads.clear()
        key = answer.status, answer.headers, keep_alive
        if (head := self.heads.get(key)) is None:
            own = [*self.server_state.default_headers, *answer.headers]
            lines = [b"%b: %b\r\n" % header for header in own]
            lines += [] if keep_alive else [b"connection: close\r\n"]
            head = self.heads[key] = STATUS_LINE[answer.status] + b"".join(lines) + b"content-length: "
        body = answer.body
        return b"%b%d\r\nx-request-id: %b\r\n%b\r\n%b" % (head, len(body), request_id, more, body)


def direct_protocol(
    request_timeout: float, most_connections: int, server: Server, gate: Gate, *, short: bool = True
) -> type[DirectProtocol]:
    """The protocol of one server: `server` answers what goes the short way, if anything does, and `gate` lets in; for
    the rest see `deadline_protocol`.
    """
    bound = {"request_timeout": request_timeout, "most_connections": most_connections, "waiting": {}}
    own: dict[str, Any] = {"direct": server, "gate": gate, "known": {}, "heads": {}, "stamp": [None]}
    own |= {} if short else {"address": NONE}
    return type("BoundDirectProtocol", (DirectProtocol,), {**bound, **own})
