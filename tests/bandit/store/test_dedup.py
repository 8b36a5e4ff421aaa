"""An event that the caller names is counted once for a user, however many decisions came since and whatever passed."""

import pytest
import redis
from trial import SALE, Trial, at, past, user

from bandit.log.records import Position
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import USER_MAX, Logged, Outcome, Ref, Store
from bandit.store.redis_store import RedisStore

LIFE = 800  # ms: a window of which half is long enough for a batch, and that passes while one waits
ATTRIBUTIONS = ["last", "first", "all"]


@pytest.fixture
def trial(store: Store, name: str) -> Trial:
    """An experiment of two kinds, click and sale."""
    return Trial(store, name)


def by_user(trial: Trial, event: str | None, arm: int = -1, kind: int = SALE, of: str = "u") -> list[Outcome]:
    """What feedback of 5 by a user is answered."""
    (found,) = trial.send(trial.reward(user(of), 5, kind, event, arm))
    judged = found if isinstance(found, list) else [found]
    assert all(isinstance(each, Outcome) for each in judged)
    return [each for each in judged if isinstance(each, Outcome)]


def told(trial: Trial, event: str | None, arm: int = -1) -> list[tuple[str, Position]]:
    """Its statuses and decisions."""
    return [(each.status, each.position) for each in by_user(trial, event, arm)]


def come_back(trial: Trial) -> None:
    """So many newer decisions of the user that none of the older ones is kept."""
    trial.send(*(trial.decision(3, user="u") for _ in range(USER_MAX)))


def sales(trial: Trial) -> int:
    """The sum of every sale that was credited."""
    return sum(B[SALE][0] for _, B, _, _ in trial.slow().values()) // 4096


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_a_retry_after_a_hundred_newer_decisions_is_a_duplicate(store: Store, name: str, attribution: str) -> None:
    """It names what the order was credited to, each of them under `all`, newest first; the sums have it once."""
    trial = Trial(store, name, attribution=attribution)
    old = [trial.decide(arm, user="u") for arm in (0, 1, 1)]
    credited = {"last": old[2:], "first": old[:1], "all": old[::-1]}[attribution]
    assert told(trial, "order-1") == [("accepted", at(ref)) for ref in credited]
    come_back(trial)
    assert told(trial, "order-1") == [("duplicate", at(ref)) for ref in credited]
    assert sales(trial) == 5 * len(credited)
    assert {status for status, _ in told(trial, "order-2")} == {"accepted"}


def test_a_retry_after_the_decisions_deadline_and_grace_is_a_duplicate(store: Store, name: str) -> None:
    """The event is known for a window and the grace from its own time on; then it is another one."""
    trial = Trial(store, name, grace_ms=0)
    old = trial.decide(user="u", window_ms=LIFE)
    past(store, at(old).ms + LIFE // 2)
    assert told(trial, "order-1") == [("accepted", at(old))]
    end = store.now_ms() + LIFE
    past(store, at(old).ms + LIFE + 1)
    new = trial.decide(user="u")
    assert told(trial, "order-1") == [("duplicate", at(old))]
    past(store, end)
    assert told(trial, "order-1") == [("accepted", at(new))]


def test_an_event_is_known_to_the_last_moment_of_its_window_and_grace() -> None:
    """By a clock set by hand: known at 5 s + a window of 10 s + a grace of 3 s, and not a millisecond after."""
    now = [1e6]
    trial = Trial(MemoryStore(lambda: now[0]), "clock", grace_ms=3_000)
    old = trial.decide(user="u", window_ms=10_000)
    now[0] += 5
    told(trial, "order-1")
    now[0] += 13
    new = trial.decide(user="u")
    assert told(trial, "order-1") == [("duplicate", at(old))]
    now[0] += 0.001
    assert told(trial, "order-1") == [("accepted", at(new))]


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_a_duplicate_names_decisions_that_the_log_no_longer_has(store: Store, name: str, attribution: str) -> None:
    """By the server's id or the caller's name, as when it was credited."""
    trial = Trial(store, name, attribution=attribution)
    trial.decide(0, user="u")
    trial.decide(1, user="u", caller="ä:1")
    accepted = by_user(trial, "order-1")
    trial.decide(2, user="u")
    token, cut = trial.lease(), trial.log()[-1].position
    assert store.write_rows(name, "sums", token, [], cut)
    assert store.write_rows(name, "base", token, [], trial.log()[-2].position)
    assert store.trim(name, token, cut, b"")
    assert by_user(trial, "order-1") == [each._replace(status="duplicate", credited=0) for each in accepted]
    assert {each.credited for each in accepted} == {5}


@pytest.mark.parametrize("how", ["entry", "caller"])
def test_an_event_on_a_decision_of_the_users_is_known_by_the_user_too(trial: Trial, how: str) -> None:
    """Sent by decision_id, and again by user_id when it is no longer among the user's decisions."""
    old = trial.decide(user="u", caller="c" if how == "caller" else "")
    accepted = trial.feed(old, 5, event="order-1")
    come_back(trial)
    assert by_user(trial, "order-1") == [accepted._replace(status="duplicate", credited=0)]
    assert trial.feed(old, 5, event="order-1").status == "duplicate"
    assert sales(trial) == 5


def test_the_same_event_on_another_decision_by_its_id_counts(trial: Trial) -> None:
    """An id names one decision, so that one alone judges it; by user it is then a repeat, of the first for the arm."""
    one, two, other = trial.decide(0, user="u"), trial.decide(0, user="u"), trial.decide(1, user="u")
    assert [trial.feed(ref, 5, event="e").status for ref in (one, two, other)] == ["accepted"] * 3
    come_back(trial)
    assert told(trial, "e", arm=0) == [("duplicate", at(one))]
    assert told(trial, "e") == [("duplicate", at(other))]


def test_only_an_event_id_of_the_callers_own_on_a_users_decision_is_kept(trial: Trial) -> None:
    """Without one, or without a user, or of another user: nothing of it is known to this user."""
    nobodys, others = trial.decide(), trial.decide(user="v")
    mine = trial.decide(user="u")
    for ref, event in ((nobodys, "order-1"), (others, "order-1"), (mine, None), (mine, "order-2")):
        assert trial.feed(ref, 5, event=event).status == "accepted"
    come_back(trial)
    assert [by_user(trial, event)[0].status for event in ("order-1", "sale", "order-2")] == ["accepted"] * 2 + [
        "duplicate"
    ]


def test_an_event_without_an_id_of_its_own_is_not_kept(trial: Trial) -> None:
    """Its name is its kind's: what is called so by the caller, or comes again after another visit, is another event."""
    trial.decide(user="u")
    trial.decide(user="u", caller="c")
    assert [trial.feed(ref, 5).status for ref in (user("u"), Ref(caller=b"c"))] == ["accepted", "duplicate"]
    come_back(trial)
    assert told(trial, "sale")[0][0] == "accepted"
    assert told(trial, "sale")[0][0] == "duplicate"
    trial.decide(user="u")
    assert told(trial, None)[0][0] == "accepted"


@pytest.mark.parametrize("way", ["user", "id"])
def test_a_refused_event_is_not_kept(trial: Trial, way: str) -> None:
    """Out of range, and then with a value that fits: it counts, and from then on it is known."""
    ref = trial.decide(user="u")
    named = user("u") if way == "user" else ref
    assert [trial.feed(named, value, event="order-1").status for value in (51, 5)] == ["range", "accepted"]
    come_back(trial)
    assert told(trial, "order-1") == [("duplicate", at(ref))]


def test_events_of_a_list_are_known_by_their_arms(trial: Trial) -> None:
    """An order's two products are two events of one id; without an arm the id alone says that it is known."""
    ref = trial.decide(0, 1, 2, user="u")
    assert [told(trial, "order-1", arm) for arm in (0, 1)] == [[("accepted", at(ref))]] * 2
    trial.send(*(trial.decision(3, 2, user="u") for _ in range(USER_MAX)))
    new = trial.decide(2, user="u")
    assert [told(trial, "order-1", arm) for arm in (0, 1)] == [[("duplicate", at(ref))]] * 2
    assert told(trial, "order-1") == [("duplicate", at(ref))]
    assert told(trial, "order-1", arm=2) == [("accepted", at(new))]


def test_an_event_is_known_by_the_arm_that_it_was_credited_to(trial: Trial) -> None:
    """Where a decision showed one arm, it is the same event whether that arm is named or not."""
    ref = trial.decide(1, user="u")
    assert told(trial, "order-1") == [("accepted", at(ref))]
    come_back(trial)
    trial.decide(1, 2, user="u")
    assert [told(trial, "order-1", arm)[0][0] for arm in (1, 2)] == ["duplicate", "accepted"]


def test_names_of_events_do_not_run_into_each_other(trial: Trial) -> None:
    """Nor into kinds and users: each counts once."""
    trial.decide(user="u")
    trial.decide(user="v")
    told_of = [
        (event, kind, of) for event in ("e", ":e", "0:e", "1:e", "1:0:e", "é e") for kind in (0, 1) for of in "uv"
    ]
    first, again = (
        [by_user(trial, event, kind=kind, of=of)[0].status for event, kind, of in told_of] for _ in range(2)
    )
    assert (set(first), set(again)) == ({"accepted"}, {"duplicate"})
    come_back(trial)
    trial.send(*(trial.decision(user="v") for _ in range(USER_MAX)))
    assert {by_user(trial, event, kind=kind, of=of)[0].status for event, kind, of in told_of} == {"duplicate"}


def test_another_generation_knows_nothing_of_an_event(trial: Trial) -> None:
    """After a reset it counts once more, and once."""
    trial.decide(user="u")
    assert told(trial, "order-1")[0][0] == "accepted"
    trial.change(reset=True)
    new = trial.decide(user="u")
    assert told(trial, "order-1") == [("accepted", at(new))]
    come_back(trial)
    assert told(trial, "order-1") == [("duplicate", at(new))]


def test_a_shorter_window_takes_nothing_from_what_is_known(store: Store, name: str) -> None:
    """One product's decision has an hour, another's a moment: the order is known for the hour."""
    trial = Trial(store, name, grace_ms=0)
    long = trial.decide(0, 1, user="u")
    assert trial.feed(long, 5, event="order-1", arm=0).status == "accepted"
    logged, judged = trial.send(
        trial.decision(2, caller="c", user="u", window_ms=40), trial.reward(Ref(caller=b"c"), 5, event="order-1")
    )
    assert isinstance(logged, Logged)
    assert isinstance(judged, Outcome)
    assert judged.status == "accepted"
    past(store, store.now_ms() + 40)
    come_back(trial)
    assert told(trial, "order-1", arm=0) == [("duplicate", at(long))]


@pytest.mark.parametrize("attribution", ["last", "first"])
def test_feedback_by_user_opens_the_decisions_that_it_needs(valkey: str, name: str, attribution: str) -> None:
    """Of a hundred, the one that it goes to; a closed one before it too. Its state is read once."""
    store = RedisStore(valkey)
    trial = Trial(store, name, attribution=attribution)
    ends = trial.decision(0, 1, user="u", deferred=True), trial.decision(0, 1, user="u", deferred=True)
    trial.send(ends[0], *(trial.decision(0, 1, user="u") for _ in range(USER_MAX - 2)), ends[1])
    before = calls(valkey)
    assert by_user(trial, "order-1", arm=1)[0].status == "accepted"
    spent = {name: count - before.get(name, 0) for name, count in calls(valkey).items()}
    reads = sum(spent.get(each, 0) for each in ("hget", "hmget", "hgetall"))
    store.close()
    assert (spent["xrange"], reads) == (2, 4)  # the config, the event, whether the first is active, and the state


def calls(url: str) -> dict[str, int]:
    """How often each command was called, by scripts too."""
    with redis.Redis.from_url(url) as client:
        found: dict[str, dict[str, int]] = client.info("commandstats")  # type: ignore[assignment]
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()}
