"""Deciding and feedback come in two ways, without ASGI and with it: answers are the same, and those of the schema."""

import json
import re
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from live import CONTEXT, Experiment, Live, ok, serving, valkey
from test_api_fuzz import QUIETLY, REQUESTS, texts

OPERATIONS = ("recommendations", "feedback", "activations")
LONG = {"content-type": "application/json; charset=utf-8"}  # sends a request the long way
VARIES = {"decision_id", "model_position", "expires_at", "score", "estimates"}  # of two experiments that are alike
UNUSUAL = st.sampled_from(
    [0, 1, 2, 2**40, "a", "b", "zz", "d-1", "d-2", "~x", "click", "sale", None, [], ["a"], ["a", "a"], True]
)
LIKELY = {
    "recommendations": st.fixed_dictionaries(
        {"context": st.just(CONTEXT) | st.sampled_from([{}, {"age": 1}, {**CONTEXT, "more": 1}, None])},
        optional=dict.fromkeys(["user_id", "k", "candidates", "exclude", "decision_id", "defer"], UNUSUAL),
    ),
    "feedback": st.fixed_dictionaries(
        {"event": st.sampled_from(["click", "sale", "zz"])},
        optional=dict.fromkeys(["decision_id", "user_id", "value", "event_id", "arm"], UNUSUAL),
    ),
    "activations": st.fixed_dictionaries({"decision_id": UNUSUAL}),
}


@pytest.fixture(scope="module")
def twins(server: Live) -> tuple[Experiment, Experiment]:
    """Two that are alike; each shows its one arm that is not retired."""
    return server.experiment(arms=["a"]), server.experiment(arms=["a"])


@pytest.fixture(scope="module")
def document(server: Live) -> Any:
    """The OpenAPI document."""
    return server.client.get("/openapi.json").json()


def known(answer: Any) -> Any:
    """What must be the same of two answers."""
    if isinstance(answer, dict):
        return {name: None if name in VARIES else known(value) for name, value in answer.items()}
    return [known(each) for each in answer] if isinstance(answer, list) else answer


def shown(response: httpx.Response, own: Experiment) -> tuple[Any, ...]:
    """Status, headers and body, but for what differs between any two answers."""
    text = response.text.replace(own.name, "NAME")
    other = {"date", "content-length", "x-request-id"}
    headers = {name: value for name, value in response.headers.items() if name not in other}
    return response.status_code, headers, known(json.loads(text))


@pytest.mark.parametrize("what", OPERATIONS)
def test_both_ways_answer_alike(server: Live, twins: tuple[Experiment, Experiment], what: str) -> None:
    """Whatever is sent: the same status, headers and body; what was sent before is known to both."""

    @QUIETLY
    @given(texts(LIKELY[what] | REQUESTS))
    def alike(text: bytes) -> None:
        one, other = twins
        direct = server.client.post(f"{one.at}/{what}", content=text, headers={"content-type": "application/json"})
        long = server.client.post(f"{other.at}/{what}", content=text, headers=LONG)
        assert shown(direct, one) == shown(long, other)

    alike()


def clicked(one: Experiment, decision_id: str, kind: bytes = b"application/json") -> bytes:
    """The bytes of a request that says so."""
    body = json.dumps({"decision_id": decision_id, "event": "click", "event_id": "1"}).encode()
    head = b"POST %b/feedback HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (one.at.encode(), kind, len(body)) + body


def said_and_reset(server: Live, data: bytes, seconds: float) -> None:
    """Send these bytes, and reset the connection so soon after: a reset drops what has not been read."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(data)
        time.sleep(seconds)


def recorded(one: Experiment, made: list[str]) -> bool:
    """Whether the click on each of these decisions was recorded before."""
    return {ok(one.feedback(decision_id=each, event="click", event_id="1"))["status"] for each in made} == {"duplicate"}


@pytest.fixture(scope="module")
def patient() -> Iterator[Live]:
    """A server that waits for a store which is held up for a moment, and refuses nobody meanwhile."""
    with valkey() as url, serving(url, store_patience=10) as live:
        yield live


@pytest.mark.parametrize("kind", [b"application/json", LONG["content-type"].encode()])
def test_what_was_sent_whole_is_served_though_its_sender_has_gone(patient: Live, kind: bytes) -> None:
    """A page that closes, or a proxy that resets: feedback that waits for the store behind others is recorded."""
    one = patient.experiment()
    made = [one.decided()["decision_id"] for _ in range(20)]
    with redis.Redis.from_url(patient.service.settings.redis_url or "") as store:
        store.execute_command("CLIENT", "PAUSE", "300", "WRITE")
        for each in made:
            said_and_reset(patient, clicked(one, each, kind), 0.01)
    assert recorded(one, made)


def test_what_was_pipelined_whole_is_served_though_its_sender_has_gone(patient: Live) -> None:
    """Also what waits for the answers before it."""
    one = patient.experiment()
    made = [one.decided()["decision_id"] for _ in range(20)]
    said_and_reset(patient, b"".join(clicked(one, each) for each in made), 0.001)
    assert recorded(one, made)


def test_those_that_wait_for_something_to_be_looked_up_are_bounded(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds its body, also when its client has gone: thousands of them took gigabytes while the store was away."""
    monkeypatch.setattr("bandit.serving.api.hot.LOOKED_UP", 2)
    one = server.experiment()
    with redis.Redis.from_url(server.service.settings.redis_url or "") as store, ThreadPoolExecutor(8) as pool:
        store.execute_command("CLIENT", "PAUSE", "500", "ALL")
        asked = [pool.submit(Experiment(server.client, f"none-{i}").recommend) for i in range(8)]
        codes = sorted(future.result().json()["code"] for future in asked)
    assert codes == ["experiment_not_found"] * 2 + ["overloaded"] * 6
    one.decided()


def own_rules(what: str, body: Any) -> bool:
    """Whether a body breaks a rule that no schema states, such as that a number is one that a float can hold."""
    if re.search(r"\d{309}", json.dumps(body)):
        return True
    if what == "feedback":
        return ("decision_id" in body) == ("user_id" in body) or None in (body.get("decision_id"), body.get("user_id"))
    names = body.get("candidates") or []
    return str(body.get("decision_id", "")).startswith("~") or len(names) > len(set(names))


@pytest.mark.parametrize("what", OPERATIONS)
def test_the_schema_and_the_server_agree(
    server: Live, document: Any, twins: tuple[Experiment, Experiment], what: str
) -> None:
    """What the schema refuses is refused; what it takes is not refused for its form; and an answer is one of it."""
    operation = document["paths"][f"/v1/experiments/{{e}}/{what}"]["post"]
    taken = {**operation["requestBody"]["content"]["application/json"]["schema"], "components": document["components"]}
    told = {
        **operation["responses"]["200"]["content"]["application/json"]["schema"],
        "components": document["components"],
    }
    problems = {"$ref": "#/components/schemas/ProblemDetails", "components": document["components"]}

    @QUIETLY
    @given(LIKELY[what] | REQUESTS)
    def agree(body: Any) -> None:
        response = server.client.post(f"{twins[0].at}/{what}", json=body)
        jsonschema.validate(response.json(), told if response.status_code == 200 else problems)
        allowed = jsonschema.Draft202012Validator(taken).is_valid(body)
        if not allowed:
            assert response.status_code >= 400, body
        elif response.status_code >= 400 and not own_rules(what, body):
            assert response.json()["code"] not in ("malformed", "invalid_request"), response.text

    agree()


def test_the_short_way_is_taken(
    server: Live, twins: tuple[Experiment, Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a plain request; not by one whose body has no length, or that is unusual otherwise."""
    from bandit.serving.api import app

    asked: list[str] = []
    plain = app.hot.answer

    async def counted(service: Any, what: str, *rest: Any) -> Any:
        asked.append(what)
        return await plain(service, what, *rest)

    monkeypatch.setattr(app.hot, "answer", counted)
    assert twins[0].recommend().status_code == 200
    assert asked == []
    body = json.dumps({"context": CONTEXT}).encode()
    at = f"{twins[0].at}/recommendations"
    assert server.client.post(at, content=iter([body]), headers={"content-type": "application/json"}).status_code == 200
    assert server.client.post(at, content=body, headers=LONG).status_code == 200
    assert server.client.post(at, content=body + b" " * 70_000).status_code == 200
    assert asked == ["recommendations"] * 3
