"""A refund takes back of one event, from the decision that was credited with it, whatever came since."""

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trial import CLICK, SALE, Trial, at, exact, past, slow_sums, user

from bandit.core.sums import Sums, increments
from bandit.log.events import read_events
from bandit.log.records import unpack_feedback
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import EVENTS_MAX, NO_ARM, Decide, Logged, Outcome, Ref, Store
from bandit.store.redis_store import RedisStore

LIFE = 300  # ms: a window that one waits for
CLIPPED = {"sale": {"range": [0, 500], "unit": 1, "over_range": "clip"}}


@pytest.fixture
def trial(store: Store, name: str) -> Trial:
    """An experiment of two kinds, click and sale, that takes refunds for a month."""
    return Trial(store, name, refunds="30d")


def told(outcome: Outcome) -> tuple[str, int]:
    """Its status, and how much was credited."""
    return outcome.status, outcome.credited


def results(trial: Trial, ref: Ref, event: str, of: str, credit: int = 0, arm: int = NO_ARM) -> list[Outcome]:
    """What a refund on several decisions is answered."""
    (found,) = trial.send(trial.reward(ref, credit, SALE, event, arm, of))
    assert isinstance(found, list)
    return [each for each in found if isinstance(each, Outcome)]


def test_a_refund_takes_back_a_part_or_all_that_is_left(trial: Trial) -> None:
    """Of 30: 10, then the other 20; of each entry the value is below 0, and it names the event."""
    ref = trial.decide()
    trial.feed(ref, 30, event="order")
    trial.feed(ref, 7, event="other")
    assert told(trial.refund(ref, "back-1", "order", 10)) == ("accepted", -10)
    assert told(trial.refund(ref, "back-2", "order")) == ("accepted", -20)
    entries = [unpack_feedback(entry.record) for entry in trial.log() if entry.tag == b"f"]
    assert [(each.event, each.refund_of, each.value, each.new[SALE]) for each in entries] == [
        ("order", "", 30, 30), ("other", "", 7, 37), ("back-1", "order", -10, 27), ("back-2", "order", -20, 7),
    ]  # fmt: skip
    assert trial.slow()[0][1][SALE][0] == 7 * 4096


def test_more_than_is_left_is_refused_and_spends_nothing(trial: Trial) -> None:
    """Nor is anything left of an event of 0 or less, nor of a refund; the corrected refund has the same id."""
    ref = trial.decide()
    for event, credit in (("order", 30), ("free", 0), ("fee", -5)):
        trial.feed(ref, credit, event=event)
    assert told(trial.refund(ref, "back", "order", 31)) == ("left", 0)
    assert told(trial.refund(ref, "back", "order", 30)) == ("accepted", -30)
    assert [trial.refund(ref, "more", of, credit).status for of in ("order", "free", "fee", "back")
            for credit in (0, 1)] == ["left"] * 8  # fmt: skip
    assert trial.tags() == "dffff"


def test_the_same_refund_again_is_a_duplicate(trial: Trial) -> None:
    """By its own id, also by the user, and also once nothing is left."""
    ref = trial.decide(user="u")
    trial.feed(ref, 30, event="order")
    first = trial.refund(ref, "back", "order")
    again = first._replace(status="duplicate", credited=0)
    assert [trial.refund(whose, "back", "order") for whose in (ref, user("u"))] == [again] * 2
    assert trial.tags() == "dff"


def test_an_event_that_was_never_seen_cannot_be_taken_back(trial: Trial) -> None:
    """On this decision, of this arm and kind; by a user, of this user's."""
    one, two = trial.decide(0, user="u"), trial.decide(1, 2, user="u")
    trial.feed(one, 30, event="order")
    trial.feed(two, 5, event="order", arm=1)
    assert trial.refund(one, "r", "never").status == "event"
    assert trial.refund(one, "r", "order", kind=CLICK).status == "event"
    assert trial.refund(one, "r", "order", arm=1).status == "event"
    assert trial.refund(two, "r", "order", arm=2).status == "event"
    assert trial.refund(two, "r", "order").status == "arm"
    assert trial.refund(user("u"), "r", "never").status == "event"
    assert trial.refund(user("v"), "r", "order").status == "event"
    assert trial.refund(Ref(caller=b"nobody"), "r", "order").status == "unknown"
    assert trial.tags() == "ddff"


def test_a_refund_goes_to_the_decision_that_was_credited(trial: Trial) -> None:
    """By user, when newer decisions came since; its arm is the one that was credited."""
    one, two = trial.decide(1, user="u"), trial.decide(2, 3, user="u")
    trial.feed(one, 30, event="order")
    trial.feed(two, 20, event="second", arm=3)
    trial.send(*(trial.decision(0, user="u") for _ in range(120)))
    assert (trial.refund(user("u"), "r1", "order", 10)).position == at(one)
    assert (trial.refund(user("u"), "r2", "second", 5)).position == at(two)
    assert [trial.slow()[arm][1][SALE][0] // 4096 for arm in range(4)] == [0, 20, 0, 15]


@pytest.mark.parametrize("arm", [NO_ARM, 1])
def test_where_all_were_credited_it_is_taken_back_from_each(store: Store, name: str, arm: int) -> None:
    """Newest first; with an arm named from those credited for it, and from each what is left there."""
    trial = Trial(store, name, refunds="30d", attribution="all")
    refs = [trial.decide(shown, user="u") for shown in (0, 1, 1)]
    trial.send(trial.reward(user("u"), 30, event="order"))
    assert told(trial.refund(refs[2], "before", "order", 25)) == ("accepted", -25)
    judged = results(trial, user("u"), "back", "order", 10, arm)
    expected = [("left", 0), ("accepted", -10), ("accepted", -10)][: 3 if arm == NO_ARM else 2]
    assert [told(each) for each in judged] == expected
    assert [each.position for each in judged] == [at(ref) for ref in refs[::-1]][: len(expected)]
    trial.change(attribution="last")
    assert told(results(trial, user("u"), "rest", "order", 0, arm)[0]) == ("accepted", -5)


def named(trial: Trial, how: str) -> tuple[Decide, Callable[[Logged], Ref]]:
    """A decision of user u's on arm 2, and what names it when it is logged."""
    decision = trial.decision(2, x=(4096, 77), user="u", caller="ä:1" if how == "caller" else "", window_ms=LIFE)
    return decision, lambda logged: user("u") if how == "user" else trial.ref(decision, logged)


@pytest.mark.parametrize("how", ["entry", "caller", "user"])
def test_a_refund_finds_its_decision_past_the_window_and_when_the_log_no_longer_has_it(
    store: Store, name: str, how: str
) -> None:
    """By each name; the entry is as that of a decision that is there, and the sums as if the event had been less."""
    trial = Trial(store, name, grace_ms=0, refunds="1h")
    decision, ref_of = named(trial, how)
    logged = trial.send(decision)[0]
    assert isinstance(logged, Logged)
    ref, named_ = ref_of(logged), trial.ref(decision, logged)
    accepted = trial.feed(named_, 30, event="order")
    past(store, logged.position.ms + LIFE + 1)
    newer = trial.decide(0, user="u")
    here = trial.refund(ref, "r1", "order", 10)
    before = trial.log()
    trial.trim(before[-2].position)
    there = trial.refund(ref, "r2", "order", 10)
    assert [here, there] == [accepted._replace(credited=-10)] * 2
    one, two = (unpack_feedback(entry.record) for entry in trial.log()[-2:])
    assert two == one._replace(event="r2", old=one.new, new=(0, 10))
    assert trial.refund(ref, "r1", "order", 10) == here._replace(status="duplicate", credited=0)
    assert trial.refund(ref, "r3", "order", 11).status == "left"
    assert trial.feed(named_, 1, event="r4").status == ("late" if named_.entry else "unknown")
    everything = [*before[:-2], *trial.log()]
    assert slow_sums(everything, trial.experiment)[2][1][SALE] == [10 * 4096, 10 * 77]
    assert trial.feed(newer, 5, event="order").status == "accepted"


@pytest.mark.parametrize("how", ["entry", "caller", "user"])
def test_without_refunds_the_window_ends_them(store: Store, name: str, how: str) -> None:
    """Within it they need no setting; afterwards `late`, as feedback is."""
    trial = Trial(store, name)
    decision, ref_of = named(trial, how)
    logged = trial.send(decision)[0]
    assert isinstance(logged, Logged)
    trial.feed(trial.ref(decision, logged), 30, event="order")
    assert trial.refund(ref_of(logged), "r1", "order", 10).status == "accepted"
    past(store, logged.position.ms + LIFE + 1)
    assert trial.refund(ref_of(logged), "r2", "order", 10).status == "late"
    assert trial.refund(ref_of(logged), "r1", "order", 10).status == "duplicate"


def test_an_id_used_again_means_the_last_decision_that_earned_something(store: Store, name: str) -> None:
    """Once the id is free again: the older one, until the newer is rewarded, also where that is without `refunds`."""
    trial, ref = Trial(store, name, grace_ms=0, refunds="1h"), Ref(caller=b"c")
    first = trial.send(decision := trial.decision(0, caller="c", window_ms=LIFE), trial.reward(ref, 30, event="old"))[0]
    assert isinstance(first, Logged)
    past(store, first.position.ms + LIFE + 1)
    newer = trial.send(decision._replace(window_ms=LIFE))[0]
    assert isinstance(newer, Logged)
    assert newer.position > first.position
    assert trial.refund(ref, "r1", "old", 10).position == first.position
    trial.change(refunds=0.001)
    trial.feed(ref, 20, event="new")
    assert trial.refund(ref, "r2", "new", 10).position == newer.position
    assert trial.refund(ref, "r3", "old", 10).status == "event"


def test_refunds_end_at_their_last_moment_and_are_forgotten_a_grace_later() -> None:
    """By a clock set by hand: a window of 10 s, refunds for 100 s, a grace of 3 s; later they are unknown events."""
    now = [1e6]
    trial = Trial(MemoryStore(lambda: now[0]), "clock", grace_ms=3_000, refunds=100)
    ref = trial.decide(user="u", window_ms=10_000)
    trial.feed(ref, 30, event="order")
    for after, status in ((110, "accepted"), (110.001, "late"), (113, "late"), (113.001, "event")):
        now[0] = 1e6 + after
        assert trial.refund(ref, f"r{after}", "order", 1).status == ("late" if status == "event" else status)
        assert trial.refund(user("u"), f"u{after}", "order", 1).status == status


def test_a_decision_is_kept_as_long_in_a_real_store(url: str, name: str) -> None:
    """State, event and caller's name expire when window, refunds and grace are over; a longer setting keeps longer."""
    store = RedisStore(url)
    trial = Trial(store, name, grace_ms=7_000, refunds=50)
    raw, prefix = redis.Redis.from_url(url), Keys.of(name).prefix
    trial.decide(caller="c", user="u", window_ms=10_000)
    trial.feed(Ref(caller=b"c"), 1, event="e1")
    entry = trial.log()[-2].position
    keys = [f"{prefix}:d:{entry.ms}-{entry.seq}", f"{prefix}:r:c"]
    assert {raw.pexpiretime(key) for key in keys} == {entry.ms + 67_001}
    trial.change(refunds=10)
    trial.feed(Ref(caller=b"c"), 1, event="e2")
    assert {raw.pexpiretime(key) for key in keys} == {entry.ms + 67_001}
    trial.change(refunds="1h")
    trial.feed(Ref(caller=b"c"), 1, event="e3")
    assert {raw.pexpiretime(key) for key in keys} == {entry.ms + 3_617_001}
    assert raw.pexpiretime(f"{prefix}:i:c") == entry.ms + 17_000
    (event,) = raw.keys(f"{prefix}:e:*:e3")
    # the script looks at the clock a moment before its entry has its time
    assert 0 <= trial.log()[-1].position.ms + 3_617_000 - raw.pexpiretime(event) < 1000
    store.close()


def test_an_event_credited_before_amounts_were_kept_is_refused(url: str, name: str) -> None:
    """As the state was written before: a mark in the place of the amount. Others of the same decision go on."""
    store = RedisStore(url)
    trial, raw = Trial(store, name, refunds="30d", rewards=CLIPPED), redis.Redis.from_url(url)
    ref = trial.decide()
    trial.feed(ref, 450, 0, "old")
    key = f"{Keys.of(name).prefix}:d:{ref.entry.decode()}"
    raw.hset(key, "e:0:0:old", "1")
    assert told(trial.refund(ref, "r", "old", 1, 0)) == ("amount", 0)
    assert told(trial.feed(ref, 100, 0, "new")) == ("accepted", 50)
    assert told(trial.refund(ref, "r", "new", 0, 0)) == ("accepted", -50)
    store.close()


def test_beyond_the_range_the_total_is_kept(store: Store, name: str) -> None:
    """400 + 200 is credited as 500; less 150 it is 450, less the rest of that event 400."""
    trial = Trial(store, name, rewards=CLIPPED)
    ref = trial.decide()
    credited = [trial.feed(ref, credit, 0, event) for event, credit in (("a", 400), ("b", 200))]
    assert [(each.credited, each.clipped) for each in credited] == [(400, False), (100, True)]
    judged = [
        trial.refund(ref, "r1", "b", 50, 0),
        trial.refund(ref, "r2", "b", 100, 0),
        trial.refund(ref, "r3", "b", 0, 0),
    ]
    assert [(each.credited, each.clipped) for each in judged] == [(0, True), (-50, False), (-50, False)]


def test_a_refund_is_never_out_of_range(store: Store, name: str) -> None:
    """Of 50 and -60 the range [-20, 100] leaves nothing to refuse: the money has gone back."""
    trial = Trial(store, name, rewards={"sale": {"range": [-20, 100], "unit": 1}})
    ref = trial.decide()
    trial.feed(ref, 50, 0, "a")
    trial.feed(ref, -60, 0, "fee")
    assert told(trial.refund(ref, "r", "a", 0, 0)) == ("accepted", -10)
    assert told(trial.feed(ref, 30, 0, "b")) == ("range", 0)
    assert told(trial.feed(ref, 60, 0, "b")) == ("accepted", 20)


def test_a_refund_activates_nothing(store: Store, name: str) -> None:
    """Before an explicit activation it is kept as feedback is, and both count from then on."""
    trial = Trial(store, name, refunds="30d", activation="explicit")
    ref = trial.decide(deferred=True)
    trial.feed(ref, 30, event="order")
    assert trial.refund(ref, "r1", "order", 10).status == "accepted"
    trial.change(activation="on_decision")
    assert trial.refund(ref, "r2", "order", 5).status == "accepted"
    assert trial.slow()[0][3] == 0
    assert trial.activate(ref) == "activated"
    trial.refund(ref, "r3", "order", 1)
    assert trial.slow()[0][1][SALE][0] == 14 * 4096


def test_a_decision_of_a_thousand_events_still_takes_refunds(trial: Trial) -> None:
    """Its state stays bounded, and the money can go back."""
    ref = trial.decide()
    trial.feed(ref, 5, event="order")
    trial.send(*(trial.reward(ref, 0, event=f"e{i}") for i in range(EVENTS_MAX - 1)))
    assert trial.send(trial.reward(ref, 0, event="one-more"))[0].status == "events"
    assert [trial.refund(ref, f"r{i}", "order", 1).status for i in range(5)] == ["accepted"] * 5


def test_refunds_of_another_generation_are_late(trial: Trial) -> None:
    """What they were of has been forgotten; by user there is no such event."""
    ref = trial.decide(user="u")
    trial.feed(ref, 5, event="order")
    trial.change(reset=True)
    assert trial.refund(ref, "r", "order").status == "late"
    assert trial.refund(user("u"), "r", "order").status == "event"


# any sequence


class Sale(NamedTuple):
    """An event, or a refund of one, that names a decision by number or the user."""

    target: int | None
    event: str
    credit: int
    of: str = ""


names, targets = st.sampled_from(["a", "b", "c"]), st.sampled_from([None, None, 0, 1, 2, 3])
sale = st.builds(Sale, targets, names, st.integers(-4, 12))
back = st.builds(Sale, targets, st.sampled_from(["r", "s", "t", "a"]), st.integers(0, 9), st.sampled_from([*"aaabbcr"]))
step = st.one_of(sale, sale, back, back, back, st.just("decide"), st.just("trim"))


class Oracle:
    """What refunds mean, in dictionaries: for each decision what is left of each event, and what all come to."""

    def __init__(self, low: int, high: int, clip: bool) -> None:
        self.low, self.high, self.clip = low, high, clip
        self.left: list[dict[str, int]] = []
        self.total: list[int] = []
        self.first: dict[str, int] = {}  # the decision that an event of the user's was first credited to
        self.open = 0  # the first decision that the log has
        self.given = self.taken = 0

    def value(self, number: int) -> int:
        """What is credited to a decision."""
        return max(self.low, min(self.high, self.total[number]))

    def judge(self, sale: Sale) -> tuple[str, int, int | None]:
        """(status, credited, which decision)."""
        number = sale.target
        if number is None and sale.of:
            number = self.first.get(sale.of)
        elif number is None and sale.event in self.first:
            return "duplicate", 0, self.first[sale.event]
        elif number is None:
            number = len(self.left) - 1 if len(self.left) > self.open else None
            if number is None:
                return "unknown", 0, None
        if number is None:
            return "event", 0, None
        if number >= len(self.left):
            return "unknown", 0, None
        return self.on(number, sale)

    def on(self, number: int, sale: Sale) -> tuple[str, int, int | None]:
        """The same, of one decision."""
        left, before = self.left[number], self.value(number)
        if number < self.open and (not sale.of or not left):  # nothing was kept of it
            return "late", 0, number
        if sale.event in left:
            return "duplicate", 0, number
        change = sale.credit
        if sale.of:
            if sale.of not in left:
                return "event", 0, number
            change = -(sale.credit or left[sale.of])
            if not 0 < -change <= left[sale.of]:
                return "left", 0, number
            left[sale.of] += change
            self.taken -= change
        elif not self.low <= self.total[number] + change <= self.high and not self.clip:
            return "range", 0, number
        else:
            self.first.setdefault(sale.event, number)
            self.given += change
        left[sale.event] = 0 if sale.of else change
        self.total[number] += change
        return "accepted", self.value(number) - before, number


def folded(trial: Trial, entries: list[Any]) -> Sums:
    """The sums of these entries, as a server folds them."""
    K, m, d = trial.experiment.shape
    sums = Sums.zeros(K, m, d)
    sums.add(*increments(read_events(entries, trial.config.generation, trial.experiment.defaults, m, d).events))
    return sums


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, min_size=4, max_size=30), over=st.sampled_from(["clip", "refuse"]))
def test_any_sequence_of_events_and_refunds_is_judged_as_by_a_slow_oracle(
    store: Store, steps: list[Sale | str], over: str
) -> None:
    """Each answer; no refund takes more than was given; and the log, trimmed parts included, folds to what was told."""
    kinds = {"click": {}, "sale": {"range": [-5, 20], "unit": 1, "over_range": over}}
    trial, oracle = Trial(store, "r" + uuid4().hex, rewards=kinds, refunds="1d"), Oracle(-5, 20, over == "clip")
    gone: list[Any] = []
    refs: list[Ref] = []
    for each in ["decide", *steps]:
        if each == "decide" and len(refs) < 4:
            decision = trial.decision(len(refs), user="u", x=(4096, 50 - len(refs)))
            refs.append(trial.ref(decision, trial.send(decision)[0]))
            oracle.left.append({})
            oracle.total.append(0)
        elif each == "trim" and len(entries := trial.log()) > 1:
            gone += entries[:-1]
            trial.trim(entries[-1].position)
            oracle.open = len(refs) - (entries[-1].tag == b"d")
        elif isinstance(each, Sale):
            named_ = each.target is None or each.target >= len(refs)
            ref = user("u") if each.target is None else Ref(caller=b"nobody") if named_ else refs[each.target]
            (found,) = trial.send(trial.reward(ref, each.credit, SALE, each.event, of=each.of))
            assert isinstance(found, Outcome)
            status, credited, number = oracle.judge(each)
            assert (found.status, found.credited) == (status, credited), each
            assert number is None or found.position == at(refs[number])
    everything = [*gone, *trial.log()]
    seen = slow_sums(everything, trial.experiment)
    assert exact(folded(trial, everything)) == seen
    assert [seen[arm][1][SALE][0] // 4096 for arm in range(len(refs))] == [oracle.value(i) for i in range(len(refs))]
    assert all(left >= 0 for each in oracle.left for event, left in each.items() if event in "rst")
    assert sum(oracle.total) == oracle.given - oracle.taken
    assert oracle.taken <= sum(max(0, unpack_feedback(e.record).value) for e in everything if e.tag == b"f")
    assert np.all(folded(trial, everything).n[: len(refs)] == 1)
