"""Live traffic over HTTP: slices, sticky users, shadow, conditions, dates, and what is ignored or to be confirmed."""

from collections import Counter
from typing import Any

import pytest
from live import Experiment, Live, ok, pointers, problem, until
from scipy.stats import binomtest, chisquare

from bandit.errors import Code
from bandit.replica.export import export

FREE: dict[str, Any] = {"features": [], "rewards": {"click": {}}}
SLICES = {"learned": {"share": 0.5}, "random": {"share": 0.5, "policy": {"type": "uniform"}}}


def free(server: Live, **document: Any) -> Experiment:
    """An experiment without features."""
    return server.experiment(**FREE | document)


def batch(one: Experiment, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Their answers."""
    return [
        each
        for at in range(0, len(requests), 500)
        for each in ok(one.post("recommendations/batch", {"requests": requests[at : at + 500]}))["results"]
    ]


# slices


def test_slices_and_propensities_are_as_the_document_says(server: Live) -> None:
    """Shares of users, and of each slice's arms as often as its propensities say, by chi-squared tests."""
    slices = SLICES | {"fixed": {"share": 0.2, "policy": {"type": "fixed", "arm": "b", "explore": 0.3}}}
    slices["learned"] = {"share": 0.3}
    one = free(server, slices=slices, policy={"type": "linucb", "explore": 0.1})
    answers = batch(one, [{"user_id": f"u{i}"} for i in range(3000)])
    named = Counter(each["slice_name"] for each in answers)
    assert chisquare([named[name] for name in slices], [900, 1500, 600]).pvalue > 1e-3
    shown = {name: Counter(a["arms"][0]["arm"] for a in answers if a["slice_name"] == name) for name in slices}
    assert chisquare([shown["random"][arm] for arm in "abc"]).pvalue > 1e-3
    even = named["fixed"] / 3
    assert chisquare([shown["fixed"][arm] for arm in "abc"], [0.3 * even, 2.4 * even, 0.3 * even]).pvalue > 1e-3
    for each in answers:
        arm, p = each["arms"][0]["arm"], each["arms"][0]["propensity"]
        if each["slice_name"] == "random":
            assert p == pytest.approx(1 / 3, abs=1e-15)
        elif each["slice_name"] == "fixed":
            assert p == pytest.approx(0.8 if arm == "b" else 0.1, abs=1e-15)


def test_all_slices_learn_the_same_sums(server: Live) -> None:
    """What is shown in any of them is an impression, and its feedback a reward, of one model."""
    one = free(server, slices=SLICES)
    answers = batch(one, [{"user_id": f"u{i}", "decision_id": f"d{i}"} for i in range(200)])
    for i in range(0, 200, 10):
        ok(one.feedback(decision_id=f"d{i}", event="click"))
    told = Counter(each["arms"][0]["arm"] for each in answers)
    seen = one.until_seen(lambda rows: sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 20)
    assert {arm: row["impressions"] for arm, row in seen.items()} == dict(told)


def test_a_user_stays_in_a_slice_while_only_others_grow(server: Live) -> None:
    """At the expense of a third one; and in the one they were in, once it has its share back."""
    shares = [(0.2, 0.3, 0.5), (0.2, 0.5, 0.3), (0.2, 0.8, 0.0), (0.2, 0.3, 0.5)]
    users = [{"user_id": f"u{i}"} for i in range(300)]
    one, before = free(server), [""] * 300
    for moved, share in enumerate(shares):
        ok(one.patch({"slices": {name: {"share": part} for name, part in zip("xyz", share, strict=True)}}))
        now = [each["slice_name"] for each in batch(one, users)]
        if moved:
            assert [name == "x" for name in now] == [name == "x" for name in before]
            if moved < 3:
                assert all(name == "y" for name, was in zip(now, before, strict=True) if was == "y")
        before = now


def test_a_user_is_in_the_same_slice_on_every_server(server: Live) -> None:
    """It follows from the store's secret, and is another one in another experiment."""
    one, other = free(server, slices=SLICES), free(server, slices=SLICES)
    users = [{"user_id": f"u{i}"} for i in range(400)]
    first = [each["slice_name"] for each in batch(one, users)]
    assert [each["slice_name"] for each in batch(one, users)] == first
    elsewhere = [each["slice_name"] for each in batch(other, users)]
    same = sum(a == b for a, b in zip(first, elsewhere, strict=True))
    assert binomtest(same, 400, 0.5).pvalue > 1e-3


def test_without_a_user_the_decision_s_own_name_decides(server: Live) -> None:
    """A retry has the slice of the first time; without any name each decision is for itself."""
    one = free(server, slices=SLICES)
    named = [{"decision_id": f"d{i}"} for i in range(50)]
    first = batch(one, named)
    again = batch(one, named)
    assert [each["slice_name"] for each in first] == [each["slice_name"] for each in again]
    assert all(each["replayed"] for each in again)
    nameless = Counter(each["slice_name"] for each in batch(one, [{} for _ in range(400)]))
    assert binomtest(nameless["learned"], 400, 0.5).pvalue > 1e-3


def test_lists_are_ordered_by_the_slice_s_own_policy(server: Live) -> None:
    """A fixed arm comes first, and the others in any order; of an even slice every order is as likely."""
    fixed = {"type": "fixed", "arm": "c"}
    one = free(server, slices={"random": {"policy": {"type": "uniform"}}, "fixed": {"share": 0.5, "policy": fixed}})
    answers = batch(one, [{"user_id": f"u{i}", "k": 3} for i in range(1200)])
    orders: dict[str, Counter[str]] = {"random": Counter(), "fixed": Counter()}
    for each in answers:
        orders[each["slice_name"]]["".join(arm["arm"] for arm in each["arms"])] += 1
    assert set(orders["fixed"]) == {"cab", "cba"}
    assert chisquare(list(orders["fixed"].values())).pvalue > 1e-3
    assert len(orders["random"]) == 6
    assert chisquare(list(orders["random"].values())).pvalue > 1e-3


def test_promoting_a_challenger_is_one_patch(server: Live) -> None:
    """Its policy becomes the experiment's, its slice goes, and another one takes its users."""
    challenger = {"share": 0.2, "policy": {"type": "epsilon-greedy", "explore": 0.01}}
    one = free(server, slices={"learned": {}, "challenger": challenger, "random": SLICES["random"]})
    after = ok(one.patch({"policy": challenger["policy"], "slices": {"challenger": None}}))
    assert (after["policy"], list(after["slices"])) == (challenger["policy"], ["learned", "random"])
    assert {each["slice_name"] for each in batch(one, [{} for _ in range(50)])} == {"learned", "random"}


@pytest.mark.parametrize(("slices", "place"), [
    ({"a": {"share": 0.5}, "b": {"share": 0.4}}, "/slices"),
    ({"a": {"share": 0.5}, "b": {"share": 0.6}}, "/slices"),
    ({"a": {}, "b": {}}, "/slices"),
    ({"a": {"share": 1 / 3}, "b": {}}, "/slices"),
    ({"a": {"share": 1}}, "/slices"),
    ({"a": {"share": 1.5}, "b": {}}, "/slices/a/share"),
    ({"a": {"share": 0.5, "policy": {"type": "fixed", "arm": "zz"}}, "b": {}}, "/slices/a/policy/arm"),
    ({"b": {}, "a": {"share": 0.5, "policy": {"type": "linucb", "alpha": -1}}}, "/slices/a/policy/alpha"),
    ({f"s{i}": {"share": 0} for i in range(17)}, "/slices"),
])  # fmt: skip
def test_wrong_slices_are_refused(server: Live, slices: dict[str, Any], place: str) -> None:
    """With the place, and nothing changes."""
    one = free(server)
    assert [at[: len(place)] for at in pointers(one.patch({"slices": slices}), Code.INVALID_EXPERIMENT)] == [place]
    assert ok(server.client.get(one.at))["version"] == 1


def test_while_it_warms_up_every_arm_is_as_likely(server: Live) -> None:
    """But for a fixed one; afterwards what has been learned decides."""
    slices = {"learned": {}, "fixed": {"share": 0.5, "policy": {"type": "fixed", "arm": "a"}}}
    one = free(server, warm_up=100, slices=slices, policy={"type": "epsilon-greedy", "explore": 0})
    answers = batch(one, [{"decision_id": f"d{i}"} for i in range(100)])
    for i, each in enumerate(answers):
        assert each["arms"][0]["propensity"] == (1 if each["slice_name"] == "fixed" else pytest.approx(1 / 3))
        if each["arms"][0]["arm"] == "b":
            ok(one.feedback(decision_id=f"d{i}", event="click"))
    one.until_seen(lambda rows: rows["b"]["rewards"]["click"]["mean"] == 1)

    def learned() -> bool:
        found = [each for each in batch(one, [{} for _ in range(20)]) if each["slice_name"] == "learned"]
        return all((each["arms"][0]["arm"], each["arms"][0]["propensity"]) == ("b", 1) for each in found)

    assert until(learned)


# sticky


def test_a_sticky_user_is_answered_the_same_again(server: Live) -> None:
    """The earlier decision, by its own id, with nothing logged: whatever the context or the id that was sent."""
    one = free(server, sticky={"for": "1h"}, policy={"type": "uniform"})
    first = {i: ok(one.post("recommendations", {"user_id": f"u{i}"})) for i in range(8)}
    for i in (*range(8), *range(8)):
        again = ok(one.post("recommendations", {"user_id": f"u{i}", "decision_id": f"new-{i}"}))
        assert (again["replayed"], again["decision_id"]) == (True, first[i]["decision_id"])
        assert again["arms"][0]["arm"] == first[i]["arms"][0]["arm"]
        assert again["expires_at"] == first[i]["expires_at"]
    assert ok(one.feedback(decision_id=first[0]["decision_id"], event="click"))["status"] == "accepted"
    one.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 8)


def test_a_sticky_user_is_decided_for_anew_where_the_earlier_arm_may_not_be_shown(server: Live) -> None:
    """Excluded, paused, or asked for as part of a list; the new decision is then the one that sticks."""
    one = free(server, sticky={"for": "1h"}, policy={"type": "uniform"})
    first = ok(one.post("recommendations", {"user_id": "u"}))["arms"][0]["arm"]
    second = ok(one.post("recommendations", {"user_id": "u", "exclude": [first]}))
    assert (second["replayed"], second["arms"][0]["arm"] == first) == (False, False)
    assert ok(one.post("recommendations", {"user_id": "u"}))["decision_id"] == second["decision_id"]
    ok(server.client.patch(f"{one.at}/arms/{second['arms'][0]['arm']}", json={"status": "paused"}))
    third = ok(one.post("recommendations", {"user_id": "u"}))
    assert not third["replayed"]
    assert not ok(one.post("recommendations", {"user_id": "u", "k": 2}))["replayed"]


def test_sticky_ends(server: Live) -> None:
    """After its time, and with the setting; and one user's is nobody else's."""
    one = free(server, sticky={"for": 0.3})
    first = ok(one.post("recommendations", {"user_id": "u"}))["decision_id"]
    assert not ok(one.post("recommendations", {"user_id": "v"}))["replayed"]
    assert not ok(one.post("recommendations", {}))["replayed"]
    second = until(
        lambda: (found := ok(one.post("recommendations", {"user_id": "u"})))["decision_id"] != first and found
    )
    assert not second["replayed"]
    assert pointers(one.patch({"sticky": {"for": "8d"}}), Code.INVALID_EXPERIMENT) == ["/sticky/for"]
    ok(one.patch({"sticky": None}))
    assert not ok(one.post("recommendations", {"user_id": "u"}))["replayed"]


def test_a_page_that_is_seen_is_not_answered_a_decision_that_waits(server: Live) -> None:
    """Of a prefetched one only the rewarded would be learned from: 400 views at a rate of .1 had a mean of 1."""
    one = free(server, sticky={"for": "1h"})
    waiting = ok(one.post("recommendations", {"user_id": "u", "defer": True}))
    assert ok(one.post("recommendations", {"user_id": "u", "defer": True}))["decision_id"] == waiting["decision_id"]
    seen = ok(one.post("recommendations", {"user_id": "u"}))
    assert not seen["replayed"]
    assert ok(one.post("recommendations", {"user_id": "u"}))["decision_id"] == seen["decision_id"]
    assert pointers(one.patch({"shadow": True}), Code.INVALID_EXPERIMENT) == ["/sticky"]


# shadow


def test_in_shadow_the_baseline_is_shown_and_what_would_have_been_is_told(server: Live) -> None:
    """With its propensity exactly, and learned from."""
    one = free(server, shadow=True, baseline_explore=0.3, policy={"type": "fixed", "arm": "c"})
    answers = batch(one, [{"baseline": "a"} for _ in range(600)])
    shown = Counter(each["arms"][0]["arm"] for each in answers)
    assert chisquare([shown[arm] for arm in "abc"], [480, 60, 60]).pvalue > 1e-3
    for each in answers:
        assert each["arms"][0]["propensity"] == pytest.approx(0.8 if each["arms"][0]["arm"] == "a" else 0.1, abs=1e-15)
        assert each["shadow"] == {"arm": "c", "propensity": 1}
        assert "slice_name" not in each
    one.until_seen(lambda rows: {arm: row["impressions"] for arm, row in rows.items()} == dict(shown))
    assert ok(server.client.get(one.at))["evaluable"] is True
    assert ok(one.patch({"baseline_explore": 0}))["evaluable"] is False


def test_what_would_have_been_shown_is_counted_and_its_worth_estimated(server: Live) -> None:
    """As often the same arm as was told; and each arm's worth by the decisions that were spread evenly."""
    one = free(server, shadow=True, baseline_explore=0.5, policy={"type": "uniform"})
    answers = batch(one, [{"baseline": "a", "decision_id": f"d{i}"} for i in range(600)])
    for i, each in enumerate(answers):
        if each["arms"][0]["arm"] == "c" and i % 2:
            ok(one.feedback(decision_id=f"d{i}", event="click"))
    asked = {"min_age": "0s", "target": ["fixed:c", "fixed:b"]}
    found = ok(server.client.get(f"{one.at}/evaluation", params=asked))
    agreed = sum(each["shadow"]["arm"] == each["arms"][0]["arm"] for each in answers)
    assert found["shadow"] == {"decisions": 600, "agreed": agreed}
    best, none = (each["value"] for each in found["targets"])
    assert best == pytest.approx(0.5, abs=0.2)
    assert none == pytest.approx(0, abs=0.05)
    ok(one.patch({"shadow": None}))
    ok(one.post("recommendations", {}))
    assert ok(server.client.get(f"{one.at}/evaluation", params=asked))["shadow"]["decisions"] == 600


def test_a_baseline_is_asked_for_in_shadow_and_only_there(server: Live) -> None:
    """It must be an arm that may be shown."""
    one = free(server, shadow=True)
    for body, code, place in [
        ({}, Code.INVALID_REQUEST, "/baseline"),
        ({"baseline": "a", "k": 2}, Code.INVALID_REQUEST, "/k"),
        ({"baseline": "zz"}, Code.UNKNOWN_ARM, "/baseline"),
        ({"baseline": "a", "exclude": ["a"]}, Code.UNKNOWN_ARM, "/baseline"),
    ]:
        assert pointers(one.post("recommendations", body), code) == [place]
    assert pointers(one.patch({"slices": SLICES}), Code.INVALID_EXPERIMENT) == ["/slices"]
    ok(one.patch({"shadow": None}))
    assert pointers(one.post("recommendations", {"baseline": "a"}), Code.INVALID_REQUEST) == ["/baseline"]


# what may be shown


ARMS = [
    "open",
    {"id": "local", "when": {"country": ["de", "fr"]}},
    {"id": "rich", "when": {"basket": {"min": 20}, "country": ["de"]}},
    {"id": "member", "when": {"member": [True], "age": {"min": 18, "max": 30}}},
    {"id": "later", "from": "2090-01-01T00:00:00Z"},
    {"id": "over", "until": "2020-01-01T00:00:00+01:00"},
    {"id": "now", "from": "2020-01-01T00:00:00Z", "until": "2090-01-01T00:00:00Z"},
]


@pytest.mark.parametrize(("context", "eligible"), [
    ({}, "open now"),
    ({"country": "de"}, "open local now"),
    ({"country": None}, "open now"),
    ({"country": "de", "basket": 20}, "open local rich now"),
    ({"country": "de", "basket": 19.99}, "open local now"),
    ({"country": "de", "basket": "20"}, "open local now"),
    ({"country": "fr", "basket": 50}, "open local now"),
    ({"member": True, "age": 18}, "open member now"),
    ({"member": True, "age": 31}, "open now"),
    ({"member": 1, "age": 20}, "open now"),
    ({"member": "true", "age": 20}, "open now"),
])  # fmt: skip
def test_an_arm_is_shown_only_where_its_conditions_and_dates_allow(
    server: Live, context: dict[str, Any], eligible: str
) -> None:
    """Ends are included, an absent field meets nothing, and no value is equal to one of another type."""
    features = [{"name": "age", "type": "number", "mean": 40, "scale": 12}]
    attributes = ["country", "basket", "member"]
    one = server.experiment(features=features, attributes=attributes, rewards={"click": {}}, arms=ARMS)
    answer = ok(one.post("recommendations", {"context": {"age": 40} | context, "k": len(eligible.split())}))
    assert {arm["arm"] for arm in answer["arms"]} == set(eligible.split())
    more = {"context": {"age": 40} | context, "k": 1 + len(eligible.split())}
    problem(one.post("recommendations", more), Code.NOT_ENOUGH_ARMS)


def test_conditions_change_live_and_nothing_is_forgotten(server: Live) -> None:
    """Taken away and given back, an arm has what it had learned."""
    one = free(server, attributes=["country"])
    ok(one.post("recommendations", {"candidates": ["a"], "decision_id": "d"}))
    ok(one.feedback(decision_id="d", event="click"))
    ok(server.client.patch(f"{one.at}/arms/a", json={"when": {"country": ["de"]}, "tags": ["x"]}))
    problem(one.post("recommendations", {"candidates": ["a"]}), Code.NOT_ENOUGH_ARMS)
    shown = ok(one.post("recommendations", {"candidates": ["a"], "context": {"country": "de"}}))
    assert shown["arms"][0]["arm"] == "a"
    found = ok(server.client.get(f"{one.at}/arms/a"))
    assert (found["when"], found["tags"]) == ({"country": ["de"]}, ["x"])
    assert ok(server.client.get(one.at))["generation"] == 1
    ok(server.client.patch(f"{one.at}/arms/a", json={"when": None}))
    assert ok(one.post("recommendations", {"candidates": ["a"]}))["arms"][0]["arm"] == "a"
    assert one.until_seen(lambda rows: rows["a"]["impressions"] == 3)["a"]["rewards"]["click"]["sum"] == 1


def test_attributes_are_a_part_of_what_a_decision_id_means(server: Live) -> None:
    """The same, whatever their order: the same decision; another value: another request."""
    one = free(server, attributes=["x", "y"])
    body = {"decision_id": "d", "context": {"x": 1, "y": "b"}}
    ok(one.post("recommendations", body))
    assert ok(one.post("recommendations", body | {"context": {"y": "b", "x": 1.0}}))["replayed"]
    for other in ({"x": 1}, {"x": 2, "y": "b"}, {"x": "1", "y": "b"}, {"x": True, "y": "b"}, {}):
        problem(one.post("recommendations", body | {"context": other}), Code.DECISION_ID_REUSED)
    ok(one.post("recommendations", {"decision_id": "e", "context": {"x": None}}))
    assert ok(one.post("recommendations", {"decision_id": "e"}))["replayed"]
    wrong = {"context": {"x": [1], "y": {}, "z": 1}}
    assert pointers(one.post("recommendations", wrong), Code.INVALID_CONTEXT) == [
        "/context/z",
        "/context/x",
        "/context/y",
    ]


@pytest.mark.parametrize(("changes", "place"), [
    ({"attributes": ["age"]}, "/attributes/0"),
    ({"arms": [{"id": "a", "when": {"age": {"min": 2, "max": 1}}}]}, "/arms/0/when/age"),
    ({"arms": [{"id": "a", "when": {"age": ["2"]}}]}, "/arms/0/when/age"),
    ({"arms": [{"id": "a", "when": {"land": ["DE"]}}]}, "/arms/0/when/land"),
    ({"arms": [{"id": "a", "when": {"land": {"min": 1}}}]}, "/arms/0/when/land"),
    ({"attributes": ["x", "x"]}, "/attributes/1"),
    ({"arms": [{"id": "a", "when": {"countr": ["de"]}}]}, "/arms/0/when/countr"),
    ({"arms": [{"id": "a", "when": {"age": {}}}]}, "/arms/0/when/age"),
    ({"arms": [{"id": "a", "when": {"age": {"min": 1}, "country": "de"}}]}, "/arms/0/when/country"),
    ({"arms": [{"id": "a", "from": "tomorrow"}]}, "/arms/0/from"),
    ({"arms": [{"id": "a", "until": "2026-01-01T00:00:00"}]}, "/arms/0/until"),
    ({"arms": [{"id": "a", "from": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}]}, "/arms/0/until"),
])  # fmt: skip
def test_wrong_conditions_are_refused(server: Live, changes: dict[str, Any], place: str) -> None:
    """Each at its place, those that nothing could meet among them."""
    features = [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "land", "type": "category", "levels": ["de", "fr"], "other": False},
    ]
    one = server.experiment(features=features, attributes=["country"], rewards={"click": {}}, arms=["a"])
    assert pointers(one.patch(changes), Code.INVALID_EXPERIMENT) == [place]


def test_paused_and_retired_candidates_are_ignored_and_told(server: Live) -> None:
    """Unless strictly asked for; a name that never was is refused in any case."""
    one = free(server, arms=["a", "b", {"id": "p", "status": "paused"}, "r"])
    assert server.client.delete(f"{one.at}/arms/r").status_code == 204
    answer = ok(one.post("recommendations", {"candidates": ["p", "a", "r"], "exclude": ["p", "b"]}))
    assert (answer["arms"][0]["arm"], answer["ignored"]) == ("a", ["p", "r"])
    assert "ignored" not in ok(one.post("recommendations", {"candidates": ["a"]}))
    strictly = {"candidates": ["a", "p", "r"], "strict": True}
    assert pointers(one.post("recommendations", strictly), Code.UNKNOWN_ARM) == ["/candidates/1"]
    for field in ("candidates", "exclude"):
        assert pointers(one.post("recommendations", {field: ["a", "zz"]}), Code.UNKNOWN_ARM) == [f"/{field}/1"]
    problem(one.post("recommendations", {"candidates": ["p", "r"]}), Code.NOT_ENOUGH_ARMS)


def test_the_fallback_obeys_what_other_arms_obey(server: Live) -> None:
    """Candidates, exclusions, its status, its conditions and its dates."""
    one = free(server, attributes=["x"], status="paused", fallback_arm="a")
    answer = ok(one.post("recommendations", {"candidates": ["a", "b"]}))
    assert (answer["fallback"], answer["logged"], answer["arms"][0]["arm"]) == (True, False, "a")
    for body in ({"candidates": ["b"]}, {"exclude": ["a"]}):
        problem(one.post("recommendations", body), Code.NOT_ENOUGH_ARMS)
    for change in ({"status": "paused"}, {"when": {"x": [1]}}, {"until": "2020-01-01T00:00:00Z"}):
        ok(server.client.patch(f"{one.at}/arms/a", json=change))
        problem(one.post("recommendations", {}), Code.NOT_ENOUGH_ARMS)
        ok(server.client.patch(f"{one.at}/arms/a", json={"status": None, "when": None, "until": None}))
    assert ok(one.post("recommendations", {}))["fallback"] is True


def test_a_nightly_sync_never_unpauses(server: Live) -> None:
    """A PUT of the document, of the list or of an arm changes a status only where it names one."""
    document = FREE | {"arms": ["a", {"id": "b", "payload": 1}, "c"], "status": "active"}
    one = server.experiment(**document)
    ok(server.client.patch(f"{one.at}/arms/b", json={"status": "paused"}))
    ok(one.patch({"status": "paused", "fallback_arm": "a"}))
    del document["status"]
    ok(server.client.put(one.at, json=document | {"fallback_arm": "a"}))
    ok(server.client.put(f"{one.at}/arms", json=["a", {"id": "b", "payload": 2}, "c"]))
    ok(server.client.put(f"{one.at}/arms/b", json={"payload": 3}))
    ok(one.patch({"arms": ["a", {"id": "b", "payload": 4}, "c"]}))
    found = ok(server.client.get(one.at))
    assert (found["status"], found["arms"][1]) == ("paused", {"id": "b", "status": "paused", "payload": 4})
    ok(server.client.put(f"{one.at}/arms", json=["a", {"id": "b", "status": "active"}, "c"]))
    assert ok(server.client.put(one.at, json=document | {"status": "active"}))["status"] == "active"
    assert ok(server.client.get(f"{one.at}/arms/b"))["status"] == "active"


# changes


def test_an_arm_that_comes_back_rests_if_it_did(server: Live) -> None:
    """A nightly list that leaves a paused arm out once does not wake it; naming a status does."""
    one = free(server)
    ok(server.client.patch(f"{one.at}/arms/b", json={"status": "paused"}))
    ok(server.client.put(f"{one.at}/arms", json=["a"]))
    ok(server.client.put(f"{one.at}/arms", json=["a", "c"]))
    assert ok(server.client.put(f"{one.at}/arms", json=["a", "b", "c"]))["arms"][1] == {"id": "b", "status": "paused"}
    ok(server.client.put(f"{one.at}/arms", json=["a"]))
    ok(server.client.put(f"{one.at}/arms", json=["a", {"id": "b", "status": "active"}]))
    assert ok(server.client.get(one.at))["arms"] == ["a", "b"]
    ok(server.client.put(f"{one.at}/arms", json=["a"]))
    assert ok(server.client.put(f"{one.at}/arms", json=["a", "b"]))["arms"] == ["a", "b"]


def test_a_dry_run_of_arms_changes_nothing(server: Live) -> None:
    """Of the list, of one arm, and of its end."""
    one = free(server)
    arms = f"{one.at}/arms"
    for method, path, body, changes in [
        ("PUT", arms, ["a", "d"], ["/arms/b", "/arms/c", "/arms/d"]),
        ("PUT", f"{arms}/d", {"payload": 1}, ["/arms/d"]),
        ("PATCH", f"{arms}/a", {"status": "paused"}, ["/arms/a/status"]),
        ("DELETE", f"{arms}/a", None, ["/arms/a"]),
    ]:
        said = ok(server.client.request(method, path, json=body, params={"dry_run": "true"}))
        assert [each["pointer"] for each in said["changes"]] == changes
    problem(server.client.put("/v1/experiments/never/arms?dry_run=true", json=["a"]), Code.EXPERIMENT_NOT_FOUND)
    assert ok(server.client.get(one.at))["version"] == 1


def test_a_parameter_that_an_address_does_not_have_is_refused(server: Live) -> None:
    """Overlooked, `dryrun=true` changed what it was to rehearse."""
    one = free(server)
    for method, path, body in [
        ("PATCH", f"{one.at}?dryrun=true", {"lambda": 3}),
        ("DELETE", f"{one.at}?dry_run=true&confirm={one.name}", None),
        ("GET", f"{one.at}/evaluation?slise=x", None), ("POST", f"{one.at}/recommendations?k=2", {}),
        ("POST", "/v1/feedback?x", {}), ("GET", "/readyz?digest=true", None), ("GET", f"{one.at}/arms?limt=1", None),
    ]:  # fmt: skip
        (place,) = pointers(server.client.request(method, path, json=body), Code.INVALID_REQUEST)
        assert place.startswith("/query")
    assert ok(server.client.get(one.at))["version"] == 1


def test_deleting_asks_to_be_confirmed(server: Live) -> None:
    """By the name or by a version; else nothing happens."""
    one = free(server)
    for query in ("", "?confirm=", "?confirm=other"):
        assert pointers(server.client.delete(one.at + query), Code.CONFIRMATION_REQUIRED) == ["/query/confirm"]
    assert ok(server.client.get(one.at))["version"] == 1
    assert server.client.delete(f"{one.at}?confirm={one.name}").status_code == 204
    other = free(server)
    assert server.client.delete(other.at, headers={"If-Match": "1"}).status_code == 204


def test_a_dry_run_says_what_would_change_and_changes_nothing(server: Live) -> None:
    """Also that it would be refused, and that it would start from zero."""
    one = free(server, slices=SLICES)
    wanted = FREE | {"arms": ["a", "c", {"id": "d", "status": "paused"}], "slices": SLICES, "lambda": 2}
    said = ok(server.client.put(f"{one.at}?dry_run=true", json=wanted))
    assert said == {
        "dry_run": True,
        "creates": False,
        "starts_from_zero": False,
        "changes": [
            {"pointer": "/arms/b", "before": {"status": "active"}},
            {"pointer": "/arms/d", "after": {"status": "paused"}},
            {"pointer": "/lambda", "before": "auto", "after": 2.0},
        ],
    }
    assert ok(one.patch({"lambda": 3}, dry_run="true"))["changes"] == [
        {"pointer": "/lambda", "before": "auto", "after": 3.0}
    ]
    assert ok(one.patch({}, dry_run="true", reset="true"))["starts_from_zero"] is True
    assert pointers(one.patch({"lambda": 0}, dry_run="true"), Code.INVALID_EXPERIMENT) == ["/lambda"]
    assert ok(server.client.get(one.at))["version"] == 1
    new = ok(server.client.put("/v1/experiments/not-yet?dry_run=true", json=wanted))
    assert (new["creates"], new["changes"]) == (True, [])
    problem(server.client.get("/v1/experiments/not-yet"), Code.EXPERIMENT_NOT_FOUND)


def test_an_export_has_the_probabilities_of_all_slices_together(server: Live) -> None:
    """Share times probability, summed over the slices, by hand; beside those within the slice that decided."""
    slices = {"learned": {"share": 0.7}, "random": {"share": 0.3, "policy": {"type": "uniform"}}}
    one = free(server, slices=slices, policy={"type": "fixed", "arm": "b", "explore": 0.3})
    answers = {each["decision_id"]: each for each in batch(one, [{"user_id": f"u{i}"} for i in range(60)])}
    rows = [row for row in export(server.service.store, one.name) if row["type"] == "decision"]
    assert len(rows) == 60
    learned, even = {"a": 0.1, "b": 0.8, "c": 0.1}, dict.fromkeys("abc", 1 / 3)
    for row in rows:
        answer = answers[row["decision_id"]]
        assert (row["slice_name"], row["shares"]) == (answer["slice_name"], {"learned": 0.7, "random": 0.3})
        mixture = {each["arm"]: each["mixture"] for each in row["eligible"]}
        assert mixture == pytest.approx({"a": 0.17, "b": 0.66, "c": 0.17}, abs=1e-12)
        own = {each["arm"]: each["probability"] for each in row["eligible"]}
        assert own == pytest.approx(learned if row["slice_name"] == "learned" else even, abs=1e-12)
        assert own[answer["arms"][0]["arm"]] == answer["arms"][0]["propensity"]
