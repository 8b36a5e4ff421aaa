"""What every store promises, stated once and held over each: memory, Valkey, Redis."""

import msgspec
import pytest
from trial import CLICK, FULL, HOUR, SALE, Trial, at, past, slow_sums, user

from bandit.core.revision import first
from bandit.log.records import START, Position, unpack_activation, unpack_feedback
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import EVENTS_MAX, USER_MAX, Decide, Gap, Lease, Logged, Outcome, Ref, Row, Stale, Store

SHORT = 40  # ms: a window that passes while one waits; what must happen within it goes along in the decision's batch


@pytest.fixture
def trial(store: Store, name: str) -> Trial:
    """An experiment of two kinds, click and sale."""
    return Trial(store, name)


def statuses(results: object) -> list[str]:
    """What became of each of some feedback."""
    assert isinstance(results, list)
    return [result.status for result in results]


# appending


def test_a_repeated_number_gets_its_first_answer_and_writes_nothing(trial: Trial) -> None:
    """The same bytes again, as after a lost reply: the same answer, and the log is as long as before."""
    ref = trial.decide()
    batch = trial.batch(trial.decision(caller="c"), trial.reward(ref, 5), trial.reward(Ref(caller=b"none"), 5))
    first_answer = trial.store.append(trial.name, batch)
    length = len(trial.log())
    assert [trial.store.append(trial.name, batch) for _ in range(3)] == [first_answer] * 3
    assert len(trial.log()) == length
    trial.sequence += 1
    assert trial.feed(ref, 5, event="other").credited == 5


def test_a_repeated_number_is_answered_even_when_the_experiment_has_changed_since(trial: Trial) -> None:
    """What was written stays answered: a change between a lost reply and its repetition must not write it twice."""
    batch = trial.batch(trial.decision())
    answer = trial.store.append(trial.name, batch)
    trial.change(reset=True)
    assert trial.store.append(trial.name, batch) == answer
    assert trial.tags() == "d"


@pytest.mark.parametrize("skipped", [3, 7])
def test_a_skipped_number_is_a_gap_and_writes_nothing(trial: Trial, skipped: int) -> None:
    """A producer whose acknowledged writes have vanished hears the last number that the store knows."""
    trial.send(trial.decision())
    assert trial.store.append(trial.name, trial.batch(trial.decision(), sequence=skipped)) == Gap(1)
    assert trial.store.append("nobody-" + trial.name, trial.batch(trial.decision(), sequence=skipped)) == Gap(0)
    assert trial.tags() == "d"


def test_a_number_before_the_last_is_a_gap_too(trial: Trial) -> None:
    """Only the last reply is kept: an older number cannot be answered, and must not be written again."""
    old = trial.batch(trial.decision())
    for _ in range(3):
        trial.send(trial.decision())
    assert trial.store.append(trial.name, old) == Gap(3)
    assert trial.tags() == "ddd"


def test_producers_have_numbers_of_their_own(trial: Trial) -> None:
    """Two servers that both write number 1 both write."""
    one, other = trial.batch(trial.decision()), trial.batch(trial.decision())._replace(producer="other")
    assert trial.store.append(trial.name, one) != trial.store.append(trial.name, other)
    assert trial.tags() == "dd"


def test_a_stale_schema_writes_nothing_and_leaves_the_number_unused(trial: Trial) -> None:
    """A server that has not heard of a new kind is refused whole, and uses the same number once it has."""
    old = trial.experiment
    trial.send(trial.decision())
    trial.change(rewards={**msgspec.to_builtins(trial.config.document.rewards), "return": {}})
    stale = trial.batch(trial.decision(experiment=old), experiment=old)
    assert trial.store.append(trial.name, stale) == Stale()
    assert trial.tags() == "d"
    assert trial.store.append(trial.name, trial.batch(trial.decision())) == [Logged(trial.log()[-1].position)]
    assert trial.tags() == "dd"


def test_a_deleted_experiment_takes_nothing(trial: Trial) -> None:
    """Its schema is the same, but nothing is written any more."""
    trial.delete()
    assert trial.store.append(trial.name, trial.batch(trial.decision())) == Stale()
    assert trial.tags() == ""


def test_an_experiment_that_never_was_takes_nothing(trial: Trial, name: str) -> None:
    """Without a config there is no schema to be up to date with."""
    assert trial.store.append(f"{name}-other", trial.batch(trial.decision())) == Stale()


def test_a_record_that_does_not_fit_is_refused_alone(trial: Trial) -> None:
    """Of other kinds, another generation, cut short or with another caller's name: refused; the rest is written."""
    good = trial.decision(caller="good")
    fewer = Trial(trial.store, trial.name + "-fewer", rewards={"click": {}})
    later = Trial(trial.store, trial.name + "-later")
    later.change(reset=True)
    bad = [
        fewer.decision(),
        later.decision(),
        Decide(good.record[:9], b"good", b"", HOUR),
        Decide(good.record[:60], b"good", b"", HOUR),
        Decide(good.record[:90], b"good", b"", HOUR),
        good._replace(caller=b"other"),
    ]
    results = trial.send(*bad, good, trial.reward(Ref(caller=b"other"), 1), trial.reward(Ref(caller=b"good"), 1))
    assert [result.status for result in results if isinstance(result, Outcome)] == ["record"] * 6 + [
        "unknown",
        "accepted",
    ]
    assert trial.tags() == "df"


# names of decisions


def test_a_callers_name_is_one_decision_however_often_it_is_sent(trial: Trial) -> None:
    """The same name again, in the same batch or a later one, is answered with the first record and writes nothing."""
    one, two = trial.decision(1, caller="c"), trial.decision(2, caller="c")
    first_, second = trial.send(one, two)
    (third,) = trial.send(trial.decision(3, caller="c"))
    assert isinstance(first_, Logged)
    assert first_.record == b""
    assert second == third == Logged(first_.position, one.record)
    assert trial.tags() == "d"


def test_another_generation_frees_a_callers_names(trial: Trial) -> None:
    """After a reset the name is a new decision's, and feedback by it goes there."""
    ref = trial.decide(caller="c")
    trial.change(reset=True)
    assert trial.feed(ref, 5).status == "late"
    (again,) = trial.send(decision := trial.decision(2, caller="c"))
    assert isinstance(again, Logged)
    assert again.record == b""
    judged = trial.feed(trial.ref(decision, again), 5)
    assert (judged.status, judged.position) == ("accepted", again.position)


def test_a_servers_id_is_checked_against_its_record(trial: Trial) -> None:
    """A right entry with a wrong nonce, an entry that is no decision, a caller's decision by its entry: unknown."""
    ref, named = trial.decide(), trial.decision(caller="c")
    (logged,) = trial.send(named)
    assert isinstance(logged, Logged)
    feedback = trial.feed(ref, 5)
    changed = trial.log()[0]
    assert changed.tag == b"x"
    entry = trial.log()[-1]
    assert (entry.tag, feedback.status) == (b"f", "accepted")
    forged = [
        Ref(entry=ref.entry, nonce=b"12345678"),
        Ref(entry=ref.entry, nonce=b""),
        Ref(entry=entry.position.text(), nonce=ref.nonce),
        Ref(entry=changed.position.text(), nonce=ref.nonce),
        trial.ref(named._replace(caller=b""), logged),
        Ref(entry=b"%d-0" % (trial.store.now_ms() + HOUR), nonce=ref.nonce),
        Ref(caller=b"nobody"),
    ]
    assert statuses(trial.send(*(trial.reward(each, 5, event="e") for each in forged))) == ["unknown"] * len(forged)
    assert [trial.activate(each) for each in forged] == ["unknown"] * len(forged)
    assert trial.tags() == "ddf"


def test_an_answer_names_the_decision(trial: Trial) -> None:
    """Feedback is answered with the decision's entry and nonce, or its caller's name: what the client knows it by."""
    ref = trial.decide()
    assert trial.feed(ref, 5) == Outcome("accepted", 5, False, at(ref), ref.nonce, b"")
    named = trial.decide(caller="ä/:~ c")
    assert trial.feed(named, 5).caller == "ä/:~ c".encode()


# feedback


def test_last_credits_what_each_value_changes(trial: Trial) -> None:
    """By hand, from the contract: 30, 45, 45, 20 credit 30, 15, 0, -25."""
    trial.change(rewards={"sale": {"range": [-50, 50], "unit": 1, "aggregation": "last"}})
    ref = trial.decide()
    judged = [trial.feed(ref, value, 0) for value in (30, 45, 45, 20)]
    assert [each.credited for each in judged] == [30, 15, 0, -25]
    assert {each.status for each in judged} == {"accepted"}


def test_under_last_an_event_id_guards_against_a_late_retry(trial: Trial) -> None:
    """30 (e1), 45 (e2), and then e1 again: without the guard the old value would stand."""
    trial.change(rewards={"sale": {"range": [-50, 50], "unit": 1, "aggregation": "last"}})
    ref = trial.decide()
    assert trial.feed(ref, 30, 0, "e1").credited == 30
    assert trial.feed(ref, 45, 0, "e2").credited == 15
    assert trial.feed(ref, 30, 0, "e1") == Outcome("duplicate", 0, False, at(ref), ref.nonce)
    assert trial.tags() == "dff"


def test_under_first_only_the_first_counts(trial: Trial) -> None:
    """A second one is a duplicate, with its own event id or not."""
    trial.change(rewards={"sale": {"range": [-50, 50], "unit": 1, "aggregation": "first"}})
    ref = trial.decide()
    assert [(each.status, each.credited) for each in (trial.feed(ref, 7, 0, e) for e in (None, None, "e1", "e2"))] == [
        ("accepted", 7),
        *[("duplicate", 0)] * 3,
    ]


def test_under_sum_events_of_their_own_add_up_and_one_without_counts_once(trial: Trial) -> None:
    """5 + 7 + 9 by own ids, each once; without an id it is the kind's name, so a second one is a duplicate."""
    ref = trial.decide()
    sent = [(5, "e1"), (7, "e2"), (5, "e1"), (9, None), (9, None), (7, "e2")]
    judged = [trial.feed(ref, value, SALE, event) for value, event in sent]
    assert [each.credited for each in judged] == [5, 7, 0, 9, 0, 0]
    assert [each.status for each in judged] == ["accepted"] * 2 + ["duplicate", "accepted"] + ["duplicate"] * 2


def test_event_ids_are_known_per_decision_arm_and_kind(trial: Trial) -> None:
    """The same id on another kind, arm or decision is another event; ids that would run into each other do not."""
    ref, other = trial.decide(0, 1), trial.decide(0, 1)
    for event in ("1", "1:1", ":1", "0:1:1", "n", "g"):
        for decision in (ref, other):
            for arm in (0, 1):
                assert trial.feed(decision, 1, SALE, event, arm).status == "accepted"
                assert trial.feed(decision, 1, SALE, event, arm).status == "duplicate"
                assert trial.feed(decision, 100, CLICK, event, arm).status == "accepted"


@pytest.mark.parametrize("aggregation", ["sum", "first", "last"])
def test_the_first_feedback_takes_the_defaults_place(store: Store, name: str, aggregation: str) -> None:
    """Default -2, then 3: credited 5, whatever the aggregation; under `sum` the next one adds."""
    kind = {"range": [-50, 50], "unit": 1, "default": -2, "aggregation": aggregation}
    trial = Trial(store, name, rewards={"sale": kind})
    ref = trial.decide()
    assert trial.feed(ref, 3, 0, "e1").credited == 5
    assert trial.feed(ref, 4, 0, "e2").credited == {"sum": 4, "first": 0, "last": 1}[aggregation]


def test_a_refused_reward_spends_nothing(trial: Trial) -> None:
    """Its event id may be sent again with a value that fits; nothing of it is in the log."""
    ref = trial.decide()
    assert trial.feed(ref, 51, SALE, "e1").status == "range"
    assert trial.feed(ref, 40, SALE, "e1").credited == 40
    assert [trial.feed(ref, value, SALE, "e2").status for value in (11, -91, 10)] == ["range", "range", "accepted"]
    assert trial.tags() == "dff"


def test_clip_keeps_the_total_within_the_range_and_says_so(store: Store, name: str) -> None:
    """45 + 20 is 65 and credited as 50, then less 200 as -50, and less 1 or more of these 135 is still below."""
    trial = Trial(store, name, rewards={"sale": {"range": [-50, 50], "unit": 1, "over_range": "clip"}})
    ref = trial.decide()
    judged = [trial.feed(ref, value, 0, str(value)) for value in (45, 20, -200, 1, 134)]
    clipped = [(45, False), (5, True), (-100, True), (0, True), (50, False)]
    assert [(each.credited, each.clipped) for each in judged] == clipped
    entries = [unpack_feedback(entry.record) for entry in trial.log() if entry.tag == b"f"]
    assert [(entry.value, entry.old, entry.new) for entry in entries] == [
        (45, (0,), (45,)),
        (20, (45,), (50,)),
        (-200, (50,), (-50,)),
        (1, (-50,), (-50,)),
        (134, (-50,), (0,)),
    ]


def test_a_decision_takes_a_thousand_events(trial: Trial) -> None:
    """1,000 are credited; the next is refused, a duplicate is still one, and other decisions are free."""
    trial.change(rewards={"sale": {"range": [-50, 50], "unit": 0.01}})
    ref, other = trial.decide(), trial.decide()
    many = [trial.reward(ref, 1, 0, str(i)) for i in range(EVENTS_MAX)]
    assert EVENTS_MAX == 1000
    assert set(statuses(trial.send(*many))) == {"accepted"}
    assert trial.feed(ref, 1, 0, "one more").status == "events"
    assert trial.feed(ref, 1, 0, "7").status == "duplicate"
    assert trial.feed(other, 1, 0, "one more").status == "accepted"


def test_a_list_needs_its_arm_named_and_only_arms_that_it_showed(trial: Trial) -> None:
    """Refused feedback spends nothing; each arm has credits and events of its own."""
    ref = trial.decide(2, 0)
    assert trial.feed(ref, 5).status == "arm"
    assert trial.feed(ref, 5, arm=1).status == "shown"
    assert trial.feed(ref, 5, arm=0).credited == 5
    assert trial.feed(ref, 50, arm=2).credited == 50
    alone = trial.decide(3)
    assert (trial.feed(alone, 5, arm=2).status, trial.feed(alone, 5, arm=3).status) == ("shown", "accepted")


def test_an_arm_was_shown_only_where_a_place_has_it(store: Store, name: str) -> None:
    """Its bytes are all over a record of round probabilities, and between two arms: 0 and 65536 were not shown."""
    trial = Trial(store, name, arms=[f"a{i}" for i in range(512)])
    listed = [256 + 2 * i for i in range(100)]
    ref = trial.decide(*listed)
    sent = [trial.reward(ref, 1, arm=arm) for arm in range(512)]
    sent += [trial.reward(ref, 1, arm=arm) for arm in (1 << 16, 1 << 24, 257 << 8)]
    shown = [i for i, status in enumerate(statuses(trial.send(*sent))) if status == "accepted"]
    assert shown == listed


def test_feedback_of_another_generation_is_late(trial: Trial) -> None:
    """Also where it would be a duplicate: that generation's credits count as absent."""
    ref = trial.decide()
    trial.feed(ref, 5, event="e")
    trial.change(reset=True)
    assert [trial.feed(ref, 5, event=event).status for event in ("e", "f")] == ["late", "late"]
    assert trial.tags() == "df"


def test_a_kind_added_later_starts_at_zero_for_older_decisions(trial: Trial) -> None:
    """Not at its default: an impression was never credited with it. Its first feedback is credited whole."""
    old, untouched = trial.decide(), trial.decide()
    trial.feed(old, 5)
    rewards = msgspec.to_builtins(trial.config.document.rewards)
    trial.change(rewards={**rewards, "visit": {"range": [-9, 9], "unit": 1, "default": -3}})
    new = trial.decide()
    assert trial.feed(old, 2, 2).credited == 2
    assert trial.feed(untouched, 2, 2).credited == 2
    assert trial.feed(new, 2, 2).credited == 5
    records = [unpack_feedback(entry.record) for entry in trial.log() if entry.tag == b"f"]
    assert [(each.old, each.new) for each in records] == [
        ((0, 0), (0, 5)),
        ((0, 5, 0), (0, 5, 2)),
        ((0, 0, 0), (0, 0, 2)),
        ((0, 0, -3), (0, 0, 2)),
    ]


def test_a_feedback_entry_says_all_of_its_decision(trial: Trial) -> None:
    """Entry, nonce, arm, x, kind, value, event id and the whole credits before and after: a fold reads nothing else."""
    ref = trial.decide(3, x=(4096, -7))
    trial.feed(ref, FULL // 2, CLICK, "e")
    trial.feed(ref, 9, SALE, "é")
    found = unpack_feedback(trial.log()[-1].record)
    assert found.decision == at(ref)
    assert (found.nonce, found.arm, found.kind, found.value) == (ref.nonce, 3, SALE, 9)
    assert (found.event, found.old, found.new) == ("é", (FULL // 2, 0), (FULL // 2, 9))
    assert found.x == (4096).to_bytes(2, "little") + (-7).to_bytes(2, "little", signed=True)


# time


def test_duplicate_is_judged_before_late(trial: Trial) -> None:
    """After the window a known event is a duplicate, an unknown one late; nothing more is credited."""
    decision = trial.decision(caller="c", window_ms=SHORT)
    ref = Ref(caller=b"c")
    logged, accepted = trial.send(decision, trial.reward(ref, 5, event="e"))
    assert isinstance(logged, Logged)
    assert statuses([accepted]) == ["accepted"]
    past(trial.store, logged.position.ms + SHORT)
    assert [trial.feed(ref, 5, event=event).status for event in ("e", "f")] == ["duplicate", "late"]
    assert trial.tags() == "df"


def test_the_deadline_is_fixed_at_the_decision(trial: Trial) -> None:
    """A longer window afterwards does not bring back what has passed; a shorter one takes nothing away."""
    short, long = trial.decide(window_ms=SHORT), trial.decide(window_ms=HOUR)
    trial.change(reward_window=3600)
    past(trial.store, at(short).ms + SHORT)
    assert trial.feed(short, 5).status == "late"
    trial.change(reward_window=0.001)
    assert trial.feed(long, 5).status == "accepted"


def test_a_refusal_after_the_deadline_is_late_whatever_its_value(trial: Trial) -> None:
    """Late is judged before the range."""
    ref = trial.decide(window_ms=1)
    past(trial.store, at(ref).ms + 1)
    assert trial.feed(ref, 51).status == "late"


def test_after_the_grace_period_a_callers_decision_is_unknown_and_a_servers_late(store: Store, name: str) -> None:
    """The caller's name is free again, and what was credited is forgotten: late, no longer a duplicate."""
    trial = Trial(store, name, grace_ms=0)
    ref = Ref(caller=b"c")
    named, mine = trial.decision(caller="c", window_ms=SHORT), trial.decision(user="u", window_ms=SHORT)
    logged, other, *judged = trial.send(
        named, mine, trial.reward(ref, 5, event="e"), trial.reward(user("u"), 5, event="e")
    )
    assert isinstance(other, Logged)
    assert statuses(judged) == ["accepted"] * 2
    past(store, store.now_ms() + SHORT + 1)  # a user's event is known for a window from its own time on
    assert trial.feed(ref, 5, event="e").status == "unknown"
    assert trial.feed(trial.ref(mine, other), 5, event="e").status == "late"
    assert trial.feed(user("u"), 5, event="e").status == "unknown"
    (again,) = trial.send(trial.decision(caller="c"))
    assert isinstance(again, Logged)
    assert again.record == b""
    assert again != logged


def test_what_is_older_than_the_log_is_late(trial: Trial) -> None:
    """A trimmed decision's id is answered `late`, as nothing can be checked; a caller's name is unknown."""
    ref, named = trial.decide(), trial.decide(caller="c")
    trial.decide()
    token, cut = trial.lease(), trial.log()[-1].position
    assert trial.store.write_rows(trial.name, "sums", token, [], cut)
    assert trial.store.write_rows(trial.name, "base", token, [], trial.log()[-2].position)
    assert trial.store.trim(trial.name, token, cut, b"")
    assert trial.feed(ref, 5) == Outcome("late", 0, False, at(ref), ref.nonce)
    assert trial.activate(ref) == "late"
    assert trial.feed(named, 5).status == "unknown"
    (logged,) = trial.send(trial.decision(caller="c"))
    assert isinstance(logged, Logged)
    assert logged.record == b""


def test_a_clock_that_is_set_back_opens_no_window_again() -> None:
    """Now is never before the last entry: windows are judged by the log where the clock says less."""
    now = [1e9]
    trial = Trial(MemoryStore(lambda: now[0]), "clock")
    ref = trial.decide(window_ms=HOUR)
    now[0] += 2 * HOUR / 1000
    later = trial.decide()
    now[0] -= 2 * HOUR / 1000
    assert trial.feed(ref, 5).status == "late"
    assert trial.feed(later, 5).status == "accepted"
    assert trial.log()[-1].position == Position(at(later).ms, at(later).seq + 1)


# activation


def test_a_deferred_decision_is_activated_once(trial: Trial) -> None:
    """Nothing folds before; then it is an impression. A second activation, or one of a shown decision: duplicate."""
    ref, shown = trial.decide(deferred=True), trial.decide()
    assert trial.slow()[0][3] == 1
    assert [trial.activate(each) for each in (ref, ref, shown)] == ["activated", "duplicate", "duplicate"]
    assert trial.slow()[0][3] == 2
    assert trial.tags() == "dda"


def test_feedback_activates_with_two_entries_in_one_step(trial: Trial) -> None:
    """Activation first, so that every prefix of the log is a true story; the credits before are the impression's."""
    ref = trial.decide(deferred=True)
    assert trial.feed(ref, 5).credited == 5
    assert trial.tags() == "daf"
    activation, feedback = trial.log()[-2:]
    assert unpack_activation(activation.record).credits == ((0, 0),)
    assert unpack_feedback(feedback.record).old == (0, 0)
    assert trial.activate(ref) == "duplicate"
    assert trial.feed(ref, 5, event="e2").credited == 5
    assert trial.tags() == "daff"


def test_refused_feedback_activates_nothing(trial: Trial) -> None:
    """Out of range, without an arm or with one that was not shown."""
    ref, several = trial.decide(deferred=True), trial.decide(0, 1, deferred=True)
    sent = [trial.reward(ref, 51), trial.reward(several, 1), trial.reward(several, 1, arm=2)]
    assert statuses(trial.send(*sent)) == ["range", "arm", "shown"]
    assert trial.tags() == "dd"


def test_explicit_activation_keeps_feedback_and_credits_it_on_activation(store: Store, name: str) -> None:
    """Before: nothing in the sums. Then: the impression with the credits so far, and later feedback at once."""
    trial = Trial(store, name, activation="explicit")
    ref = trial.decide(2, deferred=True, x=(4096, 2))
    assert trial.feed(ref, 5).credited == 5
    assert trial.feed(ref, 6, event="e2").credited == 6
    assert trial.feed(ref, 6, event="e2").status == "duplicate"
    assert trial.slow()[2] == ([[0, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]], 0)
    assert trial.activate(ref) == "activated"
    assert trial.slow()[2][1][SALE] == [11 * 4096, 22]
    assert trial.feed(ref, -1, event="e3").credited == -1
    assert trial.slow()[2] == ([[4096**2, 8192], [8192, 4]], [[0, 0], [10 * 4096, 20]], [[0, 0], [0, 100]], 1)
    assert trial.tags() == "dffaf"


def test_the_activation_of_a_list_adds_every_arm_with_its_own_credits(store: Store, name: str) -> None:
    """Explicit, and by feedback on one of the arms."""
    trial = Trial(store, name, activation="explicit")
    ref = trial.decide(3, 1, 0, deferred=True)
    trial.feed(ref, 7, arm=1)
    trial.activate(ref)
    activation = unpack_activation(trial.log()[-1].record)
    assert (activation.arms, activation.credits) == ((3, 1, 0), ((0, 0), (0, 7), (0, 0)))
    trial.change(activation="on_decision")
    other = trial.decide(2, 3, deferred=True)
    trial.feed(other, 9, arm=3)
    seen = trial.slow()
    assert [seen[arm][3] for arm in range(4)] == [1, 1, 1, 2]
    assert [seen[arm][1][SALE][0] // 4096 for arm in range(4)] == [0, 7, 0, 9]


def test_an_activation_after_the_window_is_late(trial: Trial) -> None:
    """And writes nothing, as does one of another generation."""
    ref = trial.decide(deferred=True, window_ms=1)
    past(trial.store, at(ref).ms + 1)
    assert trial.activate(ref) == "late"
    other = trial.decide(deferred=True)
    trial.change(reset=True)
    assert trial.activate(other) == "late"
    assert trial.tags() == "dd"


# by user


def by_user(trial: Trial, credit: int, event: str | None = None, arm: int = -1) -> list[tuple[str, Position]]:
    """What feedback by user "u" was answered: status and decision of each judgement."""
    (found,) = trial.send(trial.reward(user("u"), credit, SALE, event, arm))
    judged = found if isinstance(found, list) else [found]
    return [(each.status, each.position) for each in judged if isinstance(each, Outcome)]


@pytest.mark.parametrize(("attribution", "chosen"), [("last", [2]), ("first", [0]), ("all", [2, 1, 0])])
def test_feedback_by_user_goes_by_the_attribution(store: Store, name: str, attribution: str, chosen: list[int]) -> None:
    """To the last of the user's decisions, the first, or all of them; never to another user's."""
    trial = Trial(store, name, attribution=attribution)
    refs = [trial.decide(arm, user="u") for arm in (0, 1, 2)]
    trial.decide(3, user="v")
    assert by_user(trial, 5) == [("accepted", at(refs[i])) for i in chosen]
    assert by_user(trial, 5) == [("duplicate", at(refs[i])) for i in chosen]
    (nobody,) = trial.send(trial.reward(user("nobody"), 5))
    assert nobody == Outcome("unknown")


@pytest.mark.parametrize("attribution", ["last", "first", "all"])
def test_only_decisions_within_the_window_that_were_shown_count(store: Store, name: str, attribution: str) -> None:
    """Not one past its window, one still deferred, one of another generation, or one without the arm named."""
    trial = Trial(store, name, attribution=attribution)
    trial.decide(1, user="u")
    trial.change(reset=True)
    old = trial.decide(1, user="u", window_ms=1)
    past(store, at(old).ms + 1)
    right = trial.decide(1, 2, user="u")
    trial.decide(3, user="u")
    waiting = trial.decide(1, user="u", deferred=True)
    assert by_user(trial, 5, arm=1) == [("accepted", at(right))]
    trial.activate(waiting)
    newest_first = {"last": [waiting], "first": [right], "all": [waiting, right]}[attribution]
    assert by_user(trial, 5, "e", arm=1) == [("accepted", at(ref)) for ref in newest_first]


@pytest.mark.parametrize("attribution", ["last", "first", "all"])
def test_a_retry_after_a_newer_decision_is_a_duplicate(store: Store, name: str, attribution: str) -> None:
    """A warehouse sends an order twice: the second time is a repeat, though the user has come back since."""
    trial = Trial(store, name, attribution=attribution)
    old = trial.decide(0, user="u")
    assert by_user(trial, 5, "order-1") == [("accepted", at(old))]
    new = trial.decide(1, user="u")
    assert by_user(trial, 5, "order-1") == [("duplicate", at(old))]
    fresh = {"last": [new], "first": [old], "all": [new, old]}[attribution]
    assert by_user(trial, 5, "order-2") == [("accepted", at(ref)) for ref in fresh]


@pytest.mark.parametrize("attribution", ["last", "first", "all"])
def test_a_retry_after_the_window_is_a_duplicate_too(store: Store, name: str, attribution: str) -> None:
    """Duplicate is judged before late: the order is known, so a newer decision does not get it a second time."""
    trial = Trial(store, name, attribution=attribution)
    decision = trial.decision(0, user="u", window_ms=SHORT)
    logged, judged = trial.send(decision, trial.reward(user("u"), 5, event="order-1"))
    assert isinstance(logged, Logged)
    assert statuses(judged if isinstance(judged, list) else [judged]) == ["accepted"]
    past(store, logged.position.ms + SHORT)
    trial.decide(1, user="u")
    assert by_user(trial, 5, "order-1") == [("duplicate", logged.position)]
    assert trial.tags() == "dfd"


def test_an_event_without_an_id_of_its_own_is_no_retry_elsewhere(trial: Trial) -> None:
    """A second visit's click by user is a click: only an event id says that it is the same one."""
    trial.decide(0, user="u")
    assert by_user(trial, 5)[0][0] == "accepted"
    new = trial.decide(1, user="u")
    assert by_user(trial, 5) == [("accepted", at(new))]


def test_a_users_list_needs_its_arm_named(trial: Trial) -> None:
    """By user as by id; naming it, the retry is a duplicate, and from then on without: the order is known."""
    ref = trial.decide(1, 2, user="u")
    assert by_user(trial, 5, "e") == [("arm", at(ref))]
    assert by_user(trial, 5, "e", arm=1) == [("accepted", at(ref))]
    assert by_user(trial, 5, "e", arm=1) == [("duplicate", at(ref))]
    assert by_user(trial, 5, "e") == [("duplicate", at(ref))]
    assert by_user(trial, 5, "f") == [("arm", at(ref))]


def test_a_users_decisions_are_kept_within_bounds(store: Store, name: str) -> None:
    """The last 100: the first of them has moved on by one after 101."""
    trial = Trial(store, name, attribution="first")
    results = trial.send(*(trial.decision(user="u") for _ in range(USER_MAX + 1)))
    assert USER_MAX == 100
    assert isinstance(results[1], Logged)
    assert by_user(trial, 5) == [("accepted", results[1].position)]


# the experiment


def test_a_change_is_stored_only_over_the_version_that_it_was_made_from(trial: Trial) -> None:
    """Two that change the same version: one is told no, and nothing of it is logged."""
    before = trial.store.config(trial.name)
    assert before is not None
    trial.change(reward_window="1h")
    other = msgspec.structs.replace(before.config, version=before.config.version + 1)
    assert trial.store.put(other, before) is None
    assert trial.store.put(other, None) is None
    stored = trial.store.config(trial.name)
    assert stored is not None
    assert stored.config == trial.config
    assert [entry.tag for entry in trial.log()] == [b"x", b"x"]
    assert stored.updated == trial.log()[-1].position


def test_a_change_is_refused_if_a_decision_was_learned_from_meanwhile(trial: Trial) -> None:
    """A default may change before the first decision only: so `learned` is compared as well as the version."""
    before = trial.store.config(trial.name)
    assert before is not None
    assert not before.learned
    trial.decide()
    changed = msgspec.structs.replace(before.config, version=2)
    assert trial.store.put(changed, before) is None
    now = trial.store.config(trial.name)
    assert now == before._replace(learned=True)
    assert trial.store.put(changed, now) is not None


def test_a_new_generation_has_not_been_learned_from(trial: Trial) -> None:
    """`learned` is of a generation; its identity stays that of the experiment's creation."""
    created = trial.log()[0].position
    trial.decide()
    trial.change(reset=True)
    stored = trial.store.config(trial.name)
    assert stored is not None
    assert (stored.learned, stored.identity) == (False, created)
    trial.decide()
    assert trial.store.config(trial.name) == stored._replace(learned=True)


def test_an_experiment_made_again_is_another_one(trial: Trial) -> None:
    """After a deletion the same name has a new identity, and a generation that starts from zero."""
    trial.decide()
    created = trial.store.config(trial.name)
    trial.delete()
    deleted = trial.store.config(trial.name)
    assert created is not None
    assert deleted is not None
    assert deleted.config.deleted
    again = first(trial.name, deleted.config.document, deleted.config)
    position = trial.store.put(again, deleted)
    stored = trial.store.config(trial.name)
    assert stored is not None
    assert (stored.identity, stored.learned, stored.config.deleted) == (position, False, False)
    assert stored.config.generation == created.config.generation + 1
    assert [entry.tag for entry in trial.log()] == [b"x", b"d", b"x", b"x"]


def test_names_are_known_and_sorted(trial: Trial) -> None:
    """Every experiment that ever was, also a deleted one; no config where there never was one."""
    Trial(trial.store, "a" + trial.name).delete()
    names = trial.store.names()
    assert names == sorted(names)
    assert {trial.name, "a" + trial.name} <= set(names)
    assert trial.store.config("never-" + trial.name) is None


def test_the_secret_is_made_once(store: Store) -> None:
    """The same for whoever asks, and 32 bytes."""
    assert store.secret() == store.secret()
    assert len(store.secret()) == 32


# reading


def test_the_log_is_read_in_order_from_any_position(trial: Trial) -> None:
    """After a position means without it; `end` is the last entry, `has` knows exactly those there are."""
    assert trial.store.end("never-" + trial.name) == START
    assert trial.store.read("never-" + trial.name, START, 10) == []
    trial.send(*(trial.decision() for _ in range(5)))
    entries = trial.log()
    positions = [entry.position for entry in entries]
    assert positions == sorted(set(positions))
    assert trial.store.end(trial.name) == positions[-1]
    assert all(trial.store.at(trial.name, position) for position in positions)
    assert not trial.store.at(trial.name, positions[-1]._replace(seq=positions[-1].seq + 1))
    assert not trial.store.at(trial.name, START)
    for i, position in enumerate([START, *positions]):
        assert trial.store.read(trial.name, position, 3) == entries[i : i + 3]
        assert trial.store.read_back(trial.name, position, 3) == entries[max(0, i - 3) : i][::-1]
    assert trial.store.read_back("never-" + trial.name, positions[-1], 3) == []


def test_the_clock_is_that_of_the_entries(trial: Trial) -> None:
    """An entry written between two looks at the clock has a time between them."""
    before = trial.store.now_ms()
    ref = trial.decide()
    assert before <= at(ref).ms <= trial.store.now_ms()


# lease and tables


def test_one_holder_has_the_lease_and_another_takes_it_only_as_it_was_seen(trial: Trial) -> None:
    """Who saw an older beat is told no: the holder lives."""
    store, name = trial.store, trial.name
    assert store.lease(name) is None
    token = store.take_lease(name, None, b"one")
    assert token is not None
    assert store.take_lease(name, None, b"two") is None
    seen = store.lease(name)
    assert seen == Lease(token, 0)
    assert store.attend({name: token})[name]
    assert store.take_lease(name, seen, b"two") is None
    assert store.lease(name) == Lease(token, 1)
    other = store.take_lease(name, Lease(token, 1), b"two")
    assert other is not None
    assert other != token
    assert store.lease(name) == Lease(other, 0)


def test_every_takeover_has_another_token(trial: Trial) -> None:
    """Also the same holder's: a counter and the holder's own random name."""
    tokens = [trial.lease(holder) for holder in (b"one", b"one", b"two", b"one")]
    assert len(set(tokens)) == 4
    assert all(token.endswith(holder) for token, holder in zip(tokens, (b"one", b"one", b"two", b"one"), strict=True))


def test_a_frozen_holder_that_wakes_is_fenced(trial: Trial) -> None:
    """Its old token beats nothing, writes nothing and trims nothing."""
    trial.decide()
    store, name, end = trial.store, trial.name, trial.store.end(trial.name)
    frozen = trial.lease(b"frozen")
    token = trial.lease(b"other")
    before = trial.log()[-2].position
    assert store.write_rows(name, "sums", token, [], end)
    assert store.write_rows(name, "base", token, [], before)
    assert not store.attend({name: frozen})[name]
    assert not store.write_rows(name, "sums", frozen, [Row(0, end, b"row")], end)
    assert not store.write_rows(name, "base", frozen, [Row(0, end, b"row")], end)
    assert not store.trim(name, frozen, end, b"")
    assert not store.write_rows(name, "sums", b"", [Row(0, end, b"row")], end)
    assert list(store.rows(name, "sums")) == list(store.rows(name, "base")) == []
    assert store.cursor(name, "base") == before
    assert len(trial.log()) == 2
    assert store.attend({name: token})[name]


def test_rows_and_cursors_are_read_as_they_were_written(trial: Trial) -> None:
    """Each table has its own; a row that is written again takes the old one's place."""
    trial.send(trial.decision(), trial.decision())
    store, name, token = trial.store, trial.name, trial.lease()
    one, two, three = (entry.position for entry in trial.log())
    assert store.cursor(name, "sums") == START
    assert store.row(name, "sums", 7) is None
    rows = [Row(7, two, b"\0seven"), Row(0, two, b""), Row(1000, two, b"x" * 3000)]
    assert store.write_rows(name, "sums", token, rows, None)
    assert store.cursor(name, "sums") == START
    assert store.write_rows(name, "sums", token, [Row(7, three, b"later")], two)
    assert store.write_rows(name, "base", token, [Row(1, one, b"base")], one)
    assert sorted(store.rows(name, "sums")) == sorted([*rows[1:], Row(7, three, b"later")])
    assert store.row(name, "sums", 7) == Row(7, three, b"later")
    assert (store.cursor(name, "sums"), store.cursor(name, "base")) == (two, one)
    assert list(store.rows(name, "base")) == [Row(1, one, b"base")]


def test_a_checkpoint_is_refused_unless_the_log_has_its_entry(trial: Trial) -> None:
    """A position that the log never had or no longer has: nothing of the slice is written, the good row neither."""
    trial.decide()
    store, name, token, end = trial.store, trial.name, trial.lease(), trial.store.end(trial.name)
    nowhere = Position(end.ms, end.seq + 1)
    assert not store.write_rows(name, "sums", token, [Row(0, end, b"good"), Row(1, nowhere, b"bad")], end)
    assert not store.write_rows(name, "sums", token, [Row(0, end, b"good")], nowhere)
    assert not store.write_rows(name, "sums", token, [], START)
    assert list(store.rows(name, "sums")) == []
    assert store.cursor(name, "sums") == START


def test_no_position_moves_back(trial: Trial) -> None:
    """Neither a row's nor the cursor's: what an older holder has folded is less than what stands there."""
    trial.decide()
    store, name, token = trial.store, trial.name, trial.lease()
    early, late = (entry.position for entry in trial.log())
    assert store.write_rows(name, "sums", token, [Row(0, late, b"late")], late)
    assert not store.write_rows(name, "sums", token, [Row(1, late, b"new"), Row(0, early, b"early")], None)
    assert not store.write_rows(name, "sums", token, [Row(1, late, b"new")], early)
    assert list(store.rows(name, "sums")) == [Row(0, late, b"late")]
    assert store.cursor(name, "sums") == late
    assert store.write_rows(name, "sums", token, [Row(0, late, b"same")], late)


def test_a_trim_needs_base_and_checkpoints_to_have_passed(trial: Trial) -> None:
    """The base must stand at the last entry before the cut, the checkpoints at the cut or after, and it is an entry."""
    store, name, token = trial.store, trial.name, trial.lease()
    between = at(trial.decide())
    between = between._replace(seq=between.seq + 1)
    past(store, between.ms)
    trial.send(trial.decision(), trial.decision())
    zero, one, two, three = (entry.position for entry in trial.log())
    assert not store.trim(name, token, two, b"config")
    assert store.write_rows(name, "base", token, [], zero)
    assert not store.trim(name, token, one, b"config")
    assert store.write_rows(name, "sums", token, [], one)
    assert not store.trim(name, token, two, b"config")
    assert store.write_rows(name, "base", token, [], one)
    assert not store.trim(name, token, two, b"config")
    assert not store.trim(name, token, one, b"config")
    assert store.write_rows(name, "sums", token, [], three)
    assert not store.trim(name, token, between, b"config")
    assert not store.trim(name, token, zero, b"config")
    assert (len(trial.log()), store.base_config(name)) == (4, b"")
    assert store.trim(name, token, two, b"config")
    assert [entry.position for entry in trial.log()] == [two, three]
    assert store.base_config(name) == b"config"
    assert not store.trim(name, token, two, b"other")
    assert store.write_rows(name, "base", token, [], two)
    assert store.trim(name, token, three, b"")
    assert store.base_config(name) == b"config"
    assert (store.at(name, two), store.end(name)) == (None, three)


def test_the_slow_fold_agrees_with_a_story_worked_out_by_hand(trial: Trial) -> None:
    """The oracle of these tests, checked once on paper: two impressions and a click of one of them."""
    ref = trial.decide(1, x=(4096, 3))
    trial.decide(1, x=(4096, -1))
    trial.feed(ref, 10)
    A, B, R, n = slow_sums(trial.log(), trial.experiment)[1]
    assert (A, n) == ([[2 * 4096**2, 2 * 4096], [2 * 4096, 10]], 2)
    assert (B[SALE], R) == ([40960, 30], [[0, 0], [0, 100]])


def test_memory_is_reserved_for_all_experiments_together(store: Store, name: str) -> None:
    """Who comes too late is refused, whoever asks; what takes no more than before always fits."""
    others, mine = f"{name}-others", f"{name}-mine"
    store.account(dict.fromkeys(store.reserved()))
    assert store.reserve(others, 600, 1000) is None
    assert store.reserve(mine, 500, 1000) == 600
    assert store.reserve(mine, 400, 1000) is None
    assert store.reserve(mine, 401, 1000) == 600
    assert store.reserve(mine, 300, 100) is None
    assert {key: size for key, (size, _) in store.reserved().items()} == {others: 600, mine: 300}
    store.account({others: None, mine: 7})
    assert {key: size for key, (size, _) in store.reserved().items()} == {mine: 7}
    assert abs(store.reserved()[mine][1] - store.now_ms()) < 10_000
