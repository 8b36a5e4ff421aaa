"""Each policy on a real server: what it answers, logs, explains and lets evaluate."""

from typing import Any

import numpy as np
import pytest
from live import Experiment, Live, ok, serving, until, valkey

from bandit.core.draw import UNKNOWN, draw
from bandit.log.records import START, unpack_decision
from bandit.store.redis_store import RedisStore
from simulator.logs.loaders import load
from simulator.ope.evaluate import evaluate
from simulator.ope.evaluate_lists import evaluate_lists
from simulator.ope.targets import uniform
from simulator.studies.replay import replay

POLICIES: list[dict[str, Any]] = [
    {"type": "thompson", "scale": 0.5, "explore": 0.1},
    {"type": "inverse-gap", "gamma_scale": 5.0, "explore": 0.1},
    {"type": "softmax", "temperature": 0.5, "explore": 0.1},
]
ARMS = ["a", "b", "c", "d"]


def busy(server: Live, policy: dict[str, Any], **changes: Any) -> Experiment:
    """An experiment in which `b` is clicked."""
    one = server.experiment(features=[], rewards={"click": {}}, arms=ARMS, policy=policy, **changes)
    for arm, clicks in (("a", 4), ("b", 24), ("c", 8)):
        requests = [{"candidates": [arm], "decision_id": f"{arm}-{i}"} for i in range(30)]
        ok(one.post("recommendations/batch", {"requests": requests}))
        events = [{"decision_id": f"{arm}-{i}", "event": "click"} for i in range(clicks)]
        ok(one.post("feedback/batch", {"requests": events}))
    one.until_seen(lambda rows: sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 36)
    replica = server.service.follower.replicas[one.name]
    until(lambda: replica.is_fresh)  # else a busy machine decides by what it knew before
    return one


def test_what_is_explored_by_itself_and_for_candidates_is_logged_as_it_was_drawn(server: Live) -> None:
    """By default, after 90 impressions: 2 %, half of it for `a` and `d`; without `a` all of that half is `d`'s."""
    one = busy(server, {"type": "epsilon-greedy", "challengers": ["a", "d"]})
    assert ok(server.client.get(one.at))["policy"] == {
        "type": "epsilon-greedy",
        "explore": "auto",
        "challengers": ["a", "d"],
    }
    ok(one.post("recommendations/batch", {"requests": [{}, {"exclude": ["a"]}, {"exclude": ["a", "d"]}]}))
    store = RedisStore(server.service.settings.redis_url)
    found = [unpack_decision(entry.record) for entry in store.read(one.name, START, 1000) if entry.tag == b"d"][-3:]
    expected = [[0.0075, 0.9825, 0.0025, 0.0075], [0.98 + 0.01 / 3, 0.01 / 3, 0.01 + 0.01 / 3], [0.99, 0.01]]
    for record, p in zip(found, expected, strict=True):
        assert record.probabilities == pytest.approx(p, abs=1e-15)
        at = int(draw(record.probabilities[None], np.array([record.head.u]))[0])
        assert record.eligible[at] == record.arms[0]
        assert record.propensities == (record.probabilities[at],)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["type"])
def test_what_is_logged_is_what_was_drawn_from(server: Live, policy: dict[str, Any]) -> None:
    """Each logged u picks the logged arm from the logged probabilities, and its probability is the propensity."""
    one = busy(server, policy)
    requests = [{"exclude": ["c"]} if i % 3 == 0 else {} for i in range(120)]
    answers = ok(one.post("recommendations/batch", {"requests": requests}))["results"]
    store = RedisStore(server.service.settings.redis_url)
    records = [unpack_decision(entry.record) for entry in store.read(one.name, START, 1000) if entry.tag == b"d"][-120:]
    for answer, record, request in zip(answers, records, requests, strict=True):
        p = record.probabilities
        at = int(draw(p[None], np.array([record.head.u]))[0])
        (shown,) = answer["arms"]
        assert ARMS[record.eligible[at]] == ARMS[record.arms[0]] == shown["arm"]
        assert record.propensities == record.marginals == (p[at],) == (shown["propensity"],)
        assert len(p) == (3 if request else 4)
        assert p.sum() == pytest.approx(1, abs=1e-14)
        assert p.min() >= 0.1 / len(p) * (1 - 1e-12)
        assert p.argmax() == 1 or policy["type"] == "thompson"  # of which the unseen `d` may be likelier


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["type"])
def test_a_preview_an_inspection_and_a_decision_tell_the_same(server: Live, policy: dict[str, Any]) -> None:
    """Probabilities of a preview are those that the next decision logs; scores are the estimates."""
    one = busy(server, policy)
    looked = ok(one.post("preview", {"context": {}}))
    assert looked["slices"][0]["policy"] == policy
    answer = ok(one.post("recommendations", {"decision_id": "x", "defer": True}))
    told = ok(one.client.get(f"{one.at}/decisions/x", params={"explain": "true"}))
    expected = {each["arm"]: pytest.approx(each["probability"], abs=1e-12) for each in looked["arms"]}
    assert {each["arm"]: each["probability"] for each in told["eligible"]} == expected
    assert told["arms"] == [
        {"arm": answer["arms"][0]["arm"], "propensity": answer["arms"][0]["propensity"],
         "marginal": answer["arms"][0]["propensity"]}
    ]  # fmt: skip
    for each in told["explanation"]["arms"]:
        assert each["score"] == each["mean"]
    for each in looked["arms"]:
        assert each["score"] == each["mean"]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["type"])
def test_of_lower_places_only_the_conditional_propensity_is_known(server: Live, policy: dict[str, Any]) -> None:
    """The log, the inspection and the export say so; the first place's is known."""
    one = busy(server, policy)
    answer = ok(one.post("recommendations", {"decision_id": "x", "k": 3}))
    assert [0 < each["propensity"] < 1 for each in answer["arms"]] == [True] * 3
    told = ok(one.client.get(f"{one.at}/decisions/x"))["arms"]
    assert [each["propensity"] for each in told] == [each["propensity"] for each in answer["arms"]]
    assert [each["marginal"] for each in told] == [told[0]["propensity"], None, None]
    again = ok(one.post("recommendations", {"decision_id": "x", "k": 3}))
    assert again["replayed"]
    keys = ("arm", "propensity")
    assert [[each[key] for key in keys] for each in again["arms"]] == [[each[key] for key in keys] for each in told]
    assert UNKNOWN < 0  # so that nothing can take it for a probability


def test_a_servers_lists_are_valued_by_conditional_propensities() -> None:
    """A real log of softmax: uniform lists' truth is in every interval, and lower places alone are refused."""
    rate = {"a": 0.2, "b": 0.6, "c": 0.4, "d": 0.1}
    rng = np.random.default_rng(0)
    with valkey() as url, serving(url) as server:
        until(server.service.ready.is_set)
        policy = {"type": "softmax", "temperature": 2.0, "explore": 0.5}
        one = server.experiment(features=[], rewards={"click": {}}, arms=ARMS, policy=policy)
        for _ in range(15):
            requests = [{"context": {}, "k": 2}] * 100
            answers = ok(one.post("recommendations/batch", {"requests": requests}))["results"]
            events = [
                {"decision_id": answer["decision_id"], "event": "click", "arm": each["arm"]}
                for answer in answers
                for place, each in enumerate(answer["arms"])
                if rng.random() < rate[each["arm"]] / (place + 1)
            ]
            ok(one.post("feedback/batch", {"requests": events}))
        log = load(None, "server", experiment=one.name, redis_url=url)
        first = load(None, "server", experiment=one.name, redis_url=url, places="first")
    rows = evaluate_lists(log, "uniform", alpha=0.001)
    assert [row.estimator for row in rows] == ["standard", "reward-interaction", "cascade-dr"]
    truth = 1.5 * np.mean([*rate.values()])
    for row in rows:
        assert row.low is not None, row
        assert row.high is not None
        assert row.low < truth < row.high, row
    with pytest.raises(ValueError, match="independent takes marginal probabilities"):
        evaluate_lists(log, "uniform", estimators=["independent"])
    for each_place_for_itself in (lambda: evaluate(log, uniform(log)), lambda: replay(log, "linucb")):
        with pytest.raises(ValueError, match="its marginal probability is not known"):
            each_place_for_itself()
    assert evaluate(first, uniform(first), estimators=["snips"])[0].low is not None
