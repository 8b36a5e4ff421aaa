"""The contract's feedback, over HTTP against a real store: aggregations, event ids, users, windows, ranges."""

import itertools
from typing import Any

import pytest
from live import Experiment, Live, ok, pointers, problem, serving, until, valkey

from bandit.errors import Code
from bandit.log.records import decision_id as decision_id_of


def with_kind(server: Live, **kind: Any) -> Experiment:
    """An experiment with one decision `d`, and the kind `r` as given."""
    one = server.experiment(features=[], rewards={"r": kind})
    ok(one.post("recommendations", {"decision_id": "d"}))
    return one


def credited(one: Experiment, values: list[float], **more: Any) -> list[float]:
    """What each of these values in turn was credited with."""
    return [ok(one.feedback(decision_id="d", event="r", value=value, **more))["credited"] for value in values]


def total(one: Experiment, kind: str = "r") -> float:
    """What all arms have been credited with."""
    return float(sum(row["rewards"][kind]["sum"] for row in one.seen().values()))


def until_total(one: Experiment, goal: float, kind: str = "r") -> None:
    """Wait until the log is folded so far."""
    until(lambda: total(one, kind) == pytest.approx(goal, abs=1e-9))


def test_a_click_is_accepted_once(server: Live) -> None:
    """Without an event id the kind's name stands for it: a second click is a duplicate, and nothing more is learned."""
    one = server.experiment()
    decision_id = one.decided()["decision_id"]
    first = ok(one.feedback(decision_id=decision_id, event="click"))
    assert first == {"status": "accepted", "credited": 1.0, "decision_id": decision_id}
    again = ok(one.feedback(decision_id=decision_id, event="click"))
    assert again == {"status": "duplicate", "credited": 0.0, "decision_id": decision_id}
    until_total(one, 1, "click")


def test_under_sum_each_event_id_counts_while_the_total_is_in_range(server: Live) -> None:
    """Sums are exact; beyond the range it is 422, and at the default range a second click of its own is beyond."""
    one = with_kind(server, range=[0, 1])
    for i in range(10):
        assert ok(one.feedback(decision_id="d", event="r", value=0.1, event_id=str(i)))["credited"] == 0.1
    assert pointers(one.feedback(decision_id="d", event="r", value=0.1, event_id="10"), Code.REWARD_OUT_OF_RANGE) == [
        "/value"
    ]
    assert ok(one.feedback(decision_id="d", event="r", value=0.1, event_id="9"))["status"] == "duplicate"
    until_total(one, 1)
    click = server.experiment()
    click.decided(decision_id="d")
    ok(click.feedback(decision_id="d", event="click"))
    problem(click.feedback(decision_id="d", event="click", event_id="own"), Code.REWARD_OUT_OF_RANGE)


def test_a_refused_event_does_not_spend_its_event_id(server: Live) -> None:
    """Out of range the first time, it counts when it comes again within it."""
    one = with_kind(server, range=[0, 1])
    problem(one.feedback(decision_id="d", event="r", value=2, event_id="e"), Code.REWARD_OUT_OF_RANGE)
    assert credited(one, [0.5, 0.25], event_id="e") == [0.5, 0]


def test_under_first_only_the_first_counts(server: Live) -> None:
    """A second one is a duplicate, with another event id and value too."""
    one = with_kind(server, aggregation="first", range=[0, 10])
    assert credited(one, [3]) == [3]
    again = ok(one.feedback(decision_id="d", event="r", value=5, event_id="other"))
    assert (again["status"], again["credited"]) == ("duplicate", 0)
    until_total(one, 3)


def test_under_last_the_last_value_stands(server: Live) -> None:
    """30, 45, 45, 20 credit 30, 15, 0, -25; an event id guards against a late retry."""
    one = with_kind(server, aggregation="last", range=[0, 60])
    assert credited(one, [30, 45, 45, 20]) == [30, 15, 0, -25]
    until_total(one, 20)
    assert credited(one, [50, 50], event_id="e") == [30, 0]
    assert ok(one.feedback(decision_id="d", event="r", value=10, event_id="e"))["status"] == "duplicate"
    until_total(one, 50)


def test_credited_is_the_value_after_less_before_the_default_being_before_the_first(server: Live) -> None:
    """An impression has the default at once, and the first value takes its place."""
    one = with_kind(server, default=5, range=[0, 10])
    until_total(one, 5)
    assert credited(one, [8], event_id="first") == [3]
    until_total(one, 8)
    assert credited(one, [1], event_id="second") == [1]


def test_beyond_the_range_it_is_clipped_where_the_experiment_says_so(server: Live) -> None:
    """The answer tells, and credited is what lies within, at either end; the total itself goes on: 7 - 8.5 + 1."""
    one = with_kind(server, range=[-1, 1], over_range="clip")
    answer = ok(one.feedback(decision_id="d", event="r", value=7, event_id="a"))
    assert (answer["credited"], answer["clipped"]) == (1, True)
    assert ok(one.feedback(decision_id="d", event="r", value=-8.5, event_id="b"))["credited"] == -2
    within = ok(one.feedback(decision_id="d", event="r", value=1, event_id="c"))
    assert (within["credited"], "clipped" in within) == (0.5, False)
    assert ok(one.feedback(decision_id="d", event="r", value=-1e308, event_id="d"))["credited"] == -0.5


@pytest.mark.parametrize("value", [1.000001, -0.000001, 1e308, -1e308, 1e15])
def test_a_value_outside_the_range_is_refused(server: Live, value: float) -> None:
    """However little or far outside; the range is told."""
    one = with_kind(server, range=[0, 1])
    assert (
        "[0.0, 1.0]"
        in problem(one.feedback(decision_id="d", event="r", value=value), Code.REWARD_OUT_OF_RANGE)["detail"]
    )


def test_a_reward_is_kept_in_whole_units(server: Live) -> None:
    """Money to the cent, exactly, a hundred times; a tenth of a cent is rounded."""
    one = with_kind(server, range=[0, 1000], unit=0.01)
    requests = [{"decision_id": "d", "event": "r", "value": 0.29, "event_id": str(i)} for i in range(100)]
    results = ok(one.post("feedback/batch", {"requests": requests}))["results"]
    assert {result["credited"] for result in results} == {0.29}
    assert ok(one.feedback(decision_id="d", event="r", value=0.004, event_id="less"))["credited"] == 0
    until_total(one, 29)


def test_a_decision_takes_a_thousand_events(server: Live) -> None:
    """The next one is refused, of any kind, and says why; a repeat is still a duplicate."""
    one = with_kind(server, range=[0, 1000])
    requests = [{"decision_id": "d", "event": "r", "value": 1, "event_id": str(i)} for i in range(1000)]
    results = ok(one.post("feedback/batch", {"requests": requests}))["results"]
    assert {result["status"] for result in results} == {"accepted"}
    problem(one.feedback(decision_id="d", event="r", value=0, event_id="more"), Code.TOO_MANY_EVENTS)
    assert ok(one.feedback(decision_id="d", event="r", value=1, event_id="7"))["status"] == "duplicate"
    until_total(one, 1000)


def test_an_event_id_is_known_per_decision_arm_and_kind(server: Live) -> None:
    """The same event id on another decision, arm or kind is another event."""
    one = server.experiment()
    arms = [shown["arm"] for shown in one.decided(decision_id="list", k=2)["arms"]]
    one.decided(decision_id="other")
    for body in (
        {"decision_id": "list", "arm": arms[0], "event": "click"},
        {"decision_id": "list", "arm": arms[1], "event": "click"},
        {"decision_id": "list", "arm": arms[0], "event": "sale", "value": 5},
        {"decision_id": "other", "event": "click"},
    ):
        assert ok(one.feedback(event_id="e", **body))["status"] == "accepted"
        assert ok(one.feedback(event_id="e", **body))["status"] == "duplicate"


def test_a_list_needs_the_arm_that_is_meant(server: Live) -> None:
    """Required where several were shown, one of the shown, and known at all."""
    one = server.experiment()
    shown = [each["arm"] for each in one.decided(decision_id="list", k=2)["arms"]]
    (hidden,) = {"a", "b", "c"} - set(shown)
    assert pointers(one.feedback(decision_id="list", event="click"), Code.INVALID_REQUEST) == ["/arm"]
    assert pointers(one.feedback(decision_id="list", event="click", arm=hidden), Code.UNKNOWN_ARM) == ["/arm"]
    assert pointers(one.feedback(decision_id="list", event="click", arm="zz"), Code.UNKNOWN_ARM) == ["/arm"]
    assert ok(one.feedback(decision_id="list", event="click", arm=shown[1]))["credited"] == 1
    until(lambda: one.seen()[shown[1]]["rewards"]["click"]["sum"] == 1)
    single = one.decided(decision_id="single", candidates=["a"])
    assert ok(one.feedback(decision_id="single", event="click", arm=single["arms"][0]["arm"]))["status"] == "accepted"
    assert pointers(one.feedback(decision_id="single", event="click", arm="b"), Code.UNKNOWN_ARM) == ["/arm"]


def test_unknown_decisions_and_events_are_told_apart(server: Live) -> None:
    """A decision never made is 404, a kind that is none is 422, and names the nearest."""
    one = server.experiment()
    one.decided(decision_id="d")
    end = server.service.store.end(one.name)
    unborn = decision_id_of(0, end._replace(seq=end.seq + 1), b"12345678")
    for decision_id in ("never", "~nonsense", "~" + "A" * 28, unborn):
        problem(one.feedback(decision_id=decision_id, event="click"), Code.DECISION_NOT_FOUND)
        problem(one.activate(decision_id), Code.DECISION_NOT_FOUND)
    refused = problem(one.feedback(decision_id="d", event="clik"), Code.UNKNOWN_EVENT)
    assert refused["errors"][0]["pointer"] == "/event"
    assert "did you mean 'click'" in refused["detail"]


def test_feedback_names_a_decision_or_a_user(server: Live) -> None:
    """One of them, not both and not neither."""
    one = server.experiment()
    for body in ({}, {"decision_id": "d", "user_id": "u"}):
        assert pointers(one.feedback(event="click", **body), Code.INVALID_REQUEST) == ["/decision_id"]


@pytest.mark.parametrize(("attribution", "goes_to"), [("last", "third"), ("first", "first")])
def test_a_users_feedback_goes_to_the_last_or_the_first_decision(server: Live, attribution: str, goes_to: str) -> None:
    """By the experiment's attribution; other users' decisions are not touched."""
    one = server.experiment(attribution=attribution)
    for name in ("first", "second", "third"):
        one.decided(decision_id=name, user_id="u")
    one.decided(decision_id="other's", user_id="v")
    answer = ok(one.feedback(user_id="u", event="sale", value=250, event_id="order"))
    assert answer == {"status": "accepted", "credited": 250.0, "decision_id": goes_to}
    assert ok(one.feedback(user_id="u", event="sale", value=250, event_id="order"))["status"] == "duplicate"
    until_total(one, 250, "sale")


def test_an_event_of_a_user_counts_once_though_a_newer_decision_came(server: Live) -> None:
    """A repeated order is a duplicate of the decision that had it."""
    one = server.experiment()
    one.decided(decision_id="old", user_id="u")
    ok(one.feedback(user_id="u", event="sale", value=10, event_id="order"))
    one.decided(decision_id="new", user_id="u")
    again = ok(one.feedback(user_id="u", event="sale", value=10, event_id="order"))
    assert (again["status"], again["decision_id"]) == ("duplicate", "old")
    assert ok(one.feedback(user_id="u", event="sale", value=10, event_id="order 2"))["decision_id"] == "new"


def test_a_users_feedback_may_go_to_all_decisions(server: Live) -> None:
    """Each is credited, `credited` is their sum, and each is listed."""
    one = server.experiment(attribution="all")
    for name in ("first", "second"):
        one.decided(decision_id=name, user_id="u")
    answer = ok(one.feedback(user_id="u", event="sale", value=100, event_id="order"))
    assert (answer["status"], answer["credited"]) == ("accepted", 200)
    assert sorted(each["decision_id"] for each in answer["decisions"]) == ["first", "second"]
    until_total(one, 200, "sale")


def test_a_user_without_a_decision_is_404(server: Live) -> None:
    """Nobody, a decision without a user, and one that still waits for its activation."""
    one = server.experiment()
    one.decided()
    one.decided(user_id="waits", defer=True)
    for user in ("nobody", "waits"):
        problem(one.feedback(user_id=user, event="click"), Code.DECISION_NOT_FOUND)


def test_a_users_feedback_with_an_arm_goes_to_a_decision_that_showed_it(server: Live) -> None:
    """The newest decision that did."""
    one = server.experiment()
    one.decided(decision_id="had b", user_id="u", candidates=["b"])
    one.decided(decision_id="had a", user_id="u", candidates=["a"])
    assert ok(one.feedback(user_id="u", event="click", arm="b"))["decision_id"] == "had b"
    problem(one.feedback(user_id="u", event="click", arm="c"), Code.DECISION_NOT_FOUND)


def test_after_the_window_feedback_is_late_and_a_duplicate_stays_one(server: Live) -> None:
    """By the store's clock: nothing is credited; duplicate is judged before late; a user has no decision any more."""
    one = server.experiment(reward_window=0.5)
    own = one.decided(decision_id="d", user_id="u")
    made = one.decided()["decision_id"]
    ok(one.feedback(decision_id="d", event="click"))
    answer = until(lambda: late(one, "d"))
    assert answer == {"status": "late", "credited": 0.0, "decision_id": "d"}
    until(lambda: late(one, made))
    assert ok(one.feedback(decision_id="d", event="click"))["status"] == "duplicate"
    problem(one.feedback(user_id="u", event="sale", value=1, event_id="late"), Code.DECISION_NOT_FOUND)
    assert one.decided(decision_id="d", user_id="u")["arms"][0]["arm"] == own["arms"][0]["arm"]
    one.decided(decision_id="waits", defer=True)
    one.decided(decision_id="made after it")
    until(lambda: late(one, "made after it"))
    assert ok(one.activate("waits"))["status"] == "late"


TRIES = itertools.count()


def late(one: Experiment, decision_id: str) -> Any:
    """The answer to a sale of nothing, once it is late; each try is an event of its own."""
    answer = ok(one.feedback(decision_id=decision_id, event="sale", value=0, event_id=f"try-{next(TRIES)}"))
    return answer if answer["status"] == "late" else None


def test_older_than_deadline_and_grace_a_callers_decision_is_unknown_and_a_servers_late() -> None:
    """The grace is a day; here it is none, so that the deadline is the end."""
    with valkey() as url, serving(url, late_grace=0) as server:
        one = server.experiment(reward_window=0.2)
        one.decided(decision_id="own")
        made = one.decided()["decision_id"]
        until(lambda: one.feedback(decision_id="own", event="click", event_id="x").status_code == 404)
        problem(one.feedback(decision_id="own", event="click"), Code.DECISION_NOT_FOUND)
        problem(one.activate("own"), Code.DECISION_NOT_FOUND)
        until(lambda: late(one, made))
        assert not one.decided(decision_id="own")["replayed"]  # the id is free again


def test_feedback_comes_in_any_order_with_the_same_result(server: Live) -> None:
    """Two sums of the same events in two orders end at the same totals."""
    totals = []
    for order in (1, -1):
        one = server.experiment(features=[], arms=["a"])
        ok(one.post("recommendations/batch", {"requests": [{"decision_id": str(i)} for i in range(5)]}))
        events = [
            {"decision_id": str(i), "event": "sale", "value": 10 * i + j, "event_id": str(j)}
            for i in range(5)
            for j in range(3)
        ]
        ok(one.post("feedback/batch", {"requests": events[::order]}))
        until_total(one, 3 * (0 + 10 + 20 + 30 + 40) + 5 * 3, "sale")
        totals.append(one.seen()["a"]["rewards"])
    assert totals[0] == totals[1]


def test_feedback_on_a_context_free_decision_needs_nothing_else(server: Live) -> None:
    """The shortest exchange there is."""
    one = server.experiment(features=[], rewards={"click": {}})
    decision_id = ok(one.post("recommendations", {}))["decision_id"]
    assert ok(one.feedback(decision_id=decision_id, event="click"))["status"] == "accepted"
