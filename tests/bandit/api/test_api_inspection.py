"""One decision looked at, and several experiments asked at once."""

import math
from typing import Any

import pytest
from live import CONTEXT, Experiment, Live, ok, pointers, problem

from bandit.errors import Code


def looked(one: Experiment, decision_id: str, **query: Any) -> dict[str, Any]:
    """What is told of a decision."""
    found: dict[str, Any] = ok(one.client.get(f"{one.at}/decisions/{decision_id}", params=query))
    return found


def test_a_decision_is_told_as_it_was(server: Live) -> None:
    """By the caller's id and by the server's: what was answered, with the features, and what was credited when."""
    one = server.experiment()
    answer = one.decided(decision_id="mine/1", user_id="u")
    theirs = one.decided()
    ok(one.feedback(decision_id="mine/1", event="click", event_id="e"))
    ok(one.feedback(decision_id="mine/1", event="sale", value=20, event_id="o"))
    ok(one.feedback(decision_id="mine/1", event="sale", value=5, event_id="r", refund_of="o"))
    told = looked(one, "mine/1")
    assert (told["decision_id"], told["context"]) == ("mine/1", {"age": 31.0, "country": "us"})
    assert (told["expires_at"], told["model_position"]) == (answer["expires_at"], answer["model_position"])
    (shown,) = told["arms"]
    assert (shown["arm"], shown["propensity"]) == (answer["arms"][0]["arm"], answer["arms"][0]["propensity"])
    assert {each["arm"] for each in told["eligible"]} == set("abc")
    assert math.fsum(each["probability"] for each in told["eligible"]) == pytest.approx(1, abs=1e-12)
    events = [
        (each["event"], each.get("event_id"), each.get("refund_of"), each["credited"]) for each in told["feedback"]
    ]
    assert events == [("click", "e", None, 1.0), ("sale", "o", None, 20.0), ("sale", "r", "o", -5.0)]
    assert all(told["decided_at"] <= each["at"] for each in told["feedback"])
    assert looked(one, theirs["decision_id"])["feedback"] == []
    assert "explanation" not in told


def test_it_is_told_when_a_deferred_decision_was_activated(server: Live) -> None:
    """And that it has not been."""
    one = server.experiment()
    one.decided(decision_id="d", defer=True)
    before = looked(one, "d")
    assert (before["deferred"], before["activated_at"]) == (True, None)
    ok(one.activate("d"))
    assert looked(one, "d")["activated_at"] >= before["decided_at"]


def test_it_is_told_why_other_arms_could_not_be_shown(server: Live) -> None:
    """As far as the experiment of now tells: what nothing else explains, the request did not want."""
    arms = [
        "a", "unwanted", {"id": "resting", "status": "paused"}, "gone", {"id": "later", "from": "2090-01-01T00:00:00Z"},
        {"id": "over", "until": "2020-01-01T00:00:00Z"}, {"id": "old", "when": {"age": {"min": 60}}},
        {"id": "rich", "when": {"basket": {"min": 20}}}, {"id": "abroad", "when": {"country": ["cn"]}},
    ]  # fmt: skip
    one = server.experiment(arms=arms, attributes=["basket"])
    assert server.client.delete(f"{one.at}/arms/gone").status_code == 204
    one.decided(decision_id="d", exclude=["unwanted"])
    assert {each["arm"]: each["reasons"] for each in looked(one, "d")["others"]} == {
        "unwanted": ["request"],
        "resting": ["paused"],
        "gone": ["retired"],
        "later": ["from"],
        "over": ["until"],
        "old": ["perhaps when age"],
        "abroad": ["when country"],
        "rich": ["perhaps when basket"],
    }


def test_an_explanation_adds_up_to_the_score_exactly(server: Live) -> None:
    """Each feature's parts to mean and width, and these to the score, which is the one that would be answered now."""
    one = server.experiment(policy={"type": "linucb", "alpha": 0.7, "explore": 1})
    for i in range(60):
        one.decided(decision_id=f"d{i}", context={"age": 20 + i, "country": ("cn", "us", "fr")[i % 3]})
        if i % 4 == 0:
            ok(one.feedback(decision_id=f"d{i}", event="click"))
    one.until_seen(lambda rows: sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 15)
    told = looked(one, "d7", explain="true")["explanation"]
    assert told["alpha"] == 0.7
    assert len(told["arms"]) == 3
    for each in told["arms"]:
        assert set(each["mean_parts"]) == set(each["width_parts"]) == {"(intercept)", "age", "country"}
        assert each["mean"] == sum(each["mean_parts"].values())
        assert each["width"] == sum(each["width_parts"].values())
        assert each["score"] == each["mean"] + told["alpha"] * each["sigma"] * each["width"]
    context = {"age": 27, "country": "us"}
    scores = {}
    for i in range(40):
        (arm,) = one.decided(context=context, decision_id=f"again{i}", defer=True)["arms"]
        scores[arm["arm"]] = (arm["score"], arm["estimates"]["click"]["width"])
    assert scores == {
        each["arm"]: (pytest.approx(each["score"], rel=1e-9), pytest.approx(each["width"], rel=1e-9))
        for each in looked(one, "d7", explain="true")["explanation"]["arms"]
    }
    assert len(looked(one, "d7", explain="true", limit=1)["explanation"]["arms"]) == 1


def test_the_slice_of_a_decision_and_all_shares_are_told(server: Live) -> None:
    """With the probabilities within it, and over all slices."""
    one = server.experiment(
        slices={"x": {"share": 0.25, "policy": {"type": "fixed", "arm": "a"}}, "y": {"policy": {"type": "uniform"}}}
    )
    names = {one.decided(decision_id=f"d{i}", user_id=f"u{i}")["slice_name"]: f"d{i}" for i in range(40)}
    for name, decision in names.items():
        told = looked(one, decision)
        assert (told["slice_name"], told["shares"]) == (name, {"x": 0.25, "y": 0.75})
        mixture = {each["arm"]: each["mixture"] for each in told["eligible"]}
        assert mixture == pytest.approx({"a": 0.25 + 0.25, "b": 0.25, "c": 0.25}, abs=1e-12)


def test_there_is_nothing_to_tell_of_what_never_was(server: Live) -> None:
    """Nor of another generation's, nor by a server's id with one letter changed, nor of feedback's own place."""
    one = server.experiment()
    theirs = one.decided()["decision_id"]
    one.decided(decision_id="d")
    wrong = theirs[:-1] + ("A" if theirs[-1] != "A" else "B")
    for name in ("never", wrong, "~", "x" * 300):
        problem(one.client.get(f"{one.at}/decisions/{name}"), Code.DECISION_NOT_FOUND)
    ok(one.patch({}, reset="true"))
    for name in ("d", theirs):
        problem(one.client.get(f"{one.at}/decisions/{name}"), Code.DECISION_NOT_FOUND)
    problem(one.client.get("/v1/experiments/never/decisions/d"), Code.EXPERIMENT_NOT_FOUND)


# several at once


def several(server: Live, body: dict[str, Any]) -> dict[str, Any]:
    """The answers by experiment."""
    found: dict[str, Any] = ok(server.client.post("/v1/recommendations", json=body))["results"]
    return found


def test_several_experiments_answer_at_once_each_by_its_own_features(server: Live) -> None:
    """Of one context each takes what it knows; one that fails leaves the others their answers."""
    home, free = server.experiment(), server.experiment(features=[], attributes=["basket"])
    asked = {home.name: {"k": 2}, free.name: {"candidates": ["b"]}, "never": {}}
    body = {"experiments": asked, "context": CONTEXT | {"basket": 3}, "user_id": "u", "decision_id": "v"}
    found = several(server, body)
    assert [len(found[one.name]["arms"]) for one in (home, free)] == [2, 1]
    assert found[free.name]["arms"][0]["arm"] == "b"
    assert found["never"]["problem"]["code"] == Code.EXPERIMENT_NOT_FOUND
    assert [found[one.name]["decision_id"] for one in (home, free)] == ["v", "v"]
    again = several(server, body)
    assert all(again[one.name]["replayed"] for one in (home, free))
    del body["context"]
    assert several(server, body | {"decision_id": "w"})[home.name]["problem"]["code"] == Code.INVALID_CONTEXT
    for one, event in ((home, {"arm": again[home.name]["arms"][0]["arm"]}), (free, {})):
        assert ok(one.feedback(decision_id="v", event="click", **event))["status"] == "accepted"


@pytest.mark.parametrize(("body", "code", "places"), [
    ({"experiments": {}}, Code.INVALID_REQUEST, ["/experiments"]),
    ({"experiments": {f"e{i}": {} for i in range(21)}}, Code.INVALID_REQUEST, ["/experiments"]),
    ({"experiments": {"HOME": {"k": 0}}}, Code.INVALID_REQUEST, ["/experiments/*/k"]),
    ({"experiments": {"HOME": {}}, "context": CONTEXT | {"ages": 1}}, Code.INVALID_CONTEXT, ["/context/ages"]),
    ({"experiments": {"HOME": {}}, "context": []}, Code.INVALID_REQUEST, ["/context"]),
    ({}, Code.INVALID_REQUEST, ["/experiments"]),
])  # fmt: skip
def test_a_request_that_is_wrong_as_a_whole_decides_nothing(
    server: Live, body: dict[str, Any], code: Code, places: list[str]
) -> None:
    """With each place."""
    one = server.experiment()
    if "experiments" in body:
        body = body | {
            "experiments": {name.replace("HOME", one.name): wish for name, wish in body["experiments"].items()}
        }
    assert pointers(server.client.post("/v1/recommendations", json=body), code) == places
    assert all(row["impressions"] == 0 for row in one.seen().values())
