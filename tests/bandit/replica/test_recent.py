"""The newest decisions with what feedback has credited, over every store: against the whole log, read forwards."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from trial import CLICK, DOCUMENT, SALE, Trial, at

import bandit.replica.recent
from bandit.core.experiment import Experiment
from bandit.core.sums import ONE, increments
from bandit.log.events import read_events
from bandit.log.probabilities import pack_probabilities
from bandit.log.records import (
    START,
    Entry,
    Feedback,
    Position,
    pack_decision,
    pack_feedback,
    unpack_decision,
    unpack_feedback,
)
from bandit.replica.recent import Recent, Window, recent
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Ref, Store

ALL = Window(0, 2**60, 1000)


@pytest.fixture
def trial(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """An experiment of two kinds, click and sale; the log is read three entries at a time."""
    monkeypatch.setattr(bandit.replica.recent, "READ", 3)
    return Trial(store, name)


def found(trial: Trial, window: Window = ALL, upto: Position | None = None) -> Recent:
    """The newest decisions, up to the log's end."""
    return recent(trial.store, trial.experiment, upto or trial.store.end(trial.name), window)


def assert_later(rows: Recent, trial: Trial, log: list[Entry]) -> None:
    """It says what this log, read forwards, adds to the sums from the middle decision on."""
    generation, defaults, (_, m, d) = trial.config.generation, trial.experiment.defaults, trial.experiment.shape
    later = [entry for entry in log if len(rows) and entry.position >= rows.at[len(rows) // 2]]
    arms, added = increments(read_events(later, generation, defaults, m, d).events)
    assert rows.arms.tolist() == arms.tolist()
    assert rows.later.digest() == added.digest()


def delay_of(log: list[Entry], rows: Recent, experiment: Experiment, end_ms: int) -> int | None:
    """The age by which 99 % of each kind's rewards had come, as entries from the first decision on say it."""
    last: dict[tuple[Position, int, int], int] = {}
    for entry in log:
        if entry.tag == b"f" and len(rows) and entry.position >= rows.at[0]:
            feedback = unpack_feedback(entry.record)
            old = feedback.decision.ms <= end_ms - experiment.window_ms
            if old and feedback.new != feedback.old and experiment.kinds[feedback.kind].weight:
                last[feedback.decision, feedback.arm, feedback.kind] = entry.position.ms - feedback.decision.ms
    kinds = [sorted(delay for key, delay in last.items() if key[2] == kind) for kind in (CLICK, SALE)]
    return max((each[math.ceil(0.99 * (len(each) - 1))] for each in kinds if each), default=None)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_read_backwards_is_what_the_log_says_forwards(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late, repeated and pending feedback, lists and deferred decisions, windows of any size: rows, sums and delays."""
    monkeypatch.setattr(bandit.replica.recent, "READ", 7)
    monkeypatch.setattr(bandit.replica.recent, "FOLD", 5)
    rng, clock = np.random.default_rng(seed), [1e6]
    kinds = {"click": {"weight": float(seed % 2)}, "sale": {"range": [-50, 50], "unit": 1}}
    how: dict[str, Any] = {"reward_window": "40s", "rewards": kinds, "activation": "explicit"}
    trial = Trial(MemoryStore(lambda: clock[0]), "e", **how)
    refs: list[tuple[Ref, int]] = []
    for i in range(150):
        clock[0] += float(rng.integers(0, 3))
        chance, (ref, arm) = rng.random(), refs[-1 - int(rng.integers(min(len(refs), 9)))] if refs else (Ref(), 0)
        if chance < 0.4 or not refs:
            arms = rng.permutation(4)[: rng.integers(1, 3)].tolist()
            sent = trial.decide(*arms, x=(ONE, i), deferred=bool(rng.random() < 0.3), window_ms=40_000)
            refs.append((sent, arms[-1]))
        elif chance < 0.5:
            trial.activate(ref)
        else:
            trial.feed(ref, int(rng.integers(0, 3)), kind=int(rng.integers(2)), event=str(i % 40), arm=arm)
    end, log = trial.store.end("e"), trial.log()
    for rows in (1, 2, 3, 10, 1000):
        for since, until in ((0, end.ms + 1), (0, end.ms - 30_000), (end.ms - 60_000, end.ms + 1), (0, 1)):
            taken = recent(trial.store, trial.experiment, end, Window(since, until, rows))
            assert len(taken) <= rows
            assert_later(taken, trial, log)
            assert taken.delays.matured_ms() == delay_of(log, taken, trial.experiment, end.ms)


def test_only_the_last_change_of_a_reward_tells_how_long_it_took() -> None:
    """One decision's reward changes 150 times in a second, another's once after 30: it takes 30 seconds, not one."""
    clock = [1e6]
    trial = Trial(MemoryStore(lambda: clock[0]), "e", reward_window="40s")
    often, once = trial.decide(1, window_ms=40_000), trial.decide(2, window_ms=40_000)
    clock[0] += 1
    for i in range(150):
        assert trial.feed(often, (-1) ** i, event=str(i)).status == "accepted"
    clock[0] += 29
    trial.feed(once, 3)
    clock[0] += 20
    trial.decide(0)
    assert found(trial).delays.matured_ms() == 30_000


def test_refunds_do_not_tell_how_long_rewards_take() -> None:
    """One that comes after 30 seconds: the reward had come after one, and is less now."""
    clock = [1e6]
    trial = Trial(MemoryStore(lambda: clock[0]), "e", reward_window="10s", refunds="1h")
    ref = trial.decide(1, window_ms=10_000)
    clock[0] += 1
    trial.feed(ref, 30, event="order")
    clock[0] += 29
    assert trial.refund(ref, "r", "order", 20).status == "accepted"
    trial.decide(0)
    rows = found(trial)
    assert rows.delays.matured_ms() == 1_000
    assert rows.credits[0, SALE] == 10


class Long:
    """A log of many decisions, each with its feedback, made as they are read."""

    def __init__(self, pairs: int, trial: Trial) -> None:
        self.pairs, self.decision = pairs, trial.decision(1).record
        nothing = (0,) * trial.experiment.shape[1]
        read = unpack_decision(self.decision)
        self.feedback = Feedback(0, 1, SALE, START, bytes(8), "", 1, 5, "", nothing, (0, 5), read.x)

    def read_back(self, name: str, upto: Position, count: int) -> list[Entry]:
        """As a store does."""
        first = min(upto.ms, 2 * self.pairs)
        return [self.entry(i) for i in range(first, max(0, first - count), -1)]

    def entry(self, i: int) -> Entry:
        """The decision at odd places, feedback on it next to it."""
        if i % 2:
            return Entry(Position(i, 0), b"d", bytes(bytearray(self.decision)))
        feedback = self.feedback._replace(decision=Position(i - 1, 0))
        return Entry(Position(i, 0), b"f", pack_feedback(feedback, 1))


@pytest.mark.parametrize(("until", "rows"), [(2**60, 50), (200, 50), (1, 50)])
def test_memory_grows_with_the_rows_that_are_asked_for_not_with_the_log(until: int, rows: int) -> None:
    """40,000 entries, of which the newest, the oldest or no decisions count: 7 MB, where keeping all took 18."""
    trial = Trial(MemoryStore(), "e")
    store: Any = Long(20_000, trial)
    tracemalloc.start()
    taken = recent(store, trial.experiment, Position(2**60, 0), Window(0, until, rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(taken) == (rows if until > 1 else 0)
    assert peak < 10e6


def test_decisions_come_in_order_with_their_last_credits(trial: Trial) -> None:
    """Two kinds, several events, one decision without any: the default stands there."""
    refs = [trial.decide(arm, x=(ONE, 10 * arm)) for arm in (0, 2, 1, 0)]
    trial.feed(refs[1], 5)
    trial.feed(refs[0], 7, event="one")
    trial.feed(refs[0], 4, event="two")
    trial.feed(refs[0], 1, kind=CLICK)
    rows = found(trial)
    start = trial.experiment.defaults
    assert [position.text() for position in rows.at] == [ref.entry for ref in refs]
    assert rows.arm.tolist() == [0, 2, 1, 0]
    assert rows.x.tolist() == [[ONE, 0], [ONE, 20], [ONE, 10], [ONE, 0]]
    assert rows.credits[:, SALE].tolist() == [start[SALE] + 11, start[SALE] + 5, start[SALE], start[SALE]]
    assert rows.credits[:, CLICK].tolist() == [start[CLICK] + 1, *[start[CLICK]] * 3]
    assert rows.ms.tolist() == [position.ms for position in rows.at]
    K = trial.experiment.shape[0]
    assert rows.probability.tolist() == [[1 / K] * K] * 4
    assert rows.propensity.tolist() == [1 / K] * 4
    assert rows.eligible.all()
    assert not rows.cut


def test_an_arm_that_could_be_shown_with_probability_0_is_eligible(trial: Trial) -> None:
    """Without exploration the log says 0 of most arms; they could be shown all the same."""
    sent = trial.decision(1)
    read = unpack_decision(sent.record)
    K = trial.experiment.shape[0]
    greedy, eligible = np.zeros(K), np.ones(K, bool)
    greedy[1], eligible[0] = 1.0, False
    tail = pack_probabilities(greedy, eligible)
    record = pack_decision(read.head, read.x, b"", b"", [(1, 1.0, 1.0)], tail)
    trial.send(sent._replace(record=record))
    rows = found(trial)
    assert rows.probability.tolist() == [greedy.tolist()]
    assert rows.eligible.tolist() == [eligible.tolist()]


def test_only_the_newest_are_taken(trial: Trial) -> None:
    """Late feedback on an older decision is in what was learned later; the older decision is not."""
    refs = [trial.decide(arm) for arm in (0, 1, 2)]
    trial.feed(refs[0], 3)
    trial.feed(refs[2], 4)
    log = trial.log()
    rows = found(trial, ALL._replace(rows=2))
    assert rows.cut
    assert rows.arm.tolist() == [1, 2]
    assert rows.delays.matured_ms() is None
    assert_later(rows, trial, log)
    assert not found(trial, ALL._replace(rows=3)).cut


def test_what_follows_the_position_does_not_count(trial: Trial) -> None:
    """A position in the middle: neither later decisions nor later feedback."""
    ref = trial.decide(1)
    trial.feed(ref, 3)
    middle = trial.store.end(trial.name)
    trial.feed(ref, 4, event="later")
    trial.decide(2)
    rows = found(trial, upto=middle)
    assert rows.arm.tolist() == [1]
    assert rows.credits[0, SALE] == trial.experiment.defaults[SALE] + 3
    assert_later(rows, trial, [entry for entry in trial.log() if entry.position <= middle])


def test_the_window_is_in_the_stores_time(trial: Trial) -> None:
    """From `since` on, and before `until`; feedback on those within may come after it."""
    refs = [trial.decide(arm) for arm in (0, 1, 2)]
    trial.feed(refs[1], 5)
    times = [at(ref).ms for ref in refs]
    inside = [arm for arm, ms in enumerate(times) if times[1] <= ms < times[1] + 1]
    rows = found(trial, Window(times[1], times[1] + 1, 10))
    assert rows.arm.tolist() == inside
    assert rows.credits[inside.index(1), SALE] == trial.experiment.defaults[SALE] + 5
    assert len(found(trial, Window(times[2] + 1, 2**60, 10))) == 0
    assert len(found(trial, Window(0, times[0], 10))) == 0


def test_a_deferred_decision_counts_once_activated_with_what_waited(trial: Trial) -> None:
    """Feedback before the activation is credited with it, later feedback on top; one that waits is counted apart."""
    trial.change(activation="explicit")
    waits, comes = trial.decide(0, deferred=True), trial.decide(1, deferred=True)
    trial.feed(waits, 9)
    trial.feed(comes, 2, event="before")
    assert trial.activate(comes) == "activated"
    before = found(trial).credits[0, SALE]
    trial.feed(comes, 3, event="after")
    rows = found(trial)
    assert (rows.arm.tolist(), rows.waiting) == ([1], 1)
    assert before == trial.experiment.defaults[SALE] + 2
    assert rows.credits[0, SALE] == trial.experiment.defaults[SALE] + 5


def test_a_list_counts_by_its_first_place(trial: Trial) -> None:
    """Feedback on another place belongs to that place's arm."""
    ref = trial.decide(2, 0)
    trial.feed(ref, 5, arm=0)
    assert found(trial).credits[0, SALE] == trial.experiment.defaults[SALE]
    trial.feed(ref, 6, arm=2)
    rows = found(trial)
    assert rows.arm.tolist() == [2]
    assert rows.credits[0, SALE] == trial.experiment.defaults[SALE] + 6
    assert rows.earned[0, SALE] == 2 * trial.experiment.defaults[SALE] + 5 + 6  # of the whole list


def test_a_generation_ends_where_the_next_begins(trial: Trial) -> None:
    """After a reset nothing of before is taken, in decisions or in what was learned."""
    trial.decide(1)
    trial.change(reset=True)
    ref = trial.decide(2)
    rows = found(trial)
    assert rows.arm.tolist() == [2]
    assert rows.at == [at(ref)]
    assert (rows.arms.tolist(), rows.later.n.tolist()) == ([2], [1])


def test_a_kind_added_later_counts_0_for_a_decision_before_it(trial: Trial) -> None:
    """And feedback on such a decision may credit it."""
    old = [trial.decide(0), trial.decide(1)]
    trial.change(rewards=DOCUMENT["rewards"] | {"rating": {"range": [0, 5], "default": 1}})
    new = trial.decide(2)
    trial.feed(old[1], 3, kind=2)
    rows = found(trial)
    assert at(new) == rows.at[2]
    assert rows.credits[:, 2].tolist() == [0, 3, trial.experiment.defaults[2]]


def test_an_empty_log_has_none(trial: Trial) -> None:
    """No decision yet: arrays of no rows, of the right widths."""
    rows = found(trial)
    K, m, d = trial.experiment.shape
    assert len(rows) == 0
    assert rows.probability.shape == (0, K)
    assert (rows.x.shape, rows.credits.shape) == ((0, d), (0, m))
