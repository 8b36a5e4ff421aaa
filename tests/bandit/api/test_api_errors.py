"""Refusals over HTTP against a real store: sizes, types, junk of every sort, and never a 500."""

import json
import socket
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from live import CONTEXT, DOCUMENT, Experiment, Live, ok, problem, whole_answer

from bandit.errors import Code
from bandit.serving.api.problems import STATUS

QUIETLY = settings(deadline=None, max_examples=150, suppress_health_check=[*HealthCheck])  # the machine may be busy
MIB = 1 << 20


@pytest.fixture(scope="module")
def home(server: Live) -> Experiment:
    """An experiment that takes `CONTEXT`."""
    return server.experiment()


ADDRESSES = "recommendations", "feedback", "activations"
BODIES = [("POST", f"{what}{batch}") for what in ADDRESSES for batch in ("", "/batch")]
BODIES += [("PUT", ""), ("PATCH", ""), ("PUT", "arms"), ("PUT", "arms/a"), ("PATCH", "arms/a")]


def sent(home: Experiment, method: str, where: str, **more: Any) -> httpx.Response:
    """A request to one of the experiment's addresses that take a body."""
    return home.client.request(method, f"{home.at}/{where}".rstrip("/"), **more)


@pytest.mark.parametrize(("method", "where"), BODIES)
def test_a_body_is_json_and_says_so(home: Experiment, method: str, where: str) -> None:
    """Another media type or a compressed body is 415; none at all stands for JSON; +json and parameters are JSON."""
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "text/json",
        "application/jsonx",
        "",
        "+json",
        "text/x+json",
    ):
        response = sent(home, method, where, content=b"{}", headers={"Content-Type": kind})
        problem(response, Code.UNSUPPORTED_MEDIA_TYPE)
    headers = {"Content-Encoding": "gzip"}
    problem(sent(home, method, where, content=b"{}", headers=headers), Code.UNSUPPORTED_MEDIA_TYPE)
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"):
        problem(sent(home, method, where, content=b"{", headers={"Content-Type": kind}), Code.MALFORMED)
    problem(sent(home, method, where, content=b"{"), Code.MALFORMED)


@pytest.mark.parametrize(("method", "where"), BODIES)
def test_a_body_has_its_limit_by_its_declared_and_by_its_real_length(
    server: Live, home: Experiment, method: str, where: str
) -> None:
    """1 MiB, and 8 MiB for batches: not a byte more, whether the length is told before or the body comes in chunks."""
    limit = 8 * MIB if "batch" in where else MIB
    at = f"{home.at}/{where}".rstrip("/")
    head = f"{method} {at} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    declared = server.raw(f"{head}Content-Length: {limit + 1}\r\n\r\n".encode())  # nothing of it is sent
    assert declared.startswith(b"HTTP/1.1 413 ")
    assert b'"too_large"' in declared
    problem(sent(home, method, where, content=b" " * (limit - 1) + b"{"), Code.MALFORMED)  # as large as it may be
    chunked = sent(home, method, where, content=iter([b" " * 65_536] * (limit // 65_536) + [b"{"]))
    problem(chunked, Code.TOO_LARGE)


def test_a_connection_is_of_use_after_a_body_that_was_too_large(server: Live, home: Experiment) -> None:
    """The rest of the body is passed over, and the next request on the connection is answered."""
    head = f"POST {home.at}/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB + 1}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + b" " * 1000)
        assert whole_answer(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b" " * (MIB + 1 - 1000) + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert whole_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_expect_100_continue_is_answered_before_the_body_is_sent(server: Live, home: Experiment) -> None:
    """Go on where the body will be read; where it would be too large, 413 at once."""
    head = f"POST {home.at}/feedback HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{head}2\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert whole_answer(connection).startswith(b"HTTP/1.1 422 ")
    assert server.raw(f"{head}{MIB + 1}\r\n\r\n".encode()).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(
    server: Live, home: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    """No error is logged, and the next one is served."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(f"POST {home.at}/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    assert home.decided()["logged"]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


NO_HTTP = [
    b"NONSENSE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /v1/experiments/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/experiments/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("data", NO_HTTP)
def test_what_is_no_http_is_malformed(server: Live, data: bytes) -> None:
    """400, as a problem document like every other refusal."""
    head, _, body = server.raw(data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    found = json.loads(body)
    assert (found["code"], found["status"], found["type"]) == ("malformed", 400, "urn:bandit-server:problem:malformed")


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_too_large(server: Live, start: bytes) -> None:
    """An address, a header or ever more headers: at 64 KiB it ends, however they come in."""
    endless = b"x: y\r\n" * 1000 if start.endswith(b"\n") else b"a" * 6000
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(start)
        with suppress(ConnectionError):
            for _ in range(2000):
                connection.sendall(endless)
        found = whole_answer(connection)
    assert not found or (found.startswith(b"HTTP/1.1 413 ") and b'"too_large"' in found)
    assert server.client.get("/healthz", headers={"x": "y" * 60_000}).status_code == 200


STRANGE = [
    "/v1/nothing",
    "/v1/experiments/",
    "/v1/experiments/%00",
    "/v1/experiments/a/b/c/d",
    "/healthz%0A",
    "/healthz/",
    "//healthz",
    "/static-offline-docs/%00",
    "/static-offline-docs/..%2f..%2fcore.py",
    "/static-offline-docs/" + "a" * 5000,
    "/" + "a" * 20_000,
]


@pytest.mark.parametrize("path", STRANGE)
def test_an_address_that_is_not_served_is_404(server: Live, path: str) -> None:
    """As a problem; no redirect, and no junk in an address does more."""
    for method in (b"GET", b"POST"):
        answer = server.raw(method + b" " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        found = json.loads(body)
        assert head.split()[1] in ((b"404",) if method == b"GET" else (b"404", b"405"))
        assert STATUS[Code(found["code"])] == found["status"]


def test_a_method_that_is_not_served_is_405_and_says_which_are(server: Live, home: Experiment) -> None:
    """With Allow, as HTTP has it."""
    for method, at, allowed in (
        ("DELETE", "/v1/experiments", "GET, HEAD"),
        ("GET", f"{home.at}/recommendations", "POST"),
        ("PUT", f"{home.at}/feedback/batch", "POST"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
    ):
        response = server.client.request(method, at)
        problem(response, Code.METHOD_NOT_ALLOWED)
        assert response.headers["allow"] == allowed


def test_of_a_name_given_twice_the_last_value_counts(server: Live) -> None:
    """In a document, a context and a request: JSON leaves it open, and here it is decided."""
    one = server.experiment()
    text = json.dumps(DOCUMENT).encode()
    response = server.client.put(one.at, content=text[:-1] + b', "lambda": 2, "lambda": 3}')
    assert ok(response)["lambda"] == 3
    body = b'{"context": {"age": 1, "country": "us", "age": 31}, "k": 1, "k": 2, "decision_id": "d"}'
    assert len(ok(server.client.post(f"{one.at}/recommendations", content=body))["arms"]) == 2
    assert one.decided(k=2, decision_id="d")["replayed"]  # age 31, as in CONTEXT


def test_nul_and_other_controls_in_values_are_text(server: Live) -> None:
    """In a category's value, a level and a payload they are characters like others; names and ids have none."""
    features = [{"name": "c", "type": "category", "levels": ["a\x00b", "\x1f"]}]
    one = server.experiment(features=features, arms=[{"id": "a", "payload": "\x00"}])
    assert one.decided(context={"c": "a\x00b"}, decision_id="d")["arms"][0]["payload"] == "\x00"
    assert problem(one.recommend(context={"c": "\x1f"}, decision_id="d"), Code.DECISION_ID_REUSED)
    problem(one.recommend(context={"c": "x"}, decision_id="a\x00"), Code.INVALID_REQUEST)
    problem(one.recommend(context={"c": "x", "\x00": 1}), Code.INVALID_CONTEXT)


def test_a_refusal_does_not_repeat_a_value(server: Live, home: Experiment) -> None:
    """Whatever was sent as a value may be personal: it is in no problem."""
    word = "s3cret-value"
    responses = [
        *(home.recommend(**{field: word}) for field in ("context", "k", "candidates", "defer")),
        home.recommend(context=CONTEXT | {"age": word}),
        home.recommend(candidates=[word]),
        home.recommend(exclude=[word]),
        home.recommend(decision_id="~" + word),
        home.recommend(user_id=word * 100),
        home.feedback(event=word, decision_id="d"),
        home.feedback(event="click", decision_id=word),
        home.feedback(event="click", decision_id="d", arm=word),
        home.feedback(event="click", decision_id="d", value=word),
        home.activate(word),
        *(
            home.patch({field: word})
            for field in ("status", "policy", "noise", "lambda", "reward_window", "fallback_arm")
        ),
        home.patch({"arms": [{"id": "a", "status": word}]}),
        home.client.get("/v1/experiments", params={"limit": word}),
        home.client.put(f"{home.at}/arms/a", json={"id": word}),
        home.client.delete(home.at, headers={"If-Match": word}),
    ]
    for response in responses:
        assert response.status_code >= 400
        assert word not in json.dumps(problem(response)), response.request.url


def test_an_error_of_the_server_is_answered_and_logged_once(
    server: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is told so as of any problem, and the connection goes on."""

    def broken() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(server.service, "state", broken)
    for _ in range(2):  # over one connection: a reset would be an error here
        assert server.client.get("/readyz").json()["code"] == "internal"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["GET /readyz failed"] * 2
