"""Refusals over HTTP against a real store: sizes, types, junk of every sort, and never a 500."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from live import CONTEXT, DOCUMENT, Experiment, Live, ok, problem, serving, valkey, whole_answer

from bandit.api.problems import STATUS
from bandit.errors import Code

QUIETLY = settings(deadline=None, max_examples=150, suppress_health_check=[*HealthCheck])  # the machine may be busy
MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """One server for all tests here."""
    with valkey() as url, serving(url) as live:
        yield live


@pytest.fixture(scope="module")
def home(server: Live) -> Experiment:
    """An experiment that takes `CONTEXT`."""
    return server.experiment()


def clean(response: httpx.Response) -> httpx.Response:
    """Any answer but a fault of ours; a refusal is a problem document."""
    assert response.status_code < 500, f"{response.request.method} {response.request.url} {response.text}"
    if response.status_code >= 400:
        problem(response)
    return response


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
    "/v1/experiments/%ff%fe",
    "/v1/experiments/%zz%",
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
        ("DELETE", "/v1/experiments", "GET"),
        ("GET", f"{home.at}/recommendations", "POST"),
        ("PUT", f"{home.at}/feedback/batch", "POST"),
        ("OPTIONS", "/healthz", "GET"),
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


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 1e308, -1e308, 5e-324, -0.0, 2**63, -(2**63) - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["a", "b", "click", "sale", "d", "~", "us", "", "\x00", "a\n", "active", "linucb", "number", "7d"]
    )
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
REQUEST_FIELDS = (
    "context",
    "user_id",
    "k",
    "candidates",
    "exclude",
    "decision_id",
    "defer",
    "event",
    "value",
    "event_id",
)
REQUESTS = st.fixed_dictionaries({}, optional=dict.fromkeys([*REQUEST_FIELDS, "arm"], JUNK)) | JUNK
WORDS = (
    b"NaN",
    b"Infinity",
    b"1e999",
    b'"\\ud800"',
    b'"\xff"',
    b"1" * 5000,
    b"[" * 2000,
    b"\x00",
    b"'",
    b"{",
    b"}",
    b",",
)


def texts(value: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """JSON texts of these values, some with junk within."""
    whole = value.map(lambda each: json.dumps(each).encode())
    return whole | st.builds(
        lambda text, at, word: text[:at] + word + text[at:], whole, st.integers(0, 60), st.sampled_from(WORDS)
    )


@QUIETLY
@given(
    st.sampled_from(BODIES[:6]), texts(REQUESTS | st.fixed_dictionaries({"requests": st.lists(REQUESTS, max_size=4)}))
)
@example(("POST", "recommendations"), b'{"context":{"age":"x"}, NaN')
@example(("POST", "recommendations"), b'{"context":{"age":' + b"[" * 100_000)
@example(("POST", "feedback"), b'{"decision_id":"d","event":"click","value":1e308}')
def test_no_request_is_answered_500(home: Experiment, where: tuple[str, str], text: bytes) -> None:
    """Any text at all to any address of deciding and feedback: an answer or a problem."""
    response = clean(sent(home, *where, content=text))
    if response.status_code == 200 and "batch" in where[1]:
        for result in response.json()["results"]:
            assert result.get("problem", {}).get("status", 200) < 500


EXTREMES = [0, 1, -1, 0.5, 1e308, -1e308, 5e-324, 1e-320, 1e-50, 1e50, -1e50, 1e-6, 1e12, 2**24, 2**53 + 1, 10**400]
NUMBERS = st.sampled_from(EXTREMES) | st.floats(-1e6, 1e6)
LARGE = st.sampled_from([1e-50, 1e-9, 0.5, 1, 1e6, 1e50])
SHAPES = st.sampled_from(["mean", "min", "boolean", "category"])
KINDS = st.builds(
    lambda size, low, unit, more: {"range": [low * size, size]} | ({"unit": size * unit} if unit else {}) | more,
    LARGE,
    st.sampled_from([0, -1, 0.5, -1e-7]),
    st.sampled_from([None, None, 1, 1e-3, 1e-7]),
    st.fixed_dictionaries(
        {},
        optional={
            "weight": NUMBERS,
            "aggregation": st.sampled_from(["sum", "first", "last"]),
            "over_range": st.sampled_from(["clip", "refuse"]),
        },
    ),
)
DOCUMENTS = st.fixed_dictionaries(
    {"arms": st.just(["a", "b"]), "rewards": st.dictionaries(st.sampled_from(["r", "s"]), KINDS, min_size=1)},
    optional={
        "policy": st.fixed_dictionaries({"type": st.just("linucb"), "alpha": LARGE, "explore": st.floats(0, 1)}),
        "lambda": LARGE,
        "noise": LARGE,
        "reward_window": st.sampled_from([1, 0.001, 1e7, 1e308, 5e-324, "1s", "9" * 400 + "d", "0.0000001s"]),
        "fallback_arm": st.sampled_from(["a", "zz", None]),
        "status": st.sampled_from(["active", "active", "paused"]),
        "activation": st.sampled_from(["explicit", "on_decision"]),
        "attribution": st.sampled_from(["all", "first", "last"]),
    },
)


@st.composite
def features(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any]]:
    """(features, a context for them): extreme ones, nearly all of them possible."""
    made: list[Any] = []
    context: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(["x", "y", "a.b", "f0", "]$"]), unique=True, max_size=3)):
        shape = draw(SHAPES)
        if shape == "boolean":
            made.append({"name": name, "type": shape})
            context[name] = draw(st.booleans())
        elif shape == "category":
            levels = draw(st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True))
            made.append({"name": name, "type": shape, "levels": levels})
            context[name] = draw(st.text(max_size=3))
        else:
            names = ("mean", "scale") if shape == "mean" else ("min", "max")
            small = draw(st.sampled_from([0, -1e50, -1, 1e-51, 1e308]))
            made.append({"name": name, "type": "number", names[0]: small, names[1]: draw(LARGE)})
            context[name] = draw(NUMBERS)
    return made, context


@QUIETLY
@given(DOCUMENTS, features(), NUMBERS)
@example({"arms": ["a"], "rewards": {"r": {"range": [0, 1e-320]}}}, ([], {}), 1)
@example({"arms": ["a", "b"], "rewards": {"r": {"weight": 1e308}, "s": {"weight": 1e308}}}, ([], {}), 1)
def test_no_document_is_answered_500_nor_is_what_it_leads_to(
    server: Live, document: Any, described: tuple[list[Any], Any], value: float
) -> None:
    """Any document: refused, or served; then the numbers in its answers are numbers, and its probabilities are."""
    one = Experiment(server.client, "fuzzed")
    document = document | {"features": described[0]}
    if clean(server.client.put(one.at, content=json.dumps(document), params={"reset": True})).status_code >= 400:
        return
    for i in range(2):  # once without and once with what the first has taught
        name = f"d{i}"
        body = {"context": described[1], "decision_id": name, "user_id": "u", "k": i + 1}
        answer = clean(one.client.post(f"{one.at}/recommendations", content=json.dumps(body)))
        if answer.status_code == 200 and answer.json()["logged"]:
            for shown in answer.json()["arms"]:
                assert 0 < shown["propensity"] <= 1
                told = [shown["score"], *(n for each in shown["estimates"].values() for n in each.values())]
                assert all(isinstance(number, float) for number in told)
        body = {"decision_id": name, "event": "r", "value": value} | ({"arm": "a"} if i else {})
        clean(one.client.post(f"{one.at}/feedback", content=json.dumps(body)))
        clean(one.activate(name))
        clean(server.client.get(f"{one.at}/arms"))
    clean(one.feedback(user_id="u", event="r", event_id="e"))


PARTS = ["a", "%00", "%ff", "%2F", "..", "%2E%2E", "%", "%zz", "%0A", "%C3%A4", "x" * 200, "batch", "~", "%7F", "?", ""]
PATHS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("".join)
PLACES = st.sampled_from(["/%s", "/v1/experiments/%s", "/v1/experiments/%s/arms", "/v1/experiments/victim/%s"])
METHODS = st.sampled_from(["GET", "PUT", "PATCH", "DELETE", "POST", "HEAD"])


@QUIETLY
@given(METHODS, PLACES | st.just("/v1/experiments/victim/arms/%s"), PATHS, texts(JUNK))
def test_no_address_is_answered_500(server: Live, method: str, place: str, part: str, text: bytes) -> None:
    """Any method, any junk in the path, any body; raw, so that no client tidies the path up."""
    if server.client.get("/v1/experiments/victim").status_code == 404:
        ok(server.client.put("/v1/experiments/victim", json=DOCUMENT), 201)
    head = f"{method} {place % part} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
    answer = server.raw(head.encode() + text)
    assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), answer


HEADERS = [
    (b"Content-Type", b"\xff"),
    (b"Content-Type", b"application/json;;;\x01"),
    (b"If-Match", b"\xb2"),
    (b"If-Match", b"9" * 5000),
    (b"Accept", b"text/html"),
    (b"Expect", b"nonsense"),
    (b"X-API-Key", b"\xff" * 100),
    (b"Authorization", b"Bearer \xff"),
    (b"Content-Encoding", b"\xff"),
    (b"Connection", b"upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Host", b"\xff"),
]


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_is_answered_500(server: Live, home: Experiment, header: tuple[bytes, bytes]) -> None:
    """Bytes that are no text, numbers that are none, and what nobody asked for."""
    for method, where in (("PATCH", ""), ("POST", "/recommendations"), ("GET", "/arms")):
        head = f"{method} {home.at}{where} HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n".encode()
        answer = server.raw(head + header[0] + b": " + header[1] + b"\r\n\r\n{}")
        assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), answer
