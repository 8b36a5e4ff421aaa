"""Answers come in the order of the requests, whole, and reach also who is half-closed, still sending or refused."""

import socket
import time
from collections.abc import Iterator

import pytest
from test_wire import MESSAGES, NEXT, REFUSED, SMUGGLED, UPGRADES, chunked, post, sized
from wire import Wire, wired


@pytest.fixture(scope="module", params=["direct", "asgi"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """One server for all tests here; its short way has to be as the long one."""
    with wired(direct=request.param == "direct") as made:
        yield made
        assert (made.direct > 0) == (request.param == "direct")


# pipelining


def test_pipelined_requests_of_every_kind_are_answered_in_order(wire: Wire) -> None:
    """In one piece: slow ones, early ones, ones that ask for an upgrade, all whole."""
    kinds = [sized, chunked]
    parts = [
        b"".join(made(b"%d" % at + SMUGGLED, *asked, to=to))
        for at, (made, to, asked) in enumerate(
            (made, to, asked)
            for made in kinds
            for to in (b"/slow", b"/early", b"/a")
            for asked in ((), *UPGRADES.values())
        )
    ]
    heard = wire.say(b"".join(parts), count=len(parts))
    assert heard.statuses == [200] * len(parts)
    expected = [to for _ in kinds for to in (b"/slow", b"/early", b"/a") for _ in range(1 + len(UPGRADES))]
    assert [taken.target for taken in heard.taken] == expected
    assert [body.split()[1] for _, body in heard.answers] == expected


def test_pipelined_requests_are_not_read_without_limit() -> None:
    """While some wait for their turn nothing more is read: their number is that of one reading, not of all sent."""
    one = b"GET /turns HTTP/1.1\r\nHost: x\r\n\r\n"
    with wired() as wire:
        heard = wire.say(one * 12_000, count=12_000)
        assert heard.statuses == [200] * 12_000
        assert wire.most_waiting <= 262_144 / len(one)  # the loop reads 256 KiB at once


def test_a_pipelined_body_is_not_overdue_while_we_do_not_read_it() -> None:
    """An answer of 0.6 s where a request has 0.3 s: the half body behind it has its time when its turn has come."""
    with wired(seconds=0.3) as wire:
        head, body = sized(b"{}")
        slow = b"".join(sized(b"{}", to=b"/slower"))
        heard = wire.say(slow + slow + head + body[:1])
        assert heard.statuses == [200, 200, 408]
        assert wire.say(slow + head + body[:1], body[1:], count=2).statuses == [200, 200]


# half-closed clients


@pytest.mark.parametrize("to", [b"/a", b"/slow", b"/early"])
@pytest.mark.parametrize("made", [sized, chunked])
@pytest.mark.parametrize("asked", [(), UPGRADES["h2c"]])
def test_who_says_that_nothing_more_comes_is_answered(
    wire: Wire, made: object, to: bytes, asked: tuple[bytes, ...]
) -> None:
    """All of its requests, in order; then the connection ends."""
    one = made(SMUGGLED, *asked, to=to)  # type: ignore[operator]
    for times in (1, 3):
        heard = wire.say(*one * times, half=True)
        assert (heard.statuses, heard.ended) == ([200] * times, True)
        assert [taken.target for taken in heard.taken] == [to] * times


@pytest.mark.parametrize("kind", ["sized", "chunked", "h2c sized", "h2c chunked"])
def test_who_ends_within_a_request_is_told(wire: Wire, kind: str) -> None:
    """400 at whatever byte, after the answers that are owed; nobody takes the half for a whole."""
    whole = b"".join(MESSAGES[kind])
    slow = b"".join(sized(b"{}", to=b"/slow"))
    for at in range(1, len(whole), 3):
        heard = wire.say(whole[:at], half=True)
        assert (heard.statuses, heard.ended) == ([400], True), whole[:at]
        assert [taken.body for taken in heard.taken] in ([], [None])
    heard = wire.say(slow + slow + whole[:-1], half=True)
    assert (heard.statuses, heard.ended) == ([200, 200, 400], True)


def test_who_ends_between_requests_is_let_go(wire: Wire) -> None:
    """Without a word."""
    assert wire.say(half=True) == ([], True, [])
    assert wire.say(NEXT, half=True).statuses == [200]


# what the client is told


def test_go_on_is_said_in_its_turn_and_to_who_knows_the_word(wire: Wire) -> None:
    """100 after the answers before it, with space around the word too, and never to HTTP/1.0."""
    slow = b"".join(sized(b"{}", to=b"/slow"))
    for word in (b"100-continue", b"100-Continue "):
        head, body = sized(b"{}", b"Expect: " + word)
        assert wire.say(slow + head, body, count=3).statuses == [200, 100, 200]
    heard = wire.say(post(b"Expect: 100-continue", b"Content-Length: 2", version=b"1.0"), b"{}")
    assert heard.statuses == [200]


def test_a_refusal_reaches_who_is_still_sending(wire: Wire) -> None:
    """Closing with bytes unread would reset the connection, and the answer be lost in some systems."""
    bad = REFUSED["gzip and then chunked"]
    for _ in range(20):
        heard = wire.say(bad, *[b"x" * 100_000] * 20)
        assert (heard.statuses, heard.ended) == ([400], True)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_last_answer_reaches_who_is_still_sending(wire: Wire, version: bytes) -> None:
    """The same where a connection ends as agreed: an answer that came before the body was read is not lost."""
    head = post(b"Connection: close", b"Content-Length: 2000000", to=b"/early", version=version)
    for _ in range(20):
        heard = wire.say(head, *[b"x" * 100_000] * 20, NEXT)
        assert (heard.statuses, heard.ended) == ([200], True)


def test_a_refused_client_that_stays_is_let_go_of() -> None:
    """It is heard out for two seconds, not for ever."""
    with wired() as wire, socket.create_connection(("127.0.0.1", wire.port)) as client:
        client.sendall(b"NONSENSE\r\n\r\n")
        begun = time.monotonic()
        wire.loop.run_until_complete(wire.settled())
        assert 1.0 < time.monotonic() - begun < 5.0
