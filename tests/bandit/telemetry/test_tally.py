"""What a batcher and a replica count, against the log and arithmetic by hand; over real HTTP."""

import time
from typing import Any

import pytest
from live import Experiment, Live, ok, serving, until, valkey
from prometheus_client.parser import text_string_to_metric_families

from bandit.log.records import START, Position
from bandit.replica.figures import Freshness
from bandit.telemetry.counters import Counters


def counted(server: Live, metric: str, home: Experiment, label: str = "") -> dict[str, float]:
    """{value of a label: number} of one experiment, added up over its other labels."""
    text = server.client.get("/metrics").raise_for_status().text
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == metric and sample.labels["experiment"] == home.name:
                value = sample.labels.get(label, "")
                found[value] = found.get(value, 0) + sample.value
    return found


@pytest.mark.parametrize(
    ("changes", "asked", "low", "high", "even"),
    [
        ({"policy": {"type": "uniform"}}, {}, 0, 0, 1),  # nothing that is known decides
        ({"policy": {"type": "uniform"}}, {"candidates": ["b"]}, 0, 0, 0),  # one arm alone is no choice
        ({"policy": {"type": "linucb", "explore": 0}}, {}, 0, 0, 0),
        ({"policy": {"type": "linucb", "explore": 1}}, {}, 0, 0, 1),
        ({"policy": {"type": "linucb", "explore": 0.5}}, {}, 0.1, 0.6, 0),  # two thirds of the half
        ({"policy": {"type": "linucb", "explore": 0}}, {"k": 2}, 0, 0, 0),
    ],
)
def test_explored_and_even_are_what_the_series_says(
    server: Live, changes: Any, asked: Any, low: float, high: float, even: float
) -> None:
    """The share of decisions whose first arm was less likely than another, or whose arms were all as likely."""
    home = server.experiment(**changes)
    for arm in ("a", "b", "c"):
        first = home.decided(candidates=[arm])
        if arm == "b":
            home.feedback(decision_id=first["decision_id"], event="click")
    home.until_seen(lambda rows: rows["b"]["rewards"]["click"]["sum"] == 1)

    def now() -> tuple[float, float]:
        explored, even_ = (counted(server, f"bandit_decisions_{kind}_total", home)[""] for kind in ("explored", "even"))
        return explored, even_

    before = now()
    for _ in range(100):
        home.decided(**asked)
    after = now()
    assert low <= (after[0] - before[0]) / 100 <= high
    assert (after[1] - before[1]) / 100 == even

    def told() -> Any:
        points = ok(server.client.get(f"{home.at}/series?resolution=minute"))["points"]
        return points if sum(point["decisions"] for point in points) == 103 else None

    points = until(told)
    assert after == tuple(sum(point[kind] for point in points) for kind in ("explored", "even"))


def test_each_kind_of_decision_is_counted_as_itself(server: Live) -> None:
    """New, deferred, replayed, a user's last one, and a paused experiment's fallback; a batch's items one by one."""
    home = server.experiment(sticky={"for": "1h"}, fallback_arm="a")
    home.decided(decision_id="one")
    home.decided(decision_id="one")
    home.decided(user_id="u")
    home.decided(user_id="u")
    home.decided(defer=True)
    ok(home.post("recommendations/batch", {"requests": [{"context": {"age": 1, "country": "us"}}] * 7}))
    ok(home.patch({"status": "paused"}))
    assert home.decided()["fallback"]
    home.decided(decision_id="one")
    found = counted(server, "bandit_decisions_total", home, "kind")
    assert found == {"new": 9, "deferred": 1, "replayed": 2, "sticky": 1, "fallback": 1}


def test_feedback_is_counted_by_its_outcome_and_its_amount(server: Live) -> None:
    """Accepted, duplicate, clipped, out of range, unknown, refunded: events, and what they come to in reward units."""
    home = server.experiment(
        rewards={"sale": {"range": [0, 100], "over_range": "clip"}, "stars": {"range": [0, 5]}}, refunds="1d"
    )
    one = home.decided()["decision_id"]
    for value, event in ((30, "a"), (90, "b"), (90, "b")):
        home.feedback(decision_id=one, event="sale", value=value, event_id=event)
    home.feedback(decision_id=one, event="sale", refund_of="b", event_id="r")
    home.feedback(decision_id=one, event="sale", refund_of="nothing", event_id="s")
    home.feedback(decision_id=one, event="stars", value=6, event_id="x")
    home.feedback(decision_id="none", event="stars", value=1, event_id="x")
    home.feedback(decision_id=one, event="nonsense")
    outcomes = counted(server, "bandit_feedback_total", home, "outcome")
    assert outcomes == {"accepted": 3, "duplicate": 1, "event": 1, "range": 1, "unknown": 1}
    assert counted(server, "bandit_reward_credited_total", home, "reward") == {"sale": 100, "stars": 0}
    assert counted(server, "bandit_reward_taken_back_total", home, "reward") == {"sale": 70}
    assert counted(server, "bandit_feedback_clipped_total", home, "reward") == {"sale": 1}
    assert counted(server, "bandit_refunds_total", home, "reward") == {"sale": 1}
    codes = counted(server, "bandit_problems_total", home, "code")
    assert codes == {"event_not_found": 1, "reward_out_of_range": 1, "decision_not_found": 1, "unknown_event": 1}


def test_a_name_that_is_no_experiment_gets_no_label(server: Live) -> None:
    """Whoever asks for made-up names cannot fill the metrics."""
    made_up = Experiment(server.client, "made-up-by-somebody")
    assert made_up.recommend().status_code == 404
    text = server.client.get("/metrics").text
    assert "made-up" not in text
    assert 'bandit_problems_total{code="experiment_not_found",experiment="",operation="recommendations"}' in text


def test_an_archive_is_as_old_as_its_last_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an experiment has one; where it is ended, there is no age that grows for ever."""
    monkeypatch.setattr("bandit.replica.follower.TRIM", 0.1)
    with valkey() as url, serving(url) as live:
        home, age = live.experiment(), "bandit_last_archive_timestamp_seconds"
        assert counted(live, age, home) == {}
        assert live.service.store.move_archive(home.name, b"a", None, START)
        until(lambda: abs(counted(live, age, home).get("", 0) - time.time()) < 60)
        assert live.service.store.forget_archive(home.name)
        until(lambda: counted(live, age, home) == {})


def test_learning_is_counted(server: Live) -> None:
    """Entries folded, how long they took to be reflected, and nothing left to do in the end."""
    home = server.experiment()
    for _ in range(20):
        home.decided()
    home.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 20)
    until(lambda: counted(server, "bandit_replica_lag_entries", home) == {"": 0})
    assert counted(server, "bandit_refresh_pending_arms", home) == {"": 0}
    assert counted(server, "bandit_replica_failed", home) == {"": 0}


def test_freshness_is_that_of_the_entry_that_waited_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: entries of 1 s and 2 s reflected at 3 s took 2; what came meanwhile waits since the goal's own time."""
    counters = Counters()
    fresh = Freshness(counters)
    monkeypatch.setattr("bandit.replica.figures.time.time", lambda: 3.0)
    fresh.folded(5, 1000)
    fresh.folded(2, 2000)
    fresh.aim()
    fresh.folded(3, 2500)
    assert fresh.behind == 10
    fresh.reflected(Position(2200, 0), all_=False)
    assert fresh.behind == 3
    monkeypatch.setattr("bandit.replica.figures.time.time", lambda: 4.2)
    fresh.reflected(Position(2700, 0), all_=True)
    assert fresh.behind == 0
    fresh.reflected(Position(2700, 0), all_=True)  # nothing was waiting
    numbers = counters.snapshot()["bandit_freshness_seconds"][()]
    assert sum(numbers[:-1]) == 2
    assert numbers[-1] == pytest.approx(2.0 + 2.0)
    fresh.folded(9, 1)
    fresh.loaded()
    assert fresh.behind == 0
    assert counters.snapshot()["bandit_folded_entries_total"] == {(): [19]}
