"""The sums against Python's own integers, which are exact at any size."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.sums import BATCH, CREDIT_MAX, LIMB, LIMIT, Events, Sums, increments, row_head
from bandit.errors import CorruptLog

X_MIN = -32768
SEEDS = st.integers(0, 2**32 - 1)


def random_events(seed: int, n: int, K: int = 3, m: int = 2, d: int = 4) -> Events:
    """Impressions and feedback of all sizes, the extremes often among them."""
    rng = np.random.default_rng(seed)
    x = rng.choice([X_MIN, 32767, 0, 1, -1, 4096], (n, d)).astype(np.int16)
    x = np.where(rng.random((n, d)) < 0.5, x, rng.integers(X_MIN, 32768, (n, d))).astype(np.int16)
    shown = rng.integers(0, 2, n)
    old, new = rng.integers(-CREDIT_MAX, CREDIT_MAX + 1, (2, n, m))
    new[rng.random((n, m)) < 0.3] = CREDIT_MAX
    return Events(rng.integers(0, K, n), x, shown, old * (1 - shown)[:, None], new)


def learned(*batches: Events, K: int = 3) -> Sums:
    """The sums of K arms after these batches, one after the other."""
    sums = Sums.zeros(K, batches[0].new.shape[1], batches[0].x.shape[1])
    for batch in batches:
        sums.add(*increments(batch))
    return sums


def by_python(events: Events, K: int) -> tuple[Any, Any, Any, Any]:
    """A, B, R and n event by event in Python integers, by the definition of the sums."""
    m, d = events.new.shape[1], events.x.shape[1]
    A, B, R = (np.zeros((K, *shape), object) for shape in ((d, d), (m, d), (m, m)))
    n = np.zeros(K, object)
    rows = zip(
        *(part.astype(object) for part in (events.arm, events.x, events.shown, events.old, events.new)), strict=True
    )
    for arm, x, shown, old, new in rows:
        A[arm] += np.outer(x, x) * shown
        n[arm] += shown
        B[arm] += np.outer(new - old, x)
        R[arm] += np.outer(new, new) - np.outer(old, old)
    return A, B, R, n


def whole(R: Any) -> Any:
    """R's two limbs as Python integers."""
    return R[..., 0].astype(object) * 2**LIMB + R[..., 1].astype(object)


def assert_exact(sums: Sums, events: Events) -> None:
    """The sums are those of the events, to the last digit."""
    A, B, R, n = by_python(events, len(sums.n))
    assert (sums.A == A).all()
    assert (sums.B == B).all()
    assert (whole(sums.R) == R).all()
    assert (sums.n == n).all()


@given(SEEDS, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_python_integers(seed: int, n: int) -> None:
    """A, B, R and n equal an event-by-event sum in unbounded integers, the extremes of x and of credits included."""
    events = random_events(seed, n)
    assert_exact(learned(events), events)


@given(SEEDS, st.lists(st.integers(0, 60), max_size=5), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_order_batches_and_replicas_do_not_matter(seed: int, cuts: list[int], replicas: int) -> None:
    """The same events in any order and any batches, learned by any number of machines and added: equal digests."""
    events = random_events(seed, 60)
    rng = np.random.default_rng(seed)
    batches = [events[part] for part in np.split(rng.permutation(60), sorted(cuts))]
    owners = rng.integers(0, replicas, len(batches))
    machines = [
        learned(events[:0], *(b for b, o in zip(batches, owners, strict=True) if o == i)) for i in range(replicas)
    ]
    total = Sums.zeros(3, 2, 4)
    for machine in machines:
        total.add(np.arange(3), machine)
    assert total.digest() == learned(events).digest()


def test_one_event_more_or_less_changes_the_digest() -> None:
    """Equal digests mean something: leaving out any single event gives another one."""
    events = random_events(7, 30)
    without = {learned(events[np.arange(30) != i]).digest() for i in range(30)}
    assert learned(events).digest() not in without


@pytest.mark.parametrize("n", [BATCH, BATCH + 1, 2 * BATCH + 1])
def test_a_batch_of_the_largest_events_is_exact(n: int) -> None:
    """x = -8 in every column and credits going from -2^24 to 2^24: |B| is n 2^40, where float64 ends at 2^53."""
    x = np.full((n, 2), X_MIN, np.int16)
    zeros, most = np.zeros(n, np.int64), np.full((n, 2), CREDIT_MAX)
    shown = learned(Events(zeros, x, zeros + 1, 0 * most, most), K=1)
    assert set(shown.A.ravel().tolist()) == {n * 2**30}
    assert set(shown.B.ravel().tolist()) == {-n * 2**39}
    assert (whole(shown.R) == n * 2**48).all()
    moved = learned(Events(zeros, x, zeros, -most, most), K=1)
    assert set(moved.B.ravel().tolist()) == {-n * 2**40}
    assert not whole(moved.R).any()


def test_an_odd_unit_at_the_top_is_not_rounded_away() -> None:
    """8,190 of the largest products and one of 1: the 1 is still there; float32, or a sum past 2^53, would lose it."""
    n = BATCH
    arm, x, most = np.zeros(n, np.int64), np.full((n, 1), X_MIN, np.int16), np.full((n, 1), CREDIT_MAX)
    old, new = -most, most.copy()
    x[-1], old[-1], new[-1] = 1, 0, 1
    shown = learned(Events(arm, x, arm + 1, 0 * new, new), K=1)
    assert int(shown.A[0, 0, 0]) == (n - 1) * 2**30 + 1
    assert int(whole(shown.R)[0, 0, 0]) == (n - 1) * 2**48 + 1
    moved = learned(Events(arm, x, arm, old, new), K=1)
    assert int(moved.B[0, 0, 0]) == -(n - 1) * 2**40 + 1


def test_squares_go_beyond_64_bits_in_both_directions() -> None:
    """40,000 squares of 2^24 pass 2^63; kinds of opposite sign give the same below zero."""
    n = 40_000
    new = np.tile(np.array([CREDIT_MAX, -CREDIT_MAX]), (n, 1))
    sums = learned(Events(np.zeros(n, np.int64), np.ones((n, 1), np.int16), np.ones(n, np.int64), 0 * new, new), K=1)
    assert n * 2**48 > 2**63
    assert whole(sums.R)[0].tolist() == [[n * 2**48, -n * 2**48], [-n * 2**48, n * 2**48]]


def test_squares_return_to_zero_when_everything_is_taken_back() -> None:
    """Credits given and taken back, far beyond 64 bits in between: all sums are zero again, limbs included."""
    n = 40_000
    new = np.tile(np.array([CREDIT_MAX, 1 - CREDIT_MAX]), (n, 1))
    arm, x, none = np.zeros(n, np.int64), np.ones((n, 1), np.int16), np.zeros(n, np.int64)
    given_and_taken = learned(Events(arm, x, none, 0 * new, new), Events(arm, x, none, new, 0 * new), K=1)
    assert given_and_taken.digest() == Sums.zeros(1, 2, 1).digest()


@pytest.mark.parametrize(("part", "at"), [("A", (1, 0, 0)), ("B", (1, 1, 0)), ("R", (1, 0, 1, 0))])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("step", [1, LIMIT])
def test_overflow_raises_and_changes_nothing(part: str, at: tuple[int, ...], sign: int, step: int) -> None:
    """A sum at 2^62 takes no more, in whichever array and direction, even where int64 would wrap around."""
    sums, increment = learned(random_events(1, 50)), learned(random_events(2, 50))
    getattr(sums, part)[at] = sign * LIMIT
    getattr(increment, part)[at] = sign * step
    increment.R[1, 0, 1, 1] = 0  # the low limb carries nothing
    before = sums.digest()
    with pytest.raises(OverflowError):
        sums.add(np.arange(3), increment)
    assert sums.digest() == before


def test_too_much_in_one_call_raises_rather_than_wraps() -> None:
    """2^23 events of the largest change of B would be -2^63 at once: refused before it comes to that."""
    n = 2**23
    credits_ = np.broadcast_to(np.int64(CREDIT_MAX), (n, 1))
    zero = np.broadcast_to(np.int64(0), n)
    x = np.broadcast_to(np.int16(X_MIN), (n, 1))
    with pytest.raises(OverflowError):
        increments(Events(zero, x, zero, -credits_, credits_))


def test_no_events_add_nothing() -> None:
    """An empty batch has no arms and leaves the sums as they were."""
    sums = learned(random_events(3, 20))
    before = sums.digest()
    arms, increment = increments(random_events(3, 20)[:0])
    sums.add(arms, increment)
    assert (len(arms), sums.digest()) == (0, before)


@given(SEEDS, st.integers(1, 3), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_packed_row_comes_back_as_it_was(seed: int, m: int, d: int) -> None:
    """unpack(pack(sums)) gives equal digests, and the head tells generation, m, d and n."""
    sums = learned(random_events(seed, 60, m=m, d=d))
    again = Sums.zeros(3, m, d)
    for arm in range(3):
        row = sums.pack(arm, 2**32 - 1)
        assert row_head(row) == (2**32 - 1, m, d, int(sums.n[arm]))
        again.unpack(arm, row)
    assert again.digest() == sums.digest()


def test_a_row_that_knew_fewer_kinds_leaves_the_later_ones_at_zero() -> None:
    """A checkpoint from before two kinds were added is what the sums were then, grown."""
    sums = learned(random_events(5, 60, m=1))
    again = Sums.zeros(3, 3, 4)
    for arm in range(3):
        again.unpack(arm, sums.pack(arm, 1))
    assert again.digest() == sums.grown(3, 3).digest()
    assert not again.B[:, 1:].any()


@pytest.mark.parametrize(
    "row",
    [
        Sums.zeros(1, 1, 3).pack(0, 1),
        Sums.zeros(1, 1, 5).pack(0, 1),
        Sums.zeros(1, 3, 4).pack(0, 1),
        Sums.zeros(1, 2, 4).pack(0, 1)[:-8],
        Sums.zeros(1, 2, 4).pack(0, 1)[:-1],
        Sums.zeros(1, 2, 4).pack(0, 1) + bytes(8),
        Sums.zeros(1, 2, 4).pack(0, 1)[:10],
        b"\x02" + Sums.zeros(1, 2, 4).pack(0, 1)[1:],
        b"",
    ],
    ids=[
        "d less",
        "d more",
        "more kinds",
        "cut by a number",
        "cut by a byte",
        "too long",
        "cut head",
        "format",
        "empty",
    ],
)
def test_a_row_that_does_not_fit_is_refused(row: bytes) -> None:
    """A row of another d, of more kinds, of another length or format is no checkpoint of these sums, which stay."""
    sums = learned(random_events(6, 40))
    before = sums.digest()
    with pytest.raises(CorruptLog):
        sums.unpack(0, row)
    assert sums.digest() == before


def test_sums_grow_without_changing_what_they_hold() -> None:
    """New arms and kinds have seen nothing; the old ones are the old ones, and learning goes on as if never grown."""
    first, second = random_events(8, 40, m=1), random_events(9, 40, K=5, m=3)
    grown = learned(first).grown(5, 3)
    grown.add(*increments(second))
    wide = Events(first.arm, first.x, first.shown, *(np.pad(part, ((0, 0), (0, 2))) for part in (first.old, first.new)))
    assert grown.digest() == learned(wide, second, K=5).digest()
    assert grown.shape == (5, 3, 4)
