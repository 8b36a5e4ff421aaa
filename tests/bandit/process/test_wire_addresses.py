"""Addresses by their raw bytes: broken escapes, methods that a path takes, HEAD where GET is; on a real server."""

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from live import DOCUMENT, Experiment, Live, ok, problem

from bandit.errors import Code


@pytest.fixture(scope="module")
def home(server: Live) -> Experiment:
    """An experiment with arms a, b and c."""
    return server.experiment()


def asked(server: Live, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """The (status, body) for a target just as it is written: no client tidies it up."""
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    told, _, found = server.raw(head.encode() + body).partition(b"\r\n\r\n")
    return int(told.split()[1]), found


# escapes

BROKEN = ["caf%E9", "caf%FC", "%", "a%", "a%2", "%zz", "%C3", "%C3%28", "%ED%A0%80", "%C0%AF", "%F4%90%80%80", "%+1"]


@pytest.mark.parametrize("name", BROKEN)
def test_an_arms_name_with_a_broken_escape_is_refused(server: Live, home: Experiment, name: str) -> None:
    """With every method; no arm is made, and no two become one."""
    before = home.seen()
    for method, body in (("PUT", b"{}"), ("PATCH", b"{}"), ("GET", b""), ("DELETE", b""), ("HEAD", b"")):
        status, found = asked(server, method, f"{home.at}/arms/{name}", body)
        assert status == 400
        assert method == "HEAD" or b'"malformed"' in found
    assert home.seen() == before


@pytest.mark.parametrize("name", BROKEN)
def test_an_experiments_name_with_a_broken_escape_is_refused(server: Live, name: str) -> None:
    """Before it is looked for, by the router and by the quick way to deciding alike."""
    for method, where in (
        ("PUT", ""),
        ("GET", ""),
        ("GET", "/arms"),
        ("POST", "/recommendations"),
        ("POST", "/feedback"),
    ):
        status, found = asked(server, method, f"/v1/experiments/{name}{where}", b"{}")
        assert (status, b'"malformed"' in found) == (400, True)


@pytest.mark.parametrize("text", BROKEN)
def test_a_query_with_a_broken_escape_is_refused(server: Live, home: Experiment, text: str) -> None:
    """A cursor, a target, and a name that nobody knows."""
    for where in (
        "/v1/experiments?cursor=",
        f"{home.at}/evaluation?target=fixed:",
        f"{home.at}?x=",
        "/healthz?",
        "/docs?",
    ):
        status, found = asked(server, "GET", where + text)
        assert (status, b'"malformed"' in found) == (400, True)


def test_escapes_that_are_whole_are_names(server: Live, home: Experiment) -> None:
    """Letters in UTF-8, %25 for a %, %23 for a #, and %2F or / in an arm's name: each its own arm."""
    names = {
        "caf%C3%A9": "café",
        "caf%c3%bc": "cafü",
        "50%25": "50%",
        "c%23": "c#",
        "x%2Fy": "x/y",
        "%F0%9F%98%80": "😀",
    }
    for raw, name in names.items():
        assert asked(server, "PUT", f"{home.at}/arms/{raw}", b"{}")[0] == 201
        assert ok(httpx.get(f"{server.url}{home.at}/arms/{raw}"))["arm"] == name
    assert asked(server, "PUT", f"{home.at}/arms/x/y", b"{}")[0] == 200
    assert set(names.values()) <= home.seen().keys()


def test_a_slash_in_an_experiments_name_leads_nowhere_else(server: Live, home: Experiment) -> None:
    """`home%2Farms%2Fz` is no address: decoded, it would be an arm of another experiment."""
    before = home.seen()
    for method, target, body in (
        ("PUT", f"{home.at}%2Farms%2Fz", b"{}"),
        ("DELETE", f"{home.at}%2farms/a", b""),
        ("PUT", f"{home.at}/arms%2Fz", b"{}"),
        ("POST", f"{home.at}%2Frecommendations", b'{"context": {"age": 1, "country": "us"}}'),
        ("GET", f"/v1%2Fexperiments%2F{home.name}", b""),
    ):
        status, found = asked(server, method, target, body)
        assert (status, b'"not_found"' in found) == (404, True)
    assert home.seen() == before


# methods


def requests(server: Live) -> Iterator[tuple[str, str]]:
    """(method, path) of all that the server's own document tells of, and of its pages."""
    document: Any = ok(server.client.get("/openapi.json"))
    for path, methods in document["paths"].items():
        yield from ((method.upper(), path) for method in methods)
    yield from (("GET", path) for path in ("/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"))


def test_allow_tells_all_that_a_path_takes_and_nothing_else(server: Live) -> None:
    """For every path, by a method that none has; each that is told of is then served, and no other one is."""
    takes: dict[str, set[str]] = {}
    for method, path in requests(server):
        takes.setdefault(path, set()).update((method, "HEAD") if method == "GET" else (method,))
    assert len(takes) > 15
    for path, methods in takes.items():
        at = path.format(e="nothing", arm="x/y", decision_id="x/y")
        for method in {"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE"}:
            response = server.client.request(method, at)
            assert (response.status_code == 405) == (method not in methods), f"{method} {at}"
            if response.status_code == 405:
                assert set(response.headers["allow"].split(", ")) == methods, at
                assert method == "HEAD" or problem(response, Code.METHOD_NOT_ALLOWED)


def test_head_is_answered_as_get_is_without_the_body(server: Live, home: Experiment) -> None:
    """Health, version, documents, pages and what is not there: the same status and headers."""
    paths = [path for method, path in requests(server) if method == "GET"]
    for path in (
        *(path.format(e=home.name, arm="a", decision_id="d") for path in paths),
        "/nothing",
        "/v1/experiments/none",
    ):
        got, head = server.client.get(path), server.client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
        if not path.endswith(("/readyz", "/metrics", "/summary")):  # how long ago something was, counts, and rates
            assert head.headers["content-length"] == got.headers["content-length"], path


def test_nothing_follows_the_head_of_a_head(server: Live) -> None:
    """The bytes after it are the next answer's."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\nHEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.count(b"HTTP/1.1 ") == 2
    assert received.endswith(b"\r\n\r\n")
    assert b"{" not in received


# what was found: a request within a body


def test_a_put_within_the_body_of_feedback_makes_no_experiment(server: Live, home: Experiment) -> None:
    """As curl --http2 sends it, its body in a segment of its own."""
    inner = json.dumps(DOCUMENT).encode()
    smuggled = b"PUT /v1/experiments/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(inner), inner)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(
            f"POST {home.at}/feedback HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            f"HTTP2-Settings: AA\r\nContent-Type: application/json\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode()
        )
        time.sleep(0.1)  # the client's pace
        connection.sendall(smuggled + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"400", b"200"]
    problem(server.client.get("/v1/experiments/smuggled"), Code.EXPERIMENT_NOT_FOUND)
