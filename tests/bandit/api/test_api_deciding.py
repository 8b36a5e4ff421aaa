"""The contract's deciding, over HTTP against a real store: answers, lists, replays, pauses, activations, batches."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from live import CONTEXT, Experiment, Live, ok, pointers, problem, until

from bandit.errors import Code
from bandit.log.records import START
from bandit.replica.export import export
from bandit.serving.api.batches import ANSWER_MAX


def logged(server: Live, one: Experiment, tag: bytes = b"d") -> int:
    """How many entries of a kind the log has."""
    return sum(entry.tag == tag for entry in server.service.store.read(one.name, START, 100_000))


def test_a_decision_says_what_was_shown_and_with_what_probability(server: Live) -> None:
    """Every field of the contract; three arms that know nothing tie, so each had a third."""
    one = server.experiment()
    answer = one.decided(user_id="u")
    assert set(answer) >= {"decision_id", "arms", "experiment_version", "model_position", "replayed", "logged"}
    assert (answer["experiment_version"], answer["replayed"], answer["logged"]) == (1, False, True)
    assert answer["expires_at"].endswith("Z")
    (shown,) = answer["arms"]
    assert set(shown) == {"arm", "propensity", "score", "estimates"}
    assert shown["propensity"] == pytest.approx(1 / 3, rel=1e-12)
    assert set(shown["estimates"]) == {"click", "sale"}
    for estimate in shown["estimates"].values():
        assert estimate["mean"] == 0
        assert estimate["width"] > 0


def test_what_is_learned_shows_in_the_next_answers(server: Live) -> None:
    """After 30 clicks of `b` and none of the others it is the best, and explored around by 2 %."""
    one = server.experiment(features=[], policy={"type": "linucb", "alpha": 0.1, "explore": 0.02})
    for arm in ("a", "b", "c"):
        requests = [{"candidates": [arm], "decision_id": f"{arm}-{i}"} for i in range(30)]
        ok(one.post("recommendations/batch", {"requests": requests}))
    events = [{"decision_id": f"b-{i}", "event": "click"} for i in range(30)]
    ok(one.post("feedback/batch", {"requests": events}))
    one.until_seen(lambda rows: rows["b"]["rewards"]["click"]["sum"] == 30)
    propensities = {}
    for _ in range(200):
        (shown,) = ok(one.post("recommendations", {}))["arms"]
        propensities[shown["arm"]] = shown["propensity"]
    assert propensities["b"] == pytest.approx(0.98 + 0.02 / 3, rel=1e-9)
    assert all(p == pytest.approx(0.02 / 3, rel=1e-9) for arm, p in propensities.items() if arm != "b")


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_list_has_k_different_arms_each_with_its_probability_given_the_places_before(server: Live, k: int) -> None:
    """Of three tied arms: a third, then a half, then for certain; by hand."""
    one = server.experiment()
    for _ in range(10):
        arms = one.decided(k=k, defer=True)["arms"]  # so that nothing is learned in between
        assert len({shown["arm"] for shown in arms}) == k
        assert [shown["propensity"] for shown in arms] == pytest.approx([1 / 3, 1 / 2, 1][:k], rel=1e-9)


def test_each_arm_of_a_list_is_one_impression(server: Live) -> None:
    """One decision of two arms: one each."""
    one = server.experiment()
    shown = {each["arm"] for each in one.decided(k=2)["arms"]}
    rows = one.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 2)
    assert {arm for arm, row in rows.items() if row["impressions"] == 1} == shown


def test_candidates_and_exclusions_bound_what_is_shown(server: Live) -> None:
    """Candidates less exclusions, and the propensity is over those."""
    one = server.experiment()
    for _ in range(10):
        (shown,) = one.decided(candidates=["a", "b", "c"], exclude=["c", "c"], defer=True)["arms"]
        assert shown["arm"] in "ab"
        assert shown["propensity"] == pytest.approx(1 / 2, rel=1e-12)
    assert one.decided(exclude=["a", "b"])["arms"][0]["arm"] == "c"


def test_refused_decisions_say_where_and_are_not_logged(server: Live) -> None:
    """A code and a pointer for each fault, and nothing in the log."""
    one = server.experiment()
    assert pointers(one.recommend(context={"age": "31", "cuntry": "us"}), Code.INVALID_CONTEXT) == [
        "/context/age",
        "/context/country",
        "/context/cuntry",
    ]
    assert pointers(one.recommend(candidates=["a", "a"]), Code.INVALID_REQUEST) == ["/candidates/1"]
    assert pointers(one.recommend(candidates=[]), Code.INVALID_REQUEST) == ["/candidates"]
    assert pointers(one.recommend(k=4), Code.NOT_ENOUGH_ARMS) == ["/k"]
    assert pointers(one.recommend(decision_id="~mine"), Code.INVALID_REQUEST) == ["/decision_id"]
    assert "did you mean" in problem(server.experiment(arms=["hero"]).recommend(candidates=["herp"]))["detail"]
    assert logged(server, one) == 0


def test_one_e308_is_clipped(server: Live) -> None:
    """Not an error: it stands at the end of the grid, like any number far outside."""
    one = server.experiment()
    for age in (1e308, -1e308, 5e-324, -0.0, 10**300):
        assert one.decided(context={"age": age, "country": "us"})["logged"]


def test_the_same_request_again_is_the_same_decision(server: Live) -> None:
    """Keys in another order, 31.0 for 31, sets in another order: the decision there was, once in the log."""
    one = server.experiment()
    first = one.decided(decision_id="visit", k=2, candidates=["a", "b", "c"], user_id="u")
    for body in (
        {"context": CONTEXT, "candidates": ["c", "a", "b"], "k": 2},
        {"k": 2, "candidates": ["b", "c", "a"], "context": {"country": "us", "age": 31.0}},
    ):
        again = ok(one.post("recommendations", body | {"decision_id": "visit", "user_id": "u"}))
        assert again["replayed"]
        assert again["arms"] == [{"arm": s["arm"], "propensity": s["propensity"]} for s in first["arms"]]
        same = "decision_id", "experiment_version", "model_position", "logged", "expires_at"
        assert {name: again[name] for name in same} == {name: first[name] for name in same}
    assert logged(server, one) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"context": {"age": 32, "country": "us"}},
        {"k": 2},
        {"candidates": ["a", "b"]},
        {"exclude": ["a"]},
        {"defer": True},
        {"user_id": "u"},
    ],
)
def test_another_request_under_the_same_id_is_409(server: Live, other: dict[str, Any]) -> None:
    """An id is one request's; what it was first asked for stands."""
    one = server.experiment()
    first = one.decided(decision_id="visit")
    assert pointers(one.recommend(decision_id="visit", **other), Code.DECISION_ID_REUSED) == ["/decision_id"]
    assert one.decided(decision_id="visit")["arms"][0]["arm"] == first["arms"][0]["arm"]
    assert logged(server, one) == 1


def test_a_retry_is_known_after_the_experiment_has_changed(server: Live) -> None:
    """New arms, weights and kinds: the decision there was, with the version that made it."""
    one = server.experiment()
    first = one.decided(decision_id="visit", candidates=["a", "b"])
    ok(one.patch({"arms": ["a", "b", "c", *(f"n{i}" for i in range(20))], "rewards": {"new": {}}, "lambda": 3}))
    again = one.decided(decision_id="visit", candidates=["a", "b"])
    assert (again["replayed"], again["experiment_version"]) == (True, 1)
    assert again["arms"][0]["arm"] == first["arms"][0]["arm"]


def test_twenty_calls_at_once_with_one_id_are_one_decision(server: Live) -> None:
    """One entry in the log, one answer for all; one of them was first."""
    one, gate = server.experiment(arms=[f"arm-{i}" for i in range(50)]), threading.Barrier(20)

    def call(_: int) -> dict[str, Any]:
        gate.wait()
        return one.decided(decision_id="same")

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(call, range(20)))
    assert len({(answer["arms"][0]["arm"], answer["arms"][0]["propensity"]) for answer in found}) == 1
    assert sorted(answer["replayed"] for answer in found) == [False] + [True] * 19
    assert logged(server, one) == 1


def test_server_made_ids_are_all_different_and_cannot_be_guessed(server: Live) -> None:
    """Asked twice, decided twice; and an id next to a real one is nobody's."""
    other, one = server.experiment(), server.experiment()
    ids = [one.decided()["decision_id"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(each.startswith("~") for each in ids)
    for changed in (ids[0][:-1] + ("A" if ids[0][-1] != "A" else "B"), ids[0][:5] + "_" + ids[0][6:]):
        problem(one.feedback(decision_id=changed, event="click"), Code.DECISION_NOT_FOUND)
    problem(other.feedback(decision_id=ids[0], event="click"), Code.DECISION_NOT_FOUND)


def test_ids_are_compared_by_code_points(server: Live) -> None:
    """Two spellings of é, and two cases of a letter, are four decisions."""
    one = server.experiment()
    for name in ("e\u0301", "\u00e9", "E", "e"):
        assert not one.decided(decision_id=name)["replayed"]
        assert ok(one.feedback(decision_id=name, event="click"))["decision_id"] == name
    assert logged(server, one) == 4


def test_a_paused_experiment_answers_its_fallback_arm_and_learns_nothing(server: Live) -> None:
    """Not logged and without an id; the payload comes along; a faulty request is refused as ever."""
    one = server.experiment(arms=["a", {"id": "b", "payload": {"x": 1}}], fallback_arm="b", status="paused")
    answer = one.decided(decision_id="visit")
    assert answer["arms"] == [{"arm": "b", "propensity": 1.0, "payload": {"x": 1}}]
    assert (answer["decision_id"], answer["logged"], answer["replayed"]) == (None, False, False)
    assert logged(server, one) == 0
    problem(one.recommend(context={}), Code.INVALID_CONTEXT)
    ok(one.patch({"status": "active"}))
    assert one.decided(decision_id="visit")["logged"]


def test_a_retry_is_answered_as_before_whatever_has_changed_since(server: Live) -> None:
    """Its candidate retired, too few arms left for k, the experiment paused: the impression counts already."""
    one = server.experiment(arms=["a", "b", "c"])
    asked = [{"candidates": ["a"]}, {"k": 3}, {"exclude": ["b", "c"]}, {}]
    before = [one.decided(decision_id=f"d{i}", **body) for i, body in enumerate(asked)]
    changes = [
        lambda: one.client.delete(f"{one.at}/arms/a"),
        lambda: one.client.patch(one.at, json={"status": "paused"}),
    ]
    for change in changes:
        assert change().is_success
        for i, body in enumerate(asked):
            again = one.decided(decision_id=f"d{i}", **body)
            assert again["replayed"]
            assert [each["arm"] for each in again["arms"]] == [each["arm"] for each in before[i]["arms"]]
        requests = [{"context": {"age": 31, "country": "us"}, "decision_id": f"d{i}", **b} for i, b in enumerate(asked)]
        results = ok(one.post("recommendations/batch", {"requests": requests}))["results"]
        assert all(each["replayed"] for each in results)
    one.client.patch(one.at, json={"status": "active"})
    problem(one.recommend(decision_id="new", candidates=["a"], strict=True), Code.UNKNOWN_ARM)
    problem(one.recommend(decision_id="d0", candidates=["b"]), Code.DECISION_ID_REUSED)
    assert logged(server, one, b"d") == 4


def test_a_long_batch_of_long_lists_lets_others_be_answered(server: Live) -> None:
    """200 lists of 10 of 600 arms that nobody knows yet: /healthz waits for no more than a micro-batch of them."""
    one = server.experiment(arms=[f"arm-{i}" for i in range(600)])
    requests = [{"context": {"age": i % 90, "country": "us"}, "k": 10} for i in range(200)]
    done = threading.Event()
    waits = []

    def watch() -> None:
        with httpx.Client(base_url=server.url) as client:
            while not done.is_set():
                begun = time.monotonic()
                client.get("/healthz")
                waits.append(time.monotonic() - begun)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        until(lambda: bool(waits))  # else the batch may be over before anybody asks
        results = ok(one.post("recommendations/batch", {"requests": requests}))["results"]
    finally:
        done.set()
        thread.join()
    assert all(len(each["arms"]) == 10 for each in results)
    assert max(waits) < 1.0  # it was 10 s; benchmarks/stalls.py has the figure of a quiet machine


def test_a_paused_experiment_without_a_fallback_arm_is_409(server: Live) -> None:
    """Nothing could be shown, and the caller must know; in a batch each item says so."""
    one = server.experiment(status="paused")
    problem(one.recommend(), Code.PAUSED)
    (item,) = ok(one.post("recommendations/batch", {"requests": [{"context": CONTEXT}]}))["results"]
    assert item["problem"]["code"] == "paused"


def test_a_deferred_decision_counts_from_its_activation(server: Live) -> None:
    """Nothing is learned before; activated once, then `duplicate`, and so is one that never waited."""
    one = server.experiment()
    arm = one.decided(decision_id="waits", defer=True)["arms"][0]["arm"]
    one.decided(decision_id="shown", candidates=[arm])
    one.until_seen(lambda rows: rows[arm]["impressions"] == 1)
    assert [ok(one.activate("waits"))["status"] for _ in range(2)] == ["activated", "duplicate"]
    assert ok(one.activate("shown"))["status"] == "duplicate"
    one.until_seen(lambda rows: rows[arm]["impressions"] == 2)
    problem(one.activate("never"), Code.DECISION_NOT_FOUND)
    assert logged(server, one, b"a") == 1


def test_feedback_activates_a_decision_that_waits(server: Live) -> None:
    """Who clicked on it was shown it."""
    one = server.experiment()
    arm = one.decided(decision_id="waits", defer=True)["arms"][0]["arm"]
    assert ok(one.feedback(decision_id="waits", event="click"))["credited"] == 1
    row = one.until_seen(lambda rows: rows[arm]["rewards"]["click"]["sum"] == 1)[arm]
    assert row["impressions"] == 1
    assert ok(one.activate("waits"))["status"] == "duplicate"


def test_explicit_activation_keeps_feedback_until_it_comes(server: Live) -> None:
    """Every decision waits; its feedback is accepted, and credited with the activation."""
    one = server.experiment(activation="explicit")
    arm = one.decided(decision_id="waits")["arms"][0]["arm"]
    assert ok(one.feedback(decision_id="waits", event="click"))["status"] == "accepted"
    one.decided(decision_id="other")
    assert ok(one.activate("other"))["status"] == "activated"
    rows = one.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 1)
    assert sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 0
    assert ok(one.activate("waits"))["status"] == "activated"
    assert one.until_seen(lambda rows: rows[arm]["rewards"]["click"]["sum"] == 1)


def test_an_activated_list_is_an_impression_of_each_arm(server: Live) -> None:
    """All k at once."""
    one = server.experiment()
    one.decided(decision_id="waits", defer=True, k=3)
    ok(one.activate("waits"))
    one.until_seen(lambda rows: [row["impressions"] for row in rows.values()] == [1, 1, 1])


AS_JSON = {"Content-Type": "application/json"}
BATCHES: list[tuple[str, Callable[[int], Any]]] = [
    ("recommendations", lambda i: {"context": CONTEXT, "decision_id": f"r{i}"}),
    ("feedback", lambda i: {"decision_id": f"d{i}", "event": "click"}),
    ("activations", lambda i: {"decision_id": f"d{i}"}),
]


@pytest.mark.parametrize(("what", "item"), BATCHES)
def test_a_batch_answers_each_item_in_order_and_a_bad_one_spoils_none(
    server: Live, what: str, item: Callable[[int], Any]
) -> None:
    """Bad items of every sort among good ones, and alone; each has its problem as it would have had alone."""
    one = server.experiment()
    ok(
        one.post(
            "recommendations/batch", {"requests": [{"context": CONTEXT, "decision_id": f"d{i}"} for i in range(3)]}
        )
    )
    bad: list[Any] = [
        {},
        [],
        None,
        5,
        "x",
        {"unknown": 1},
        {"decision_id": "~x"},
        {"decision_id": "never", "event": "click"},
    ]
    bad = bad[:-1] if what == "recommendations" else bad
    requests = [item(0), *bad[:4], item(1), *bad[4:], item(2)]
    results = ok(one.post(f"{what}/batch", {"requests": requests}))["results"]
    assert len(results) == len(requests)
    for request, result in zip(requests, results, strict=True):
        if request in bad:
            alone = problem(server.client.post(f"{one.at}/{what}", json=request)) if request is not None else None
            assert set(result) == {"problem"}
            assert alone is None or result["problem"] == alone
            assert ok(one.post(f"{what}/batch", {"requests": [request]}))["results"] == [result]
        else:
            assert result.get("decision_id", request["decision_id"]) == request["decision_id"]
            assert "problem" not in result


@pytest.mark.parametrize(("what", "item"), BATCHES)
def test_what_is_not_json_in_a_batch_spoils_its_own_item(server: Live, what: str, item: Callable[[int], Any]) -> None:
    """A NaN in one of three is that one's problem, as it would have had it alone; the others are served."""
    one = server.experiment()
    ok(one.post("recommendations/batch", {"requests": [{"context": CONTEXT, "decision_id": f"d{i}"} for i in (0, 1)]}))
    good = [json.dumps(item(i)).encode() for i in (0, 1)]
    for bad in (b'{"context":{"age":NaN}}', b"Infinity", b'{"decision_id":"\xff"}', b"1e999", b"1" * 401, b"{x}"):
        text = b'{"requests":[%b,%b,%b]}' % (good[0], bad, good[1])
        first, spoilt, second = ok(server.client.post(f"{one.at}/{what}/batch", content=text, headers=AS_JSON))[
            "results"
        ]
        assert "problem" not in first | second
        alone = problem(server.client.post(f"{one.at}/{what}", content=bad, headers=AS_JSON), Code.MALFORMED)
        assert spoilt == {"problem": alone}


def test_a_batch_has_up_to_a_thousand_items_and_may_be_empty(server: Live) -> None:
    """A thousand are decided, one more is refused whole, none at all is no fault."""
    one = server.experiment(features=[])
    results = ok(one.post("recommendations/batch", {"requests": [{"decision_id": str(i)} for i in range(1000)]}))[
        "results"
    ]
    assert [result["decision_id"] for result in results] == [str(i) for i in range(1000)]
    assert logged(server, one) == 1000
    assert pointers(one.post("recommendations/batch", {"requests": [{}] * 1001}), Code.INVALID_REQUEST) == ["/requests"]
    assert ok(one.post("recommendations/batch", {"requests": []})) == {"results": []}


def test_the_answers_of_a_batch_are_bounded_before_anything_is_decided(server: Live) -> None:
    """26 kB asked for 923 MB and took three times that of a worker's memory: what is over the bound is not decided."""
    arms = [{"id": f"a{i}", "payload": "x" * 16_000} for i in range(60)]
    one = server.experiment(features=[], arms=arms)
    requests = [{"context": {}, "k": 60, "decision_id": f"d{i}"} for i in range(50)]
    answer = one.post("recommendations/batch", {"requests": requests})
    results = ok(answer)["results"]
    refused = [i for i, each in enumerate(results) if "problem" in each]
    assert refused == list(range(len(results) - len(refused), len(results)))
    assert 10 < len(refused) < 40
    assert len(answer.content) < ANSWER_MAX
    assert {results[i]["problem"]["code"] for i in refused} == {"too_large"}
    assert one.decided(context={}, k=1, decision_id="d49")["replayed"] is False
    assert one.decided(context={}, k=60, decision_id="d0")["replayed"] is True


def test_one_id_twice_in_a_batch_is_one_decision(server: Live) -> None:
    """The second item is a replay of the first, and a third with another context is refused."""
    one = server.experiment()
    first, second, third = ok(
        one.post(
            "recommendations/batch",
            {
                "requests": [
                    {"context": CONTEXT, "decision_id": "d"},
                    {"context": CONTEXT, "decision_id": "d"},
                    {"context": CONTEXT | {"age": 5}, "decision_id": "d"},
                ]
            },
        )
    )["results"]
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert first["arms"][0]["arm"] == second["arms"][0]["arm"]
    assert third["problem"]["code"] == "decision_id_reused"
    assert logged(server, one) == 1


def test_a_user_is_nowhere_in_the_log(server: Live) -> None:
    """Only a keyed hash of who asked is kept."""
    one = server.experiment()
    one.decided(user_id="alice@example.org", decision_id="d")
    ok(one.feedback(user_id="alice@example.org", event="click"))
    assert all(b"alice" not in entry.record for entry in server.service.store.read(one.name, START, 100))
    assert "alice" not in str(list(export(server.service.store, one.name)))
