"""Conversations at random on real sockets, each held against a reading of its bytes that shares no code with ours.

No request is made of a body's bytes, nothing is answered 5xx, nobody waits for an answer that does not come, and all
answers are in order. A conversation is made from its number: `converse(wire, Random(NUMBER))` repeats it.
"""

from collections import Counter
from random import Random
from typing import NamedTuple

import pytest
from test_wire import NEXT, REFUSED, SMUGGLED, UPGRADES
from wire import Taken, Wire, wired

INNER = (
    SMUGGLED,
    NEXT,
    b"0\r\n\r\n" + SMUGGLED,
    b"\r\n\r\n" + NEXT,
    b"{}",
    b"",
    b"5\r\n",
    b"\n\n" + NEXT,
    b"\0\xff" * 9,
)
METHODS = "GET", "POST", "PUT", "PATCH", "DELETE"


class Said(NamedTuple):
    """A request's bytes, what is to be taken for it, whether it asks for a 100, and whether it is the last."""

    data: bytes
    taken: Taken
    goes_on: bool = False
    closes: bool = False


def request(random: Random, targets: tuple[bytes, ...]) -> Said:
    """A request that is whole, of any kind; often one whose head has been parsed before."""
    if random.random() < 0.4:
        target, body = random.choice(targets), random.choice(INNER)
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (target, len(body))
        return Said(head + body, Taken("POST", target, b"" if target == b"/early" else body))
    target, method = random.choice(targets), random.choice(METHODS)
    body = b"".join(random.choices(INNER, k=random.choice((0, 1, 1, 2, 5))))
    if random.random() < 0.01:
        body *= 2000
    headers = [b"Host: x"]
    if random.random() < 0.5:
        headers.extend(random.choice(list(UPGRADES.values())))
    goes_on, closes = random.random() < 0.1, random.random() < 0.05
    headers.extend([b"Expect: 100-continue"] * goes_on + [b"connection: close"] * closes)
    if random.random() < 0.5:
        headers.append(b"tRANSFER-eNCODING: chunked")
        sent = chunks(random, body)
    else:
        headers.extend([b"Content-Length: %d" % len(body)] * (random.random() < 0.9 or bool(body)))
        sent = body
    random.shuffle(headers)
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target, b"".join(header + b"\r\n" for header in headers))
    early = target == b"/early"
    return Said(head + sent, Taken(method, target, b"" if early else body), goes_on and not early, closes)


def chunks(random: Random, body: bytes) -> bytes:
    """The body in chunks, with what may be around them."""
    parts = []
    while body:
        size = random.randint(1, len(body))
        extension = random.choice((b"", b"", b";a", b';a="b"'))
        parts.append(b"%x%b\r\n%b\r\n" % (size, extension, body[:size]))
        body = body[size:]
    trailers = random.choice((b"", b"", b"X: y\r\n", b"Upgrade: h2c\r\nX-Z: PUT / HTTP/1.1\r\n"))
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


def pieces(random: Random, data: bytes) -> list[bytes]:
    """The bytes, split anywhere."""
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.choice((0, 1, 1, 2, 4, 8))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def converse(wire: Wire, random: Random) -> str:
    """One conversation, held to what it must be; its kind."""
    kind = random.choice(("whole", "whole", "refused", "cut", "mutated"))
    (mutated if kind == "mutated" else planned)(wire, random, kind)
    return kind


def planned(wire: Wire, random: Random, kind: str) -> None:
    """Whole requests, of which each is taken and answered; then perhaps one that is refused or cut, and is told so."""
    said = [request(random, (b"/a", b"/a", b"/early", b"/turns", b"/soon")) for _ in range(random.randint(0, 4))]
    said = said or [request(random, (b"/a",))]
    last = next((at for at, each in enumerate(said) if each.closes), None)
    expected = said if last is None else said[: last + 1]
    data = b"".join(each.data for each in said)
    ends, more = kind != "whole", b""
    if kind == "refused":
        more = random.choice(list(REFUSED.values())) + random.choice((b"", SMUGGLED, NEXT))
    elif kind == "cut":
        cut = request(random, (b"/a",)).data
        more = cut[: random.randint(1, len(cut) - 1)]
    half = kind == "cut" or random.random() < 0.5
    count = sum(1 + each.goes_on for each in expected) if kind == "whole" and not half and last is None else 10**9
    heard = wire.say(*pieces(random, data + more), half=half, count=count)
    assert [taken for taken in heard.taken if taken.body is not None] == [each.taken for each in expected]
    statuses = [status for status in heard.statuses if status != 100]
    assert statuses == [200] * len(expected) + [400] * (ends and last is None)
    told = [body.split()[1] for status, body in heard.answers if status == 200]
    assert told == [each.taken.target for each in expected]


def mutated(wire: Wire, random: Random, kind: str) -> None:
    """Bytes changed, lost, doubled or put in anywhere: what is taken is what the bytes say, as far as it is taken."""
    data = b"".join(request(random, (b"/a", b"/b/c?d=e", b"/turns")).data for _ in range(random.randint(1, 4)))
    for _ in range(random.randint(1, 3)):
        data = changed(random, data)
    heard = wire.say(*pieces(random, data), half=True)
    taken, found = [taken for taken in heard.taken if taken.body is not None], reading(data)
    assert taken == found[: len(taken)], data
    statuses = [status for status in heard.statuses if status != 100]
    assert statuses[: len(taken)] == [200] * len(taken), data
    assert statuses[len(taken) :] in ([], [400], [413]), data
    assert len(taken) == len(found) or len(statuses) > len(taken), data


WORDS = (b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"1", b"f", b"-", b"+", b"\xff", b"?", b"/")


def changed(random: Random, data: bytes) -> bytes:
    """One change."""
    a = random.randint(0, len(data))
    b = a + random.choice((0, 0, 1, 1, 2, 10))
    word = random.choice((*WORDS, data[a : a + 20], bytes([random.randint(0, 255)]), b""))
    return data[:a] + word + data[b:]


def reading(data: bytes) -> list[Taken]:
    """The requests that these bytes are, up to the first that is doubtful: by their framing (RFC 9112) alone."""
    found: list[Taken] = []
    while True:
        head, end, data = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        words = [word for word in line.split(b" ") if word]
        fields = [(name.lower(), value.strip(b" \t").lower()) for name, _, value in (x.partition(b":") for x in lines)]
        body, data = framed(fields, data)
        if not end or body is None or len(words) != 3:
            return found
        method, target, version = words
        path, mark, query = target.partition(b"?")
        found.append(Taken(method.decode("latin-1"), path + mark * bool(query) + query, body))
        words = [word.strip(b" \t") for name, value in fields if name == b"connection" for word in value.split(b",")]
        if version != b"HTTP/1.1" or b"close" in words:
            return found


def framed(fields: list[tuple[bytes, bytes]], data: bytes) -> tuple[bytes | None, bytes]:
    """(body, what comes after it); None for one that is doubtful or not whole."""
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    sizes = [value for name, value in fields if name == b"content-length"]
    if codings:
        return dechunked(data) if codings == [b"chunked"] and not sizes else (None, b"")
    if not sizes:
        return b"", data
    if len(sizes) > 1 or not sizes[0].isdigit() or int(sizes[0]) > len(data):
        return None, b""
    return data[: int(sizes[0])], data[int(sizes[0]) :]


def dechunked(data: bytes) -> tuple[bytes | None, bytes]:
    """(body, what comes after its trailers)."""
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        digits = line.partition(b";")[0]
        if not end or not digits or digits.strip(b"0123456789abcdefABCDEF"):
            return None, b""
        size = int(digits, 16)
        if not size:
            break
        if data[size : size + 2] != b"\r\n":
            return None, b""
        body, data = body + data[:size], data[size + 2 :]
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None, b""
        if not line:
            return body, data


def run(numbers: range) -> Counter[str]:
    """How many conversations of each kind there were; the first that fails ends it, with its number."""
    counted: Counter[str] = Counter()
    with wired() as wire:
        for number in numbers:
            try:
                kind = converse(wire, Random(number))
            except (AssertionError, TimeoutError) as error:
                error.add_note(f"conversation {number}")
                raise
            counted[kind] += 1
            counted["requests taken"] += len(wire.taken)
        counted["heads known"] = len(wire.known.found)
    return counted


def test_conversations_at_random_have_one_reading() -> None:
    """Some, of every kind."""
    counted = run(range(1500))
    assert min(counted[kind] for kind in ("whole", "refused", "cut", "mutated")) > 200
    assert counted["heads known"] > 20


@pytest.mark.torture
def test_very_many_conversations_at_random_have_one_reading() -> None:
    """120,000 connections; -s shows how many of each kind."""
    print(dict(run(range(10_000, 130_000))))
