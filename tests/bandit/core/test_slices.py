"""Slices: who is in which, and how little moves when shares do."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from bandit.core.slices import WHOLE, Segment, millionths, owner_of, place, segmented, shares_of

SHARES = st.lists(st.integers(0, WHOLE), min_size=0, max_size=5).map(
    lambda cuts: {i: b - a for i, (a, b) in enumerate(zip([0, *sorted(cuts)], [*sorted(cuts), WHOLE], strict=True))}
)


def owned(segments: tuple[Segment, ...]) -> dict[int, set[tuple[int, int]]]:
    """The parts of the range of each slice."""
    parts: dict[int, set[tuple[int, int]]] = {}
    for start, (end, owner) in zip([0, *(s.end for s in segments)], segments, strict=False):
        parts.setdefault(owner, set()).add((start, end))
    return parts


def kept(before: tuple[Segment, ...], after: tuple[Segment, ...]) -> int:
    """How much of the range has the same owner, counted place by place where either changes."""
    cuts = sorted({0} | {s.end for s in before} | {s.end for s in after})
    return sum(b - a for a, b in pairwise(cuts) if owner_of(before, a) == owner_of(after, a))


@given(st.lists(SHARES, min_size=1, max_size=6))
def test_shares_are_exact_and_no_more_moves_than_must(changes: list[dict[int, int]]) -> None:
    """What shrinks gives just what it loses; so a slice whose share stays, or grows, keeps all it has."""
    segments: tuple[Segment, ...] = ()
    before: dict[int, int] = {}
    for shares in changes:
        after = segmented(segments, shares)
        assert shares_of(after) == {owner: share for owner, share in shares.items() if share}
        assert after[-1].end == WHOLE
        if segments:
            assert kept(segments, after) == sum(min(before.get(owner, 0), share) for owner, share in shares.items())
        segments, before = after, shares


def test_a_place_has_the_owner_of_its_segment() -> None:
    """By hand, at both ends of each."""
    segments = (Segment(3, 1), Segment(10, 0), Segment(WHOLE, 255))
    assert [owner_of(segments, at) for at in (0, 2, 3, 9, 10, WHOLE - 1)] == [1, 1, 0, 0, 255, 255]


def test_users_are_spread_evenly_and_independently_in_each_experiment() -> None:
    """Of 20,000 users in ten parts of the range, and in the hundred pairs of parts of two experiments."""
    users = [str(i).encode() for i in range(20_000)]
    one, other = ([place(b"key", name, user) * 10 // WHOLE for user in users] for name in ("a", "b"))
    assert chisquare(list(Counter(one).values())).pvalue > 1e-3
    pairs = Counter(zip(one, other, strict=True))
    assert len(pairs) == 100
    assert chisquare(list(pairs.values())).pvalue > 1e-3


def test_a_share_has_six_digits() -> None:
    """So that shares of .1 and .2 add up exactly, and a third has to be rounded by whoever asks for it."""
    assert [millionths(share) for share in (0.9, 0.05, 1e-6, 1 / 3)] == [900_000, 50_000, 1, -1]
