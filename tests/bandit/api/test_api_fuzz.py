"""Junk of every sort over HTTP against a real store: refused or served, and never a 500."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from live import DOCUMENT, Experiment, Live, ok, problem

QUIETLY = settings(deadline=None, max_examples=150, suppress_health_check=[*HealthCheck])  # the machine may be busy
ADDRESSES = [f"{what}{batch}" for what in ("recommendations", "feedback", "activations") for batch in ("", "/batch")]


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
    st.sampled_from(ADDRESSES), texts(REQUESTS | st.fixed_dictionaries({"requests": st.lists(REQUESTS, max_size=4)}))
)
@example("recommendations", b'{"context":{"age":"x"}, NaN')
@example("recommendations", b'{"context":{"age":' + b"[" * 100_000)
@example("feedback", b'{"decision_id":"d","event":"click","value":1e308}')
def test_no_request_is_answered_500(home: Experiment, where: str, text: bytes) -> None:
    """Any text at all to any address of deciding and feedback: an answer or a problem."""
    response = clean(home.client.post(f"{home.at}/{where}", content=text))
    if response.status_code == 200 and "batch" in where:
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
        head += b"" if header[0] == b"Host" else b"Host: x\r\n"  # else nothing but its absence would be tested
        answer = server.raw(head + header[0] + b": " + header[1] + b"\r\n\r\n{}")
        assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), answer
