"""The newest decisions with what feedback has credited, over every store: against the whole log, read forwards."""

import numpy as np
import pytest
from trial import CLICK, DOCUMENT, SALE, Trial, at

import bandit.recent
from bandit.log import Position, pack_decision, pack_probabilities, unpack_decision
from bandit.recent import Recent, Window, recent
from bandit.store import Store
from bandit.sums import ONE

ALL = Window(0, 2**60, 1000)


@pytest.fixture
def trial(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """An experiment of two kinds, click and sale; the log is read three entries at a time."""
    monkeypatch.setattr(bandit.recent, "READ", 3)
    return Trial(store, name)


def found(trial: Trial, window: Window = ALL, upto: Position | None = None) -> Recent:
    """The newest decisions, up to the log's end."""
    return recent(trial.store, trial.experiment, upto or trial.store.end(trial.name), window)


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


def test_only_the_newest_are_taken_and_the_entries_begin_with_the_first_of_them(trial: Trial) -> None:
    """Late feedback on an older decision is among the entries; the older decision is not."""
    refs = [trial.decide(arm) for arm in (0, 1, 2)]
    trial.feed(refs[0], 3)
    trial.feed(refs[2], 4)
    log = trial.log()
    rows = found(trial, ALL._replace(rows=2))
    assert rows.cut
    assert rows.arm.tolist() == [1, 2]
    assert rows.entries == [entry for entry in log if entry.position >= at(refs[1])]
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
    assert rows.entries[-1].position == middle


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


def test_a_generation_ends_where_the_next_begins(trial: Trial) -> None:
    """After a reset nothing of before is taken, in decisions or in entries."""
    trial.decide(1)
    trial.change(reset=True)
    ref = trial.decide(2)
    rows = found(trial)
    assert rows.arm.tolist() == [2]
    assert [entry.position for entry in rows.entries] == [at(ref)]


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
