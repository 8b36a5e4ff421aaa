"""From log entries to sums: each kind of entry by hand, and what must not depend on when or how a log is folded."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.sums import Sums, increments
from bandit.errors import CorruptLog
from bandit.log.batch import EventBatch
from bandit.log.events import read_events
from bandit.log.probabilities import pack_probabilities
from bandit.log.records import (
    DEFERRED,
    FORMAT,
    PENDING,
    SHOWN,
    USER,
    Activation,
    Entry,
    Feedback,
    Head,
    Position,
    pack_activation,
    pack_decision,
    pack_feedback,
)
from bandit.log.vectors import pack_x

K, D = 4, 5
X = [4096, 0, -3, 7, 0]  # dense
SPARSELY = [4096, 0, 0, 0, 0]


def decision(
    at: int, *arms: int, m: int = 2, x: Sequence[int] = X, flags: int = 0, generation: int = 1, caller: bytes = b"c"
) -> Entry:
    """A decision's entry at millisecond `at`, of an experiment that knew m kinds."""
    (data, sparse), *_ = pack_x(np.array([x], np.int16))
    sizes = len(arms), len(data), len(caller)
    head = Head(FORMAT, flags | sparse, m, 0, *sizes, generation, 1, 1, 1000, bytes(8), bytes(8), 0.5, 0, 0)
    user = bytes(range(16)) if flags & USER else b""
    tail = pack_probabilities(np.full(K, 1 / K), np.ones(K, bool))
    return Entry(Position(at, 0), b"d", pack_decision(head, data, caller, user, [(a, 0.5, 0.5) for a in arms], tail))


def feedback(
    at: int, arm: int, old: tuple[int, ...], new: tuple[int, ...], *, x: Sequence[int] = X, flags: int = 0,
    generation: int = 1,
) -> Entry:  # fmt: skip
    """A feedback entry: the arm's credits before and after."""
    (data, sparse), *_ = pack_x(np.array([x], np.int16))
    record = Feedback(flags | sparse, generation, 0, Position(1, 0), bytes(8), "c", arm, 1, "e", old, new, data)
    return Entry(Position(at, 0), b"f", pack_feedback(record, 1))


def activation(
    at: int, arms: tuple[int, ...], credits_: tuple[tuple[int, ...], ...], *, x: Sequence[int] = X, generation: int = 1
) -> Entry:
    """An activation's entry: each arm's credits so far."""
    (data, sparse), *_ = pack_x(np.array([x], np.int16))
    record = Activation(sparse, generation, Position(1, 0), bytes(8), "c", arms, credits_, data)
    return Entry(Position(at, 0), b"a", pack_activation(record, 1))


def read(*entries: Entry, defaults: Sequence[int] = (5, 0), m: int = 2) -> EventBatch:
    """What these entries mean for generation 1."""
    return read_events(entries, 1, defaults, m, D)


def told(batch: EventBatch) -> list[tuple[object, ...]]:
    """(arm, shown, old, new, x, millisecond) of each event."""
    e = batch.events
    parts = e.arm, e.shown, e.old, e.new, e.x, batch.at[:, 0]
    return list(zip(*(part.tolist() for part in parts), strict=True))


def folded(*entries: Entry, defaults: Sequence[int] = (5, 0), m: int = 2, into: Sums | None = None) -> Sums:
    """The sums of these entries, added to some."""
    sums = into or Sums.zeros(K, m, D)
    sums.add(*increments(read(*entries, defaults=defaults, m=m).events))
    return sums


def test_a_decision_is_an_impression_with_the_defaults() -> None:
    """Its arm was shown, and starts with the default credits of the kinds that its record knew."""
    batch = read(decision(10, 3), decision(11, 0, x=SPARSELY, flags=USER, caller=b""))
    assert told(batch) == [(3, 1, [0, 0], [5, 0], X, 10), (0, 1, [0, 0], [5, 0], SPARSELY, 11)]
    assert (batch.decisions, batch.feedback) == (2, 0)


def test_a_list_is_an_impression_of_each_arm_shown() -> None:
    """Three arms of one decision: three impressions with its x, in its order."""
    batch = read(decision(10, 2, 0, 3, flags=USER))
    assert told(batch) == [(arm, 1, [0, 0], [5, 0], X, 10) for arm in (2, 0, 3)]
    assert batch.decisions == 1


def test_feedback_moves_credits_from_before_to_after() -> None:
    """It is no impression; what it says of its decision is all that is needed."""
    batch = read(feedback(20, 2, (5, 0), (9, -1), x=SPARSELY))
    assert told(batch) == [(2, 0, [5, 0], [9, -1], SPARSELY, 20)]
    assert (batch.decisions, batch.feedback) == (0, 1)


def test_what_waits_for_its_activation_means_nothing_yet() -> None:
    """A deferred decision and pending feedback are counted and change no sum."""
    batch = read(decision(10, 1, flags=DEFERRED), feedback(20, 1, (5, 0), (9, 0), flags=PENDING))
    assert told(batch) == []
    assert (batch.decisions, batch.feedback) == (1, 1)


def test_an_activation_is_an_impression_with_the_credits_so_far() -> None:
    """Of each arm of a list, each with its own credits."""
    batch = read(activation(30, (1, 3), ((9, 0), (5, 2))))
    assert told(batch) == [(1, 1, [0, 0], [9, 0], X, 30), (3, 1, [0, 0], [5, 2], X, 30)]


def test_a_decision_learned_late_leaves_what_one_learned_at_once_leaves() -> None:
    """Deferred, rewarded while it waits, activated, rewarded again: the sums of the same without deferring."""
    at_once = folded(decision(1, 2), feedback(2, 2, (5, 0), (9, 0)), feedback(4, 2, (9, 0), (9, 7)))
    late = folded(
        decision(1, 2, flags=DEFERRED), feedback(2, 2, (5, 0), (9, 0), flags=PENDING), activation(3, (2,), ((9, 0),)),
        feedback(4, 2, (9, 0), (9, 7)),
    )  # fmt: skip
    assert late.digest() == at_once.digest() != Sums.zeros(K, 2, D).digest()


def test_sums_by_hand() -> None:
    """One impression with default 5 and a reward that makes it (9, -1): A = xx', n = 1, B = new x', R = new new'."""
    sums = folded(decision(1, 2), feedback(2, 2, (5, 0), (9, -1)))
    assert sums.A[2].tolist() == np.outer(X, X).tolist()
    assert sums.n.tolist() == [0, 0, 1, 0]
    assert sums.B[2].tolist() == [[9 * x for x in X], [-x for x in X]]
    assert (sums.R[2, ..., 0] * 2**62 + sums.R[2, ..., 1]).tolist() == [[81, -9], [-9, 1]]


def test_a_kind_added_later_starts_at_zero_for_older_decisions() -> None:
    """Records that knew one kind, read when there are three with defaults of their own, which are not theirs."""
    batch = read(
        decision(1, 0, m=1), feedback(2, 0, (5,), (6,)), activation(3, (1,), ((6,),)), decision(4, 0, m=3),
        defaults=(5, 70, 900), m=3,
    )  # fmt: skip
    assert [(old, new) for _, _, old, new, _, _ in told(batch)] == [
        ([0, 0, 0], [5, 0, 0]), ([5, 0, 0], [6, 0, 0]), ([0, 0, 0], [6, 0, 0]), ([0, 0, 0], [5, 70, 900]),
    ]  # fmt: skip


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_log_folds_to_the_same_sums_whenever_and_in_whatever_pieces(data: st.DataObject) -> None:
    """Folded as it came, growing with each kind that was added, or all at once with today's kinds and defaults."""
    defaults = (5, -70, 900)
    entries, known = [], []
    m = 1
    for at in range(data.draw(st.integers(1, 12))):
        m = data.draw(st.integers(m, 3))
        arm, what = data.draw(st.integers(0, K - 1)), data.draw(st.sampled_from("dfa"))
        credits_ = data.draw(st.lists(st.integers(-9, 9), min_size=m, max_size=m).map(tuple))
        x = data.draw(st.sampled_from([X, SPARSELY]))
        kinds = {
            "d": decision(at, arm, m=m, x=x),
            "f": feedback(at, arm, defaults[:m], credits_, x=x),
            "a": activation(at, (arm,), (credits_,), x=x),
        }
        entries.append(kinds[what])
        known.append(m)
    at_once = folded(*entries, defaults=defaults, m=m)
    as_it_came = Sums.zeros(K, known[0], D)
    for entry, then in zip(entries, known, strict=True):
        as_it_came = folded(entry, defaults=defaults[:then], m=then, into=as_it_came.grown(K, then))
    assert as_it_came.digest() == at_once.digest()


def test_entries_of_other_generations_are_no_events() -> None:
    """Neither older nor newer ones, of any kind, whatever their d and m: they belong to other sums."""
    others = [
        entry
        for g in (0, 2)
        for entry in (
            decision(1, 0, generation=g), feedback(1, 0, (5, 0), (6, 0), generation=g),
            activation(1, (1,), ((5, 0),), generation=g), decision(1, 0, generation=g, m=9, x=[1] * 30),
            feedback(1, 0, (5,) * 9, (6,) * 9, generation=g), activation(1, (1,), ((5,) * 9,), generation=g),
        )
    ]  # fmt: skip
    batch = read(*others, decision(3, 1), *others)
    assert told(batch) == [(1, 1, [0, 0], [5, 0], X, 3)]
    assert (batch.decisions, batch.feedback) == (1, 0)


def test_no_entries_are_no_events() -> None:
    """Nothing, or a config alone: arrays of no rows, of the right shape to be added."""
    for batch in (read(), read(Entry(Position(1, 0), b"x", b"{}"))):
        assert len(batch.events) == 0
        assert folded(into=Sums.zeros(K, 2, D)).digest() == Sums.zeros(K, 2, D).digest()
        assert (batch.events.x.shape, batch.events.new.shape, batch.at.shape) == ((0, D), (0, 2), (0, 2))


def test_each_event_knows_its_position() -> None:
    """Milliseconds and sequence number, once for each arm of a list."""
    entry = decision(10, 2, 0)._replace(position=Position(2**48 - 1, 2**32 - 1))
    assert read(entry).at.tolist() == [[2**48 - 1, 2**32 - 1]] * 2


def test_some_of_a_batch_is_its_marked_events() -> None:
    """Events and positions of the mask; the counts of entries stay, because the entries were read."""
    batch = read(decision(10, 1), decision(11, 2), decision(12, 3))
    some = batch.only(np.array([True, False, True]))
    assert told(some) == [told(batch)[0], told(batch)[2]]
    assert (some.decisions, told(batch.only(np.ones(3, bool)))) == (3, told(batch))


@pytest.mark.parametrize(
    "entry",
    [
        Entry(Position(1, 0), b"e", b""),
        Entry(Position(1, 0), b"", b""),
        Entry(Position(1, 0), b"d", b""),
        Entry(Position(1, 0), b"f", b"\x01"),
        *(each._replace(record=b"\x02" + each.record[1:]) for each in (
            decision(1, 0), feedback(1, 0, (5, 0), (6, 0)), activation(1, (0,), ((5, 0),))
        )),
        decision(1, 0, m=3),
        feedback(1, 0, (5, 0, 0), (6, 0, 0)),
        activation(1, (0,), ((5, 0, 0),)),
        decision(1, 0, x=[1, 2, 3]),
        decision(1, 0, x=[0, 0, 0, 0, 0, 0, 1]),
        feedback(1, 0, (5, 0), (6, 0), x=[1, 2, 3]),
    ],
    ids=["tag e", "no tag", "empty decision", "cut feedback", "decision format", "feedback format",
         "activation format", "kinds of decision", "kinds of feedback", "kinds of activation", "short x", "wide x",
         "short x of feedback"],
)  # fmt: skip
def test_what_cannot_be_read_stops_the_fold(entry: Entry) -> None:
    """Unknown tags and formats, more kinds than there are, other columns: better no sums than wrong ones."""
    with pytest.raises(CorruptLog):
        read(decision(0, 1), entry)


@pytest.mark.parametrize("x", [X, SPARSELY])
def test_a_decision_cut_short_stops_the_fold(x: list[int]) -> None:
    """Cut anywhere up to its last arm shown, it is not read as a decision for other arms or another x."""
    whole = decision(1, 3, 2, x=x, flags=USER)
    places_end = whole.record.index(SHOWN.pack(2, 0.5, 0.5)) + SHOWN.size
    for size in range(places_end + 1):
        with pytest.raises(CorruptLog):
            read(whole._replace(record=whole.record[:size]))
