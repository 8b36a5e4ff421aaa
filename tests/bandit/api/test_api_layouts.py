"""Features that come and go, over HTTP: what was learned stays, and what repeats a decision is answered as before."""

from typing import Any

import pytest
from live import CONTEXT, DOCUMENT, Experiment, Live, ok, pointers, problem, serving

from bandit.errors import Code
from bandit.replica.export import export
from bandit.replica.verify import verify

AGE, COUNTRY = DOCUMENT["features"]
MEMBER = {"name": "member", "type": "boolean"}


def total(rows: dict[str, dict[str, Any]]) -> int:
    """Impressions of all arms."""
    return sum(row["impressions"] for row in rows.values())


def test_a_feature_comes_and_goes_and_nothing_is_forgotten(server: Live) -> None:
    """Decisions before, between and after; feedback that is late in coming goes to its own context; verify agrees."""
    one = server.experiment()
    ok(one.post("recommendations", {"context": CONTEXT, "decision_id": "before"}))
    assert ok(one.patch({"features": [AGE, COUNTRY, MEMBER]}))["generation"] == 1
    assert pointers(one.recommend(), Code.INVALID_CONTEXT) == ["/context/member"]
    one.decided(context={**CONTEXT, "member": True}, decision_id="between")
    ok(one.patch({"features": [MEMBER, COUNTRY]}))
    one.decided(context={"member": True, "country": "fr"}, decision_id="after")
    for decision_id in ("before", "between", "after"):
        assert ok(one.feedback(decision_id=decision_id, event="click"))["status"] == "accepted"
    rows = one.until_seen(lambda rows: sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 3)
    assert total(rows) == 3
    ok(one.patch({"features": [AGE, COUNTRY, MEMBER]}))  # another age: it begins anew
    assert ok(server.client.get(one.at))["generation"] == 1
    assert total(one.seen()) == 3
    assert verify(server.service.store, one.name)["equal"]


def test_each_decision_is_exported_with_the_features_of_then(server: Live) -> None:
    """As its context was sent, whatever came since."""
    one = server.experiment()
    contexts = [CONTEXT, {**CONTEXT, "member": True}, {"member": False, "country": "fr"}]
    one.decided(context=contexts[0])
    ok(one.patch({"features": [AGE, COUNTRY, MEMBER]}))
    one.decided(context=contexts[1])
    ok(one.patch({"features": [MEMBER, {**COUNTRY, "levels": ["fr", "cn", "us"]}]}))
    one.decided(context=contexts[2])
    rows = [row for row in export(server.service.store, one.name) if row["type"] == "decision"]
    assert [row["context"] for row in rows] == contexts


CHANGES: dict[str, list[dict[str, Any]]] = {
    "comes": [AGE, COUNTRY, MEMBER],
    "goes": [COUNTRY],
    "order": [COUNTRY, AGE],
    "level": [AGE, {**COUNTRY, "levels": ["fr", "cn", "us"]}],
    "all": [MEMBER, {**COUNTRY, "levels": ["fr", "us", "cn"]}],
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("country", ["us", "fr"])
def test_a_repeated_request_is_the_same_whatever_came_or_went(server: Live, what: str, country: str) -> None:
    """The same body again, although it may be refused of a new decision; another body is another request."""
    one = server.experiment()
    context = {**CONTEXT, "country": country}
    first = one.decided(context=context, decision_id="visit", user_id="u")
    ok(one.patch({"features": CHANGES[what]}))
    again = one.decided(context=context, decision_id="visit", user_id="u")
    assert (again["replayed"], again["arms"][0]["arm"]) == (True, first["arms"][0]["arm"])
    for other in ({"context": {**context, "country": "cn"}}, {"k": 2}, {"user_id": "v"}):
        problem(one.recommend(**{"context": context, "decision_id": "visit", "user_id": "u"} | other),
                Code.DECISION_ID_REUSED)  # fmt: skip
    problem(one.recommend(context={"age": 31}, decision_id="visit", user_id="u"), Code.INVALID_CONTEXT)


def test_a_request_that_repeats_nothing_is_refused_as_any(server: Live) -> None:
    """A decision id that was never used does not let an old context through."""
    one = server.experiment()
    one.decided()
    ok(one.patch({"features": CHANGES["comes"]}))
    assert pointers(one.recommend(decision_id="new"), Code.INVALID_CONTEXT) == ["/context/member"]
    problem(one.post("recommendations", {"context": 3, "decision_id": "new"}), Code.INVALID_CONTEXT)


def test_a_batch_repeats_decisions_of_before(server: Live) -> None:
    """Item by item."""
    one = server.experiment()
    requests = [{"context": CONTEXT, "decision_id": f"d{i}"} for i in range(3)]
    ok(one.post("recommendations/batch", {"requests": requests[:2]}))
    ok(one.patch({"features": CHANGES["all"]}))
    found = ok(one.post("recommendations/batch", {"requests": requests}))["results"]
    assert [each.get("replayed") for each in found] == [True, True, None]
    assert found[2]["problem"]["code"] == Code.INVALID_CONTEXT


def test_another_server_takes_new_columns_up_before_it_decides(server: Live) -> None:
    """It logs no x of columns that the store has moved past."""
    one = server.experiment()
    with serving(server.service.settings.redis_url or "") as other:
        theirs: Experiment = one.through(other)
        theirs.decided()
        ok(one.patch({"features": [COUNTRY, MEMBER]}))
        for i in range(5):
            ok(theirs.recommend(context={"country": "us", "member": bool(i % 2)}))
    one.until_seen(lambda rows: total(rows) == 6)
    assert verify(server.service.store, one.name)["equal"]


def test_a_missing_basket_decides_and_is_counted(server: Live) -> None:
    """Absent and null alike; a feature that says nothing of it is still required; the same request is the same."""
    basket = {"name": "basket", "type": "number", "mean": 50, "scale": 30, "missing": "indicator"}
    one = server.experiment(features=[AGE, basket])
    first = ok(one.recommend(context={"age": 31}, decision_id="visit"))
    again = ok(one.recommend(context={"age": 31, "basket": None}, decision_id="visit"))
    assert (again["replayed"], again["arms"][0]["arm"]) == (True, first["arms"][0]["arm"])
    problem(one.recommend(context={"age": 31, "basket": 50}, decision_id="visit"), Code.DECISION_ID_REUSED)
    assert pointers(one.recommend(context={"basket": 3}), Code.INVALID_CONTEXT) == ["/context/age"]
    ok(one.recommend(context={"age": 31, "basket": 80}))
    one.until_seen(lambda rows: total(rows) == 2)
    told = ok(server.client.get(f"{one.at}/features"))
    assert [(each["name"], each["missing"]) for each in told["features"]] == [("age", 0), ("basket", 1)]
    assert told["features"][1]["mean"] == pytest.approx(80, abs=0.01)
    rows = [row["context"] for row in export(server.service.store, one.name) if row["type"] == "decision"]
    assert rows == [{"age": 31, "basket": None}, {"age": 31, "basket": 80}]


def test_a_feature_that_may_be_missing_comes_while_clients_do_not_know_it(server: Live) -> None:
    """Requests without it go on; one that repeats a decision of before is answered as before."""
    one = server.experiment()
    first = one.decided(decision_id="visit")
    ok(one.patch({"features": [AGE, COUNTRY, {**MEMBER, "missing": "indicator"}]}))
    again = one.decided(decision_id="visit")
    assert (again["replayed"], again["arms"][0]["arm"]) == (True, first["arms"][0]["arm"])
    one.decided(decision_id="next")
    one.decided(context={**CONTEXT, "member": True})
    assert one.decided(decision_id="next")["replayed"]
    one.until_seen(lambda rows: total(rows) == 3)
    assert verify(server.service.store, one.name)["equal"]


def test_an_evaluation_goes_over_changes_of_features(server: Live) -> None:
    """Decisions of before have 0 where there was no feature, as the sums have it."""
    one = server.experiment()
    for i in range(8):
        one.decided(decision_id=f"a{i}")
    ok(one.patch({"features": [COUNTRY, {**MEMBER, "missing": False}, {"name": "h", "type": "number", "cycle": 24}]}))
    for i in range(8):
        one.decided(context={"country": "fr", "h": i}, decision_id=f"b{i}")
    one.until_seen(lambda rows: total(rows) == 16)
    asked = {"target": ["uniform", "linucb:alpha=0.5"], "min_age": "0s"}
    told = ok(server.client.get(f"{one.at}/evaluation", params=asked))
    assert told["decisions"] == 16
    assert all(target.get("value") is not None for target in told["targets"])
