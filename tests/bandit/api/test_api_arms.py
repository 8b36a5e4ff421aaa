"""The contract's arms, over HTTP against a real store: lists and single ones, payloads, names, what each has seen."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from live import Experiment, Live, ok, pointers, problem

from bandit.errors import Code


def arm(one: Experiment, name: str) -> str:
    """An arm's address."""
    return f"{one.at}/arms/{quote(name, safe='').replace('.', '%2E')}"


NAMES = ["a/b", "a b", "a%2Fb", "/", "..", ".", "?x=1", "#", "ä😀", "x" * 128, "batch", "a/", "/a", "\\", "\u200b", '"']


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_of_any_name_has_an_address(server: Live, name: str) -> None:
    """Percent-encoded, a `/` works, and so does anything that is no control character."""
    one = server.experiment(features=[])
    assert ok(server.client.put(arm(one, name), json={"payload": name}), 201)["arm"] == name
    assert ok(server.client.get(arm(one, name))).items() >= {"arm": name, "payload": name, "status": "active"}.items()
    assert ok(one.post("recommendations", {"candidates": [name]}))["arms"][0]["arm"] == name
    assert ok(server.client.patch(arm(one, name), json={"status": "paused"}))["status"] == "paused"
    assert server.client.delete(arm(one, name)).status_code == 204
    assert ok(server.client.get(arm(one, name)))["status"] == "retired"


def test_a_line_end_after_an_arm_is_not_overlooked(server: Live) -> None:
    """`a` and a line end is no spelling of the arm `a`: nothing is read, changed or retired by it."""
    one = server.experiment()
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        problem(server.client.request(method, f"{one.at}/arms/a%0A", json={"payload": 1}), Code.NOT_FOUND)
    assert ok(server.client.get(one.at))["arms"] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["%00", "a%7F", "a%C2%85", "x" * 129, ""])
def test_these_are_no_arm_names(server: Live, name: str) -> None:
    """Control characters, too long, nothing: not to be made, and not there."""
    one = server.experiment()
    assert pointers(server.client.put(f"{one.at}/arms/{name}"), Code.INVALID_EXPERIMENT) == ["/id"]
    problem(server.client.get(f"{one.at}/arms/{name}"), Code.ARM_NOT_FOUND)


def test_put_adds_with_201_and_replaces_with_200(server: Live) -> None:
    """No body is an arm without more; a body is the whole arm; its id may be told again but no other."""
    one = server.experiment()
    assert ok(server.client.put(arm(one, "d"), content=b""), 201)["impressions"] == 0
    whole = {"id": "d", "payload": {"x": 1}, "status": "paused"}
    assert ok(server.client.put(arm(one, "d"), json=whole)).items() >= {"arm": "d", "payload": {"x": 1}}.items()
    again = ok(server.client.put(arm(one, "d"), json={}))
    assert again["status"] == "paused"  # it named none
    assert "payload" not in again
    assert ok(server.client.put(arm(one, "d"), json={"status": "active"}))["status"] == "active"
    assert pointers(server.client.put(arm(one, "d"), json={"id": "e"}), Code.INVALID_EXPERIMENT) == ["/id"]
    assert ok(server.client.get(one.at))["arms"] == ["a", "b", "c", "d"]


def test_what_get_gave_can_be_put_and_patched(server: Live) -> None:
    """What the arm has seen is ignored; another arm's is refused."""
    one = server.experiment()
    ok(server.client.put(arm(one, "a"), json={"payload": {"n": 1}}))
    one.decided(candidates=["a"])
    one.until_seen(lambda rows: rows["a"]["impressions"] == 1)
    got = ok(server.client.get(arm(one, "a")))
    for send in (server.client.put, server.client.patch):
        found = ok(send(arm(one, "a"), json=got | {"status": "paused"}))
        assert found == got | {"status": "paused"}
        assert pointers(send(arm(one, "b"), json=got), Code.INVALID_EXPERIMENT) == ["/arm"]


def test_patch_changes_one_arm_by_a_merge_patch(server: Live) -> None:
    """Its status or a part of its payload; an arm that is not there, or is retired, is 404."""
    one = server.experiment()
    ok(server.client.put(arm(one, "d"), json={"payload": {"x": 1, "y": 2}}), 201)
    assert ok(server.client.patch(arm(one, "d"), json={"payload": {"x": None, "z": 3}}))["payload"] == {"y": 2, "z": 3}
    assert ok(server.client.patch(arm(one, "d"), json={"status": "paused"}))["payload"] == {"y": 2, "z": 3}
    assert "payload" not in ok(server.client.patch(arm(one, "d"), json={"payload": None}))
    detail = problem(server.client.patch(arm(one, "dd"), json={}), Code.ARM_NOT_FOUND)["detail"]
    assert "did you mean 'd'" in detail
    server.client.delete(arm(one, "d"))
    problem(server.client.patch(arm(one, "d"), json={}), Code.ARM_NOT_FOUND)
    problem(server.client.delete(arm(one, "d")), Code.ARM_NOT_FOUND)


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ([], [""]),
        (None, [""]),
        ({"unknown": 1}, ["/unknown"]),
        ({"status": "retired"}, ["/status"]),
        ({"payload": "x" * 16_384}, ["/payload"]),
        ({"id": 5}, ["/id"]),
    ],
)
def test_a_faulty_arm_names_the_place_in_what_was_sent(server: Live, body: Any, places: list[str]) -> None:
    """Pointers into the body, not into the document that the arm is a part of."""
    one = server.experiment()
    for method in ("PUT", "PATCH"):
        response = server.client.request(method, arm(one, "a"), content=json.dumps(body))
        assert pointers(response, Code.INVALID_EXPERIMENT) == places


PAYLOADS = [
    b'{"headline":"New","n":[1,2.50,-0.0,1e5,null,true,{"a":{}}]}',
    b"3.14159265358979323846264338327950288",
    b"1" * 300,
    b"null",
    b'"a\\u0000b\\ud83d\\ude00"',
    b"[" * 28 + b"]" * 28,
    b'"' + b"x" * (16 * 1024 - 2) + b'"',
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: repr(payload[:8]))
def test_a_payload_is_given_back_as_it_was_given(server: Live, payload: bytes) -> None:
    """Any JSON up to 16 KB, to the letter: with the arm, with the document, with a decision, after other changes."""
    one = server.experiment(features=[])
    response = server.client.put(f"{one.at}/arms", content=b'[{"id":"a","payload":%b}]' % payload)
    assert payload in response.content
    ok(one.patch({"lambda": 2}))
    ok(server.client.put(arm(one, "b")), 201)
    for found in (
        server.client.get(one.at),
        server.client.get(arm(one, "a")),
        one.post("recommendations", {"candidates": ["a"], "decision_id": "d"}),
        one.post("recommendations", {"candidates": ["a"], "decision_id": "d"}),
    ):
        assert b'"payload":' + payload in found.content


@pytest.mark.parametrize(
    "payload",
    [
        b"1e999",
        b"1" * 401,
        b"NaN",
        b'"\xff"',
        b'"\\ud800"',
        b"1" * 5000,
        b"[" * 40 + b"]" * 40,
        b"[" * 10**5 + b"]" * 10**5,
    ],
    ids=lambda payload: repr(payload[:8]),
)
def test_a_payload_that_is_no_strict_json_is_malformed(server: Live, payload: bytes) -> None:
    """What is only passed through is checked too: others have to read it."""
    one = server.experiment()
    document = b'{"arms":[{"id":"a","payload":%b}]}' % payload
    for response in (
        server.client.put(arm(one, "a"), content=b'{"payload":%b}' % payload),
        server.client.put(f"{one.at}/arms", content=b'[{"id":"a","payload":%b}]' % payload),
        server.client.patch(one.at, content=document),
        server.client.put(one.at, content=document),
    ):
        problem(response, Code.MALFORMED)


def test_the_list_of_arms_is_replaced_whole_and_keeps_its_order(server: Live) -> None:
    """Ids and objects; what is left out is retired, what is named again comes back; the document has their order."""
    one = server.experiment()
    listed: list[Any] = ["c", {"id": "x", "status": "paused", "payload": 1}, "a"]
    assert ok(server.client.put(f"{one.at}/arms", json=listed))["arms"] == listed
    statuses = {name: row["status"] for name, row in one.seen().items()}
    assert statuses == {"a": "active", "b": "retired", "c": "active", "x": "paused"}
    faulty: list[Any] = [([1], "/0"), ({}, ""), (["a", "a"], "/1"), (["a", ""], "/1"), ([{"id": "a", "x": 1}], "/0/x")]
    for body, place in faulty:
        assert pointers(server.client.put(f"{one.at}/arms", json=body), Code.INVALID_EXPERIMENT) == [place]


def test_there_are_at_most_ten_thousand_arms(server: Live) -> None:
    """10,000 are taken; one more is refused, in the list and alone."""
    one = server.experiment(features=[])
    names = [f"arm-{i}" for i in range(10_000)]
    assert len(ok(server.client.put(f"{one.at}/arms", json=names))["arms"]) == 10_000
    assert pointers(server.client.put(f"{one.at}/arms", json=[*names, "more"]), Code.INVALID_EXPERIMENT) == [""]
    problem(server.client.put(arm(one, "more")), Code.INVALID_EXPERIMENT)
    ok(server.client.put(arm(one, "arm-7"), json={"status": "paused"}))
    assert ok(one.post("recommendations", {}))["arms"][0]["arm"] in names


def test_a_retired_arm_is_never_shown_and_comes_back_with_what_it_had_learned(server: Live) -> None:
    """Its index is its own for ever: what others learn meanwhile is not its, and its sums are there again."""
    one = server.experiment(features=[])
    shown = [ok(one.post("recommendations", {"candidates": ["b"]}))["decision_id"] for _ in range(3)]
    ok(one.feedback(decision_id=shown[0], event="click"))
    before = one.until_seen(lambda rows: rows["b"]["rewards"]["click"]["sum"] == 1)["b"]
    assert server.client.delete(arm(one, "b")).status_code == 204
    strictly = {"candidates": ["b"], "strict": True}
    assert pointers(one.post("recommendations", strictly), Code.UNKNOWN_ARM) == ["/candidates/0"]
    ok(server.client.put(arm(one, "new")), 201)
    for _ in range(20):
        assert ok(one.post("recommendations", {}))["arms"][0]["arm"] in {"a", "c", "new"}
    assert ok(one.feedback(decision_id=shown[1], event="click"))["status"] == "accepted"  # shown before it retired
    assert ok(server.client.put(arm(one, "b")), 201)["impressions"] == before["impressions"] == 3
    row = one.until_seen(lambda rows: rows["b"]["rewards"]["click"]["sum"] == 2)["b"]
    assert (row["status"], row["impressions"]) == ("active", 3)


def test_a_retired_arm_can_be_sent_back_as_it_was_given(server: Live) -> None:
    """As anything that GET gives: it stays retired, with what it has learned."""
    one = server.experiment()
    assert server.client.delete(arm(one, "b")).status_code == 204
    given = ok(server.client.get(arm(one, "b")))
    assert given["status"] == "retired"
    for method in ("PUT", "PATCH"):
        assert ok(server.client.request(method, arm(one, "b"), json=given)) == given


def test_a_paused_arm_is_not_shown(server: Live) -> None:
    """Neither by the policy nor as a candidate, until it is active again."""
    one = server.experiment(features=[], arms=["a", {"id": "b", "status": "paused"}])
    assert {ok(one.post("recommendations", {}))["arms"][0]["arm"] for _ in range(20)} == {"a"}
    refused = problem(one.post("recommendations", {"candidates": ["b"], "strict": True}), Code.UNKNOWN_ARM)
    assert refused["errors"][0]["got"] == "an arm that is paused or retired"
    problem(one.post("recommendations", {"k": 2}), Code.NOT_ENOUGH_ARMS)
    ok(server.client.patch(arm(one, "b"), json={"status": "active"}))
    assert ok(one.post("recommendations", {"candidates": ["b"]}))["arms"][0]["arm"] == "b"


def test_the_fallback_arm_cannot_be_retired(server: Live) -> None:
    """A document that names an arm it does not have is refused, whichever way it would come about."""
    one = server.experiment(fallback_arm="a")
    assert pointers(server.client.delete(arm(one, "a")), Code.INVALID_EXPERIMENT) == ["/fallback_arm"]
    assert pointers(server.client.put(f"{one.at}/arms", json=["b"]), Code.INVALID_EXPERIMENT) == ["/fallback_arm"]


def test_arms_are_listed_with_what_they_have_seen_a_page_at_a_time(server: Live) -> None:
    """Impressions, sum and mean of each kind, the log's position, retired ones too; no reward yet has no mean."""
    one = server.experiment(features=[], arms=[f"arm-{i}" for i in range(5)])
    decision = ok(one.post("recommendations", {"candidates": ["arm-1"]}))["decision_id"]
    ok(one.post("recommendations", {"candidates": ["arm-1"]}))
    ok(one.feedback(decision_id=decision, event="sale", value=12.5, event_id="order"))
    server.client.delete(arm(one, "arm-3"))
    end = server.service.store.end(one.name).text().decode()
    one.until_seen(lambda rows: rows["arm-3"]["status"] == "retired" and rows["arm-1"]["rewards"]["sale"]["sum"] > 0)
    rows, cursor = [], "0"
    while cursor:
        page = ok(server.client.get(f"{one.at}/arms", params={"limit": 2, "cursor": cursor}))
        assert page["position"] == end
        rows, cursor = rows + page["arms"], page.get("next", "")
    assert [row["arm"] for row in rows] == [f"arm-{i}" for i in range(5)]
    assert rows[1] == {
        "arm": "arm-1",
        "status": "active",
        "impressions": 2,
        "rewards": {"click": {"sum": 0.0, "mean": 0.0}, "sale": {"sum": 12.5, "mean": 6.25}},
    }
    assert rows[0]["rewards"]["click"] == {"sum": 0.0, "mean": None}
    assert rows[3]["status"] == "retired"
    for parameters in ({"cursor": -1}, {"cursor": "x"}, {"limit": 0}, {"limit": 1001}, {"cursor": "9" * 5000}):
        problem(server.client.get(f"{one.at}/arms", params=parameters), Code.INVALID_REQUEST)
    assert ok(server.client.get(f"{one.at}/arms", params={"cursor": "9" * 30}))["arms"] == []
