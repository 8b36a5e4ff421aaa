"""A connection's bytes have one reading: bodies are no requests, whatever a head says and however bytes are split."""

import json
from collections.abc import Iterator

import pytest
from wire import Taken, Wire, wired

from bandit.process.direct import KNOWN

HOST = b"Host: x\r\n"
SMUGGLED = b"PUT /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT_TAKEN = Taken("GET", b"/next", b"")


@pytest.fixture(scope="module", params=["direct", "asgi"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """One server for all tests here; its short way has to be as the long one."""
    with wired(direct=request.param == "direct") as made:
        yield made
        assert (made.direct > 0) == (request.param == "direct")


def post(*headers: bytes, to: bytes = b"/a", version: bytes = b"1.1") -> bytes:
    """The head of a POST."""
    return b"POST %b HTTP/%b\r\n%b%b\r\n" % (to, version, HOST, b"".join(header + b"\r\n" for header in headers))


def sized(body: bytes, *headers: bytes, to: bytes = b"/a") -> tuple[bytes, bytes]:
    """(head, body) with a Content-Length."""
    return post(*headers, b"Content-Length: %d" % len(body), to=to), body


def chunked(body: bytes, *headers: bytes, to: bytes = b"/a", trailers: bytes = b"") -> tuple[bytes, bytes]:
    """(head, body) in two chunks."""
    half = len(body) // 2
    parts = (b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    return post(*headers, b"Transfer-Encoding: chunked", to=to), b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


# heads that were parsed before


def test_a_head_seen_before_is_read_as_it_was() -> None:
    """With its body behind it, in pieces, among others, or after bytes that are none of its own."""
    head, body = sized(SMUGGLED)
    once = Taken("POST", b"/a", SMUGGLED)
    with wired() as wire:
        whole, split, rest = (head + body,), (head, body), (head + body[:9], body[9:])
        for pieces in (whole, *(whole * n for n in (2, 9)), split, rest, (*whole, *split, *rest, *whole)):
            heard = wire.say(*pieces, count=sum(piece.startswith(b"POST") for piece in pieces))
            assert set(heard.taken) == {once}
            assert len(heard.answers) == len(heard.taken)
        assert wire.say(head + body + NEXT, count=2).taken == [once, NEXT_TAKEN]
        assert wire.say(head + body, b"\r\n" + head + body, b"\r", b"\n", head + body, count=3).taken == [once] * 3
        assert wire.say(head + body + head + body, head + body, count=3).taken == [once] * 3
        slow = b"".join(sized(body, to=b"/slow"))
        for _ in range(2):  # answered in turn
            heard = wire.say(slow, head + body, slow, head + body, count=4)
            assert [told.split()[1] for _, told in heard.answers] == [b"/slow", b"/a"] * 2
        begun = b"POST /b HTTP/1.1\r\nX-A: "  # the head is the rest of another's
        assert wire.say(begun, head + body, count=1).taken == [Taken("POST", b"/b", SMUGGLED)]
        assert wire.say(post(b"Content-Length: 999"), head + body, half=True).taken == []
        assert len(wire.known.found) > 10
        wire.say(head + body, count=1)
        assert not wire._last.cycle.body  # an idle connection keeps its last exchange


def test_what_may_not_be_read_by_its_head_alone_is_not_kept() -> None:
    """The end of a connection, chunks, a client that waits to be told to go on, an id that no other request will have;
    and no more than so many heads.
    """
    with wired() as wire:
        for each in (b"Connection: close", b"Expect: 100-continue", b"X-Request-ID: 7", b"X: " + b"x" * KNOWN):
            wire.say(*sized(b"{}", each), half=True)
            wire.say(b"".join(sized(b"{}", each)), half=True)
        wire.say(b"".join(chunked(b"{}")), half=True)
        assert not wire.known
        wire.known.update((b"%d" % n, None) for n in range(KNOWN))
        wire.say(*sized(b"{}"), count=1)
        assert len(wire.known) == 1


# Upgrade

UPGRADES = {
    "h2c": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "websocket": (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
    "tls": (b"Upgrade: TLS/1.3", b"Connection: upgrade"),
    "two lines": (b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: h2c", b"Upgrade: irc/6.9"),
    "proxy": (b"Proxy-Connection: upgrade", b"Upgrade: h2c"),
    "empty": (b"Connection: upgrade", b"Upgrade:"),
}


@pytest.mark.parametrize("made", [sized, chunked])
@pytest.mark.parametrize("asked", UPGRADES)
def test_an_upgrade_is_ignored_and_its_body_is_a_body(wire: Wire, asked: str, made: object) -> None:
    """Also where the body comes by itself, and is itself the text of a request."""
    head, body = made(SMUGGLED, *UPGRADES[asked])  # type: ignore[operator]
    for pieces in ((head + body + NEXT,), (head, body, NEXT), (head, body + NEXT), (head + body[:5], body[5:], NEXT)):
        heard = wire.say(*pieces, count=2)
        assert heard.taken == [Taken("POST", b"/a", SMUGGLED), NEXT_TAKEN]
        assert (heard.statuses, heard.ended) == ([200, 200], False)


@pytest.mark.parametrize("asked", UPGRADES)
def test_an_upgrade_without_a_body_is_ignored(wire: Wire, asked: str) -> None:
    """The other headers are given as they came, and the connection serves on."""
    head = b"GET /a?b=c HTTP/1.1\r\n%bX-Y:  z \xff\r\n%b\r\n" % (HOST, b"".join(h + b"\r\n" for h in UPGRADES[asked]))
    heard = wire.say(head, NEXT, count=2)
    assert heard.taken == [Taken("GET", b"/a?b=c", b""), NEXT_TAKEN]
    assert [value.strip() for name, value in wire.headers[0] if name == b"x-y"] == [b"z \xff"]


def test_a_body_after_an_upgrade_is_held_to_what_is_held_of_any(wire: Wire) -> None:
    """A chunk that is none, or two Hosts: refused, and nothing after it is a request."""
    for head in (post(*UPGRADES["h2c"], b"Transfer-Encoding: chunked"), post(*UPGRADES["h2c"], HOST.strip())):
        for pieces in ((head, b"zz\r\n" + SMUGGLED), (head + b"zz\r\n" + SMUGGLED, NEXT)):
            heard = wire.say(*pieces)
            assert (heard.statuses, heard.ended) == ([400], True)
            assert [taken.body for taken in heard.taken] in ([], [None])


# pieces

MESSAGES = {
    "sized": sized(SMUGGLED),
    "chunked": chunked(SMUGGLED, trailers=b"X-T: 1\r\nX-U: 2\r\n"),
    "h2c sized": sized(SMUGGLED, *UPGRADES["h2c"]),
    "h2c chunked": chunked(SMUGGLED, *UPGRADES["h2c"], trailers=b"X-T: 1\r\n"),
    "expect": sized(SMUGGLED, b"Expect: 100-continue"),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_request_may_be_split_at_every_byte(wire: Wire, kind: str) -> None:
    """In two pieces at any place, and in pieces of one byte: the same request, and the next one is the next."""
    whole = b"".join(MESSAGES[kind])
    text = whole + whole + NEXT
    expected = [Taken("POST", b"/a", SMUGGLED)] * 2 + [NEXT_TAKEN]
    cuts = [(text[:at], text[at:]) for at in range(1, len(text))]
    cuts.append(tuple(text[at : at + 1] for at in range(len(text))))
    for pieces in cuts:
        heard = wire.say(*pieces, count=5 if kind == "expect" else 3)
        assert heard.taken == expected, pieces
        assert [status for status in heard.statuses if status != 100] == [200] * 3


# what is refused

BY_THE_PARSER = {
    "both lengths": post(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "both lengths, the other way": post(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n",
    "two lengths": post(b"Content-Length: 2", b"Content-Length: 3") + b"{}",
    "two equal lengths": post(b"Content-Length: 2", b"Content-Length: 2") + b"{}",
    "a list of lengths": post(b"Content-Length: 2, 2") + b"{}",
    "a length with a sign": post(b"Content-Length: +2") + b"{}",
    "a negative length": post(b"Content-Length: -2") + b"{}",
    "a hexadecimal length": post(b"Content-Length: 0x2") + b"{}",
    "no length": post(b"Content-Length: ") + b"{}",
    "a length beyond 64 bits": post(b"Content-Length: 18446744073709551618") + b"{}",
    "gzip": post(b"Transfer-Encoding: gzip") + b"0\r\n\r\n",
    "identity": post(b"Transfer-Encoding: identity") + b"0\r\n\r\n",
    "xchunked": post(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "chunked and then gzip": post(b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n",
    "chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunked;q=1": post(b"Transfer-Encoding: chunked;q=1") + b"0\r\n\r\n",
    "an empty coding": post(b"Transfer-Encoding: ", b"Content-Length: 2") + b"{}",
    "a folded length": post(b"Content-Length: 1\r\n 0") + b"0123456789",
    "a folded header": post(b"X: a\r\n b"),
    "a folded header, by a tab": post(b"X: a\r\n\tb"),
    "a folded first line": b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n",
    "LF after the line": b"GET /a HTTP/1.1\nHost: x\r\n\r\n",
    "LF after a header": b"GET /a HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "LF at the end": b"GET /a HTTP/1.1\r\nHost: x\r\n\n",
    "CR after a header": b"GET /a HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "CR at the end": b"GET /a HTTP/1.1\r\nHost: x\r\n\rGET",
    "space after a name": post(b"Content-Length : 2") + b"{}",
    "tab after a name": post(b"X\t: 2"),
    "space in a name": post(b"Content Length: 2") + b"{}",
    "NUL in a name": post(b"X\0Y: 2"),
    "no name": post(b": 2"),
    "no colon": post(b"X"),
    "a name that is no token": post(b"X(Y: 2"),
    "a name with a letter": post(b"\xc3\xa9: 2"),
    "NUL in a value": post(b"X: a\0b"),
    "a control character in a value": post(b"X: a\x01b"),
    "NUL in the address": b"GET /a\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte beyond ASCII in the address": b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "one in the query": b"GET /?\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the address": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab before the address": b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n",
    "http/1.1": b"GET /a http/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in small letters": b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that nobody knows": b"FOO /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a chunk's size with 0x": post(b"Transfer-Encoding: chunked") + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size with a sign": post(b"Transfer-Encoding: chunked") + b"+2\r\n{}\r\n0\r\n\r\n",
    "a space after a chunk's size": post(b"Transfer-Encoding: chunked") + b"2 \r\n{}\r\n0\r\n\r\n",
    "a chunk without a size": post(b"Transfer-Encoding: chunked") + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk of 2^64 bytes": post(b"Transfer-Encoding: chunked") + b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "LF after a chunk's size": post(b"Transfer-Encoding: chunked") + b"2\n{}\r\n0\r\n\r\n",
    "LF in a chunk's extension": post(b"Transfer-Encoding: chunked") + b"2;a\n{}\r\n0\r\n\r\n",
    "LF after a chunk": post(b"Transfer-Encoding: chunked") + b"2\r\n{}\n0\r\n\r\n",
    "nothing after a chunk": post(b"Transfer-Encoding: chunked") + b"2\r\n{}0\r\n\r\n",
    "LF at a chunked end": post(b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\n",
    "a length as a trailer": chunked(b"{}", trailers=b"Content-Length: 5\r\n"),
    "a coding as a trailer": chunked(b"{}", trailers=b"Transfer-Encoding: chunked\r\n"),
    "a folded trailer": chunked(b"{}", trailers=b"X: y\r\n z\r\n"),
    "LF after a trailer": chunked(b"{}", trailers=b"X: y\n"),
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "the address *": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address without /": b"GET a HTTP/1.1\r\nHost: x\r\n\r\n",
}
HERE = {
    "gzip and then chunked": post(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "gzip and chunked in two lines": post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ",chunked": post(b"Transfer-Encoding: ,chunked") + b"0\r\n\r\n",
    "chunked of HTTP/1.0": post(b"Transfer-Encoding: chunked", version=b"1.0") + b"0\r\n\r\n",
    "Connection as a trailer": chunked(b"{}", trailers=b"Connection: close\r\n"),
    "CONNECT with a path": b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT with a length": b"CONNECT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
    "no version": b"GET /a\r\n\r\n",
    "HTTP/0.9": b"GET /a HTTP/0.9\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
    "no Host": b"GET /a HTTP/1.1\r\n\r\n",
    "two Hosts": post(b"Host: y"),
    "two equal Hosts": post(b"Host: x"),
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment behind a query": b"GET /a?b#c HTTP/1.1\r\nHost: x\r\n\r\n",
    "another scheme": b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address without a host": b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n",
}
REFUSED = {
    name: b"".join(data) if isinstance(data, tuple) else data
    for name, data in (BY_THE_PARSER | HERE).items()  # type: ignore[operator]
}


def refused(wire: Wire, *pieces: bytes, before: int = 0) -> None:
    """One 400 after so many answers; no request but a cut one, and the end."""
    heard = wire.say(*pieces)
    assert (heard.statuses, heard.ended) == ([200] * before + [400], True)
    assert [taken.body for taken in heard.taken[before:]] in ([], [None])
    told = json.loads(heard.answers[-1][1])
    assert (told["code"], told["status"], told["type"]) == ("malformed", 400, "urn:bandit-server:problem:malformed")


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(wire: Wire, name: str) -> None:
    """With 400, and nothing that comes after it is a request, in one piece or in many."""
    data = REFUSED[name]
    for pieces in ((data + NEXT,), (data, NEXT), tuple(data[at : at + 7] for at in range(0, len(data), 7))):
        refused(wire, *pieces, NEXT)


PLACED = {
    name: data for name, data in REFUSED.items() if data.startswith((b"POST", b"GET")) and b"HTTP/1.1\r\nH" in data
}


@pytest.mark.parametrize("name", PLACED)
def test_it_is_refused_of_an_upgrade_too(wire: Wire, name: str) -> None:
    """A head that is read a second time is held to the same."""
    asked = b"HTTP/1.1\r\n" + b"".join(header + b"\r\n" for header in UPGRADES["h2c"])
    data = PLACED[name].replace(b"HTTP/1.1\r\n", asked, 1)
    for pieces in ((data + NEXT,), (data, NEXT)):
        refused(wire, *pieces, NEXT)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_waits_for_the_answers_before_it(wire: Wire, name: str) -> None:
    """Who sent a good request and a bad one gets the first answer first: else it would be taken for the other's."""
    slow = b"".join(sized(SMUGGLED, to=b"/slow"))
    refused(wire, slow + slow + REFUSED[name] + NEXT, before=2)
    refused(wire, slow, REFUSED[name], NEXT, before=1)


# what is taken

ACCEPTED = {
    "an absolute address": (b"GET http://y/a?b HTTP/1.1\r\nHost: x\r\n\r\n", Taken("GET", b"/a?b", b"")),
    "an absolute address without a path": (b"GET http://y HTTP/1.1\r\nHost: x\r\n\r\n", Taken("GET", b"/", b"")),
    "one with a query only": (b"GET HTTPS://y?b HTTP/1.1\r\nHost: x\r\n\r\n", Taken("GET", b"/?b", b"")),
    "empty lines before": (b"\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", Taken("GET", b"/a", b"")),
    "spaces around the address": (b"GET  /a  HTTP/1.1\r\nHost: x\r\n\r\n", Taken("GET", b"/a", b"")),
    "an empty Host": (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", Taken("GET", b"/a", b"")),
    "a length with zeros": (post(b"Content-Length: 002") + b"{}", Taken("POST", b"/a", b"{}")),
    "a length with space around": (post(b"Content-Length:\t2 ") + b"{}", Taken("POST", b"/a", b"{}")),
    "CHUNKED": (post(b"Transfer-Encoding: CHUNKED ") + b"2\r\n{}\r\n0\r\n\r\n", Taken("POST", b"/a", b"{}")),
    "a chunk's extension": (
        post(b"Transfer-Encoding: chunked") + b'02;a=b;c="d"\r\n{}\r\n000\r\n\r\n',
        Taken("POST", b"/a", b"{}"),
    ),
    "a body of a GET": (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", Taken("GET", b"/a", b"{}")),
    "a value beyond ASCII": (post(b"X: \xff\xfe", b"Content-Length: 0"), Taken("POST", b"/a", b"")),
    "an expectation of something else": (post(b"Expect: tea", b"Content-Length: 0"), Taken("POST", b"/a", b"")),
    "a length that Connection names": (
        post(b"Connection: content-length", b"Content-Length: 2") + b"{}",
        Taken("POST", b"/a", b"{}"),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_loose_but_has_one_reading_is_taken(wire: Wire, name: str) -> None:
    """And the next request is the next."""
    data, taken = ACCEPTED[name]
    heard = wire.say(data + NEXT, count=2)
    assert (heard.taken, heard.statuses) == ([taken, NEXT_TAKEN], [200, 200])


@pytest.mark.parametrize(
    "more", [b"", b"Host: x\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n"]
)
def test_http_1_0_is_answered_and_the_connection_ends(wire: Wire, more: bytes) -> None:
    """Its client need not say where the request goes; what comes after it is no request."""
    heard = wire.say(b"POST /a HTTP/1.0\r\n%bContent-Length: 2\r\n\r\n{}" % more + NEXT + b"\0\0")
    assert (heard.taken, heard.statuses, heard.ended) == ([Taken("POST", b"/a", b"{}")], [200], True)


def test_after_connection_close_nothing_is_a_request(wire: Wire) -> None:
    """Neither a request nor junk, and no amount of it is answered."""
    for more in (NEXT, b"\0\0", SMUGGLED, b"x" * 200_000):
        for to in (b"/a", b"/slow"):
            heard = wire.say(b"".join(sized(b"{}", b"Connection: close", to=to)) + more)
            assert (heard.taken, heard.statuses, heard.ended) == ([Taken("POST", to, b"{}")], [200], True)


# chunked trailers


@pytest.mark.parametrize("asked", [(), UPGRADES["h2c"]])
def test_trailers_are_no_headers(wire: Wire, asked: tuple[bytes, ...]) -> None:
    """A key, a type or an upgrade that comes after the body says nothing of the request."""
    trailers = b"X-API-Key: k\r\nContent-Type: text/plain\r\nHost: y\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n"
    heard = wire.say(*chunked(SMUGGLED, *asked, trailers=trailers), NEXT, count=2)
    assert (heard.taken, heard.statuses) == ([Taken("POST", b"/a", SMUGGLED), NEXT_TAKEN], [200, 200])
    assert {name for name, _ in wire.headers[0]} <= {b"host", b"transfer-encoding", b"connection", b"http2-settings"}


LARGE = {
    "an address": (b"GET /" + b"a" * 70_000,),
    "a whole head": (post(b"X: " + b"a" * 100_000),),
    "many headers": (post(*[b"X: y"] * 12_000),),
    "trailers": chunked(b"{}", trailers=b"X: y\r\n" * 12_000),
    "a trailer": chunked(b"{}", trailers=b"X: " + b"a" * 300_000),
    "an extension": (post(b"Transfer-Encoding: chunked"), b"2;" + b"a" * 300_000),
    "empty lines": (b"\r\n" * 200_000,),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_around_a_body_is_limited_too(wire: Wire, name: str) -> None:
    """64 KiB, in one piece or in many: an address, headers, trailers, what is said of a chunk."""
    data = b"".join(LARGE[name])
    for pieces in ((data,), tuple(data[at : at + 3000] for at in range(0, len(data), 3000))):
        heard = wire.say(*pieces)
        assert (heard.statuses, heard.ended) == ([413], True)
        assert [taken.body for taken in heard.taken] in ([], [None])


def test_a_head_of_60_kilobytes_is_taken_in_any_pieces(wire: Wire) -> None:
    """What counts is its size, not how it comes, nor what came before it."""
    head, body = sized(b"{}", *[b"X: " + b"y" * 95] * 600)
    for pieces in ((head + body,), (*(head[at : at + 1000] for at in range(0, len(head), 1000)), body)):
        assert wire.say(*pieces, count=1).statuses == [200]
    small = b"".join(sized(b"x" * 50_000))
    assert wire.say(small + small + NEXT[:20], NEXT[20:], count=3).statuses == [200] * 3
