"""Amounts, refunds, and one purchase for every experiment, over HTTP against a real store."""

from typing import Any
from uuid import uuid4

import pytest
from live import Experiment, Live, ok, pointers, problem, serving, until, valkey

from bandit.errors import Code

SALE = {"range": [0, 500], "unit": 0.01}


def shop(server: Live, **changes: Any) -> Experiment:
    """An experiment with sales, and a user's decision `d` of it."""
    one = server.experiment(**{"features": [], "rewards": {"click": {}, "sale": SALE}} | changes)
    ok(one.post("recommendations", {"decision_id": "d", "user_id": "u"}))
    return one


def sums(one: Experiment) -> float:
    """What all arms have been credited with in sales."""
    return float(sum(row["rewards"]["sale"]["sum"] for row in one.seen().values()))


RANGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"range": [0, 500]}, ["/value", "/event_id"]),
    ({"range": [0, 0.5]}, ["/value", "/event_id"]),
    ({"range": [-1, 1]}, ["/value", "/event_id"]),
    ({"range": [0, 500], "over_range": "clip"}, ["/value", "/event_id"]),
    ({"range": [0, 500], "aggregation": "first"}, ["/value"]),
    ({"range": [0, 500], "aggregation": "last"}, ["/value"]),
    ({}, []),
    ({"range": [0, 1], "aggregation": "last"}, []),
]


@pytest.mark.parametrize(("kind", "needed"), RANGES)
def test_an_amount_needs_its_value_and_where_it_adds_up_an_event_id(
    server: Live, kind: dict[str, Any], needed: list[str]
) -> None:
    """Every range but [0, 1] is of amounts; a batch's item and a null are refused alike, and nothing is credited."""
    one = shop(server, rewards={"sale": kind})
    body = {"decision_id": "d", "event": "sale"}
    if needed:
        refused = problem(one.feedback(**body), Code.INVALID_REQUEST)
        assert [(fault["pointer"], fault["got"]) for fault in refused["errors"]] == [(at, "nothing") for at in needed]
        assert pointers(one.feedback(**body, value=None), Code.INVALID_REQUEST) == ["/value"]
        (item,) = ok(one.post("feedback/batch", {"requests": [body]}))["results"]
        assert item["problem"]["errors"] == refused["errors"]
        whole = {"/value": {"value": 0.25}, "/event_id": {"event_id": "order"}}
        for at in needed:
            body |= whole[at]
    assert ok(one.feedback(**body))["status"] == "accepted"


def test_a_second_purchase_counts_and_without_an_event_id_is_refused(server: Live) -> None:
    """It was a silent duplicate of the first."""
    one = shop(server)
    body = {"user_id": "u", "event": "sale", "value": 30}
    assert pointers(one.feedback(**body), Code.INVALID_REQUEST) == ["/event_id"]
    assert [ok(one.feedback(**body, event_id=order))["credited"] for order in ("1", "2", "1")] == [30, 30, 0]
    until(lambda: sums(one) == 60)


def test_a_refund_takes_back_of_an_event(server: Live) -> None:
    """A part, then the rest; to the cent; more than is left, an unknown event and one id for both are refused."""
    one = shop(server)
    ok(one.feedback(decision_id="d", event="sale", value=79.9, event_id="order"))
    back = {"decision_id": "d", "event": "sale", "refund_of": "order"}
    assert pointers(one.feedback(**back, event_id="r", value=79.91), Code.REFUND_REFUSED) == ["/value"]
    part = ok(one.feedback(**back, event_id="r", value=29.95))
    assert part == {"status": "accepted", "credited": -29.95, "decision_id": "d"}
    assert ok(one.feedback(**back, event_id="r", value=29.95)) == part | {"status": "duplicate", "credited": 0}
    assert ok(one.feedback(**back, event_id="rest"))["credited"] == -49.95
    assert pointers(one.feedback(**back, event_id="more"), Code.REFUND_REFUSED) == ["/value"]
    unknown = back | {"refund_of": "another", "event_id": "r2"}
    assert pointers(one.feedback(**unknown), Code.EVENT_NOT_FOUND) == ["/refund_of"]
    assert pointers(one.feedback(**unknown | {"user_id": "u", "decision_id": None}), Code.EVENT_NOT_FOUND)
    until(lambda: sums(one) == 0)


def test_a_refund_by_user_goes_to_the_decision_that_was_credited(server: Live) -> None:
    """Though a newer one came, and attribution is `last`; under `all` it is taken back from each."""
    one = shop(server)
    ok(one.feedback(user_id="u", event="sale", value=50, event_id="order"))
    ok(one.post("recommendations", {"decision_id": "newer", "user_id": "u"}))
    back = {"user_id": "u", "event": "sale", "refund_of": "order", "event_id": "r"}
    assert ok(one.feedback(**back)) == {"status": "accepted", "credited": -50, "decision_id": "d"}
    ok(one.patch({"attribution": "all"}))
    ok(one.feedback(user_id="u", event="sale", value=20, event_id="second"))
    answer = ok(one.feedback(**back | {"refund_of": "second", "event_id": "r2", "value": 5}))
    assert (answer["credited"], [each["decision_id"] for each in answer["decisions"]]) == (-10, ["newer", "d"])
    until(lambda: sums(one) == 30)


def test_past_the_window_money_goes_back_where_the_experiment_says_so() -> None:
    """By a server with no grace, where a caller's decision is forgotten at its deadline, but not what it earned."""
    with valkey() as url, serving(url, late_grace=0) as server:
        one = shop(server, reward_window=0.5, refunds="1h")
        without = shop(server, reward_window=0.5)
        sale = {"event": "sale", "value": 40, "event_id": "order"}
        for each in (one, without):
            made = ok(each.post("recommendations", {"user_id": "u"}))["decision_id"]
            assert ok(each.feedback(decision_id=made, **sale))["status"] == "accepted"
            assert ok(each.feedback(decision_id="d", **sale | {"event_id": "other"}))["status"] == "accepted"
        until(lambda: one.feedback(decision_id="d", **sale | {"event_id": "other"}).status_code == 404)
        ok(one.post("recommendations", {"user_id": "u"}))
        back = {"event": "sale", "refund_of": "order", "value": 15}
        assert ok(one.feedback(user_id="u", event_id="r", **back))["credited"] == -15
        named = {"decision_id": "d", "event_id": "r", **back, "refund_of": "other"}
        assert ok(one.feedback(**named)) == {"status": "accepted", "credited": -15, "decision_id": "d"}
        until(lambda: without.feedback(**named).status_code == 404)
        until(lambda: sums(one) == 50)


def test_refunds_last_a_duration(server: Live) -> None:
    """As other durations; null is none."""
    one = shop(server, refunds="30d")
    for faulty in ("367d", 0, -1, "soon"):
        assert pointers(one.patch({"refunds": faulty}), Code.INVALID_EXPERIMENT) == ["/refunds"]
    ok(one.patch({"refunds": None}))


@pytest.mark.parametrize(("attribution", "decision"), [("first", "b1"), ("last", "b2"), ("all", "b2")])
def test_with_an_arm_a_users_feedback_never_goes_to_a_decision_that_did_not_show_it(
    server: Live, attribution: str, decision: str
) -> None:
    """Nor does its repeat, nor its refund, by any attribution."""
    one = server.experiment(features=[], rewards={"sale": SALE}, attribution=attribution)
    for name in ("a1", "b1", "b2", "a2"):
        ok(one.post("recommendations", {"decision_id": name, "user_id": "u", "candidates": [name[0]]}))
    body = {"user_id": "u", "event": "sale", "arm": "b"}
    sent = [
        {"value": 30, "event_id": "order"}, {"value": 30, "event_id": "order"}, {"event_id": "r", "refund_of": "order"}
    ]  # fmt: skip
    for more, status in zip(sent, ("accepted", "duplicate", "accepted"), strict=True):
        answer = ok(one.feedback(**body, **more))
        assert (answer["status"], answer["decision_id"]) == (status, decision)
        assert {each["decision_id"][0] for each in answer.get("decisions", [answer])} == {"b"}
    problem(one.feedback(**body | {"arm": "c", "value": 1, "event_id": "e"}), Code.DECISION_NOT_FOUND)
    until(lambda: sums(one) == 0)


# every experiment


def everywhere(server: Live, **body: Any) -> Any:
    """Feedback without an experiment."""
    return server.client.post("/v1/feedback", json=body)


def test_one_purchase_is_credited_in_each_experiment_that_has_the_kind(server: Live) -> None:
    """By each one's rules; where the user has no decision, or the range refuses it, that is that one's problem."""
    kind = f"purchase-{uuid4().hex[:8]}"
    rewards: list[dict[str, Any]] = [{kind: SALE}, {kind: {"range": [0, 10]}}, {kind: SALE}, {"click": {}}]
    here, small, nobody, other = (server.experiment(features=[], rewards=each) for each in rewards)
    for one in (here, small, other):
        ok(one.post("recommendations", {"user_id": "u", "decision_id": f"of-{one.name}"}))
    body = {"user_id": "u", "event": kind, "value": 40, "event_id": "order"}
    results = ok(everywhere(server, **body))["results"]
    assert results.keys() == {here.name, small.name, nobody.name}
    credited = {"status": "accepted", "credited": 40, "decision_id": f"of-{here.name}"}
    assert results[here.name] == credited
    assert results[small.name]["problem"]["code"] == Code.REWARD_OUT_OF_RANGE
    refused = results[nobody.name]["problem"]
    assert (refused["code"], refused["errors"][0]["pointer"]) == (Code.DECISION_NOT_FOUND, "/user_id")
    again = ok(everywhere(server, **body))["results"]
    assert again[here.name] == credited | {"status": "duplicate", "credited": 0}
    back = {"user_id": "u", "event": kind, "event_id": "r", "refund_of": "order"}
    results = ok(everywhere(server, **back))["results"]
    assert results[here.name]["credited"] == -40
    assert {results[one.name]["problem"]["code"] for one in (small, nobody)} == {Code.EVENT_NOT_FOUND}


def test_feedback_everywhere_that_is_faulty_is_refused_whole(server: Live) -> None:
    """It names a user and no decision, and a kind that some experiment has."""
    assert pointers(everywhere(server, event="click"), Code.INVALID_REQUEST)
    assert pointers(everywhere(server, event="click", user_id="u", decision_id="d"), Code.INVALID_REQUEST)
    assert pointers(everywhere(server, event="nonesuch", user_id="u"), Code.UNKNOWN_EVENT) == ["/event"]
    assert (
        server.client.post("/v1/feedback", content=b"{", headers={"content-type": "application/json"}).status_code
        == 400
    )
    assert server.client.get("/v1/feedback").status_code == 405


def test_more_than_a_hundred_experiments_are_refused(server: Live) -> None:
    """Work stays bounded; nothing is credited anywhere."""
    kind = f"k{uuid4().hex[:8]}"
    made = [server.experiment(features=[], arms=["a"], rewards={kind: {}}) for _ in range(101)]
    ok(made[0].post("recommendations", {"user_id": "u"}))
    assert pointers(everywhere(server, event=kind, user_id="u"), Code.INVALID_REQUEST) == ["/event"]
    assert server.client.delete(made[-1].at, params={"confirm": made[-1].name}).status_code == 204
    assert ok(everywhere(server, event=kind, user_id="u"))["results"][made[0].name]["status"] == "accepted"
