"""Draws: what is logged as probability is the probability, by counting, by enumeration and by frequency."""

import itertools
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.draw import Choice, draw, draw_list, tied_groups

LAST = math.nextafter(1.0, 0.0)  # the largest u there is


def exactly(best: np.ndarray) -> np.ndarray:
    """Ties only where scores are equal."""
    return best


def nearly(best: np.ndarray) -> np.ndarray:
    """Ties within 0.1."""
    return best - 0.1


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
@settings(max_examples=200, deadline=None)
def test_on_a_grid_each_arm_is_drawn_as_often_as_its_probability_says(weights: list[int]) -> None:
    """With probabilities of n_a / 2^k and u on all 2^k grid points, arm a is drawn for exactly n_a of them."""
    size = 1 << (sum(weights) - 1).bit_length()
    counts = np.array([*weights, size - sum(weights)])
    u = np.arange(size) / size
    drawn = draw(np.broadcast_to(counts / size, (size, len(counts))), u)
    assert np.bincount(drawn, minlength=len(counts)).tolist() == counts.tolist()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8).filter(any), st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_probabilities_that_are_no_binary_fractions_are_off_by_less_than_a_grid_point(
    weights: list[int], n: int
) -> None:
    """On n grid points the count of each arm is within 1 of n p_a, whatever the rounding of p."""
    p = np.array(weights) / sum(weights)
    counts = np.bincount(draw(np.broadcast_to(p, (n, len(p))), np.arange(n) / n), minlength=len(p))
    assert (np.abs(counts - n * p) < 1 + 1e-9).all()


@given(st.lists(st.sampled_from([0.0, 1e-300, 1e-17, 1 / 3, 0.1, 0.7]), min_size=1, max_size=9).filter(any))
@settings(max_examples=200, deadline=None)
def test_an_arm_of_probability_zero_is_never_drawn(weights: list[float]) -> None:
    """Not at u = 0, not at the largest float below 1, not where the sum of the probabilities misses 1 by rounding."""
    p = np.array(weights) / sum(weights)
    for scale in (1.0, 1 - 1e-15, 1 + 1e-15):
        u = np.array([0.0, 5e-324, 0.5, LAST])
        assert (p[draw(np.broadcast_to(p * scale, (4, len(p))), u)] > 0).all()


def test_rows_are_drawn_each_by_its_own_u() -> None:
    """By hand: (.25, .75) at u = .25 is arm 1, at the float below it arm 0; (0, 0, 1) is arm 2 at any u."""
    assert draw(np.array([[0.25, 0.75]] * 2), np.array([0.25, math.nextafter(0.25, 0)])).tolist() == [1, 0]
    assert draw(np.array([[0.0, 0.0, 1.0]] * 2), np.array([0.0, LAST])).tolist() == [2, 2]


def distribution(
    groups: list[list[int]], arms: list[int], k: int, explore: Fraction, q: dict[int, Fraction] | None = None
) -> dict[tuple[int, ...], Fraction]:
    """The probability of every list, by writing all of them down: each order of the tied arms, each order of all, which
    by q begins as that says.
    """
    lists: dict[tuple[int, ...], Fraction] = defaultdict(Fraction)
    greedy = [sum(parts, ()) for parts in itertools.product(*(list(itertools.permutations(g)) for g in groups))]
    for each in greedy:
        lists[each[:k]] += (1 - explore) / len(greedy)
    even = list(itertools.permutations(arms, k))
    for each in even:
        lists[each] += explore / len(even) * (q[each[0]] * len(arms) if q else 1)
    return {each: p for each, p in lists.items() if p}


CASES = [
    # scores, tied groups best first; arm 2 is never eligible
    ([0.1, 0.4, 9.9, 0.3, 0.2], [[1], [3], [4], [0]]),
    ([0.3, 0.4, 9.9, 0.3, 0.3], [[1], [0, 3, 4]]),
    ([0.5, 0.5, 9.9, 0.3, 0.3], [[0, 1], [3, 4]]),
    ([0.5, 0.5, 9.9, 0.5, 0.5], [[0, 1, 3, 4]]),
]
ARMS = [0, 1, 3, 4]


def listed(score: list[float], k: int, explore: float, u: float, q: dict[int, Fraction] | None = None) -> Choice:
    """A list of the eligible arms 0, 1, 3 and 4."""
    known = np.where(np.isin(np.arange(5), ARMS), score, -np.inf)
    first = np.array([float(q.get(arm, 0)) for arm in range(5)]) if q else None
    return draw_list(known, np.array(ARMS), k, explore, u, exactly, first)


# none; half on arm 3 and half on all; all on two arms
FIRST = [None, {0: Fraction(1, 8), 1: Fraction(1, 8), 3: Fraction(5, 8), 4: Fraction(1, 8)},
         {0: Fraction(1, 3), 1: Fraction(0), 3: Fraction(0), 4: Fraction(2, 3)}]  # fmt: skip


@pytest.mark.parametrize(("score", "groups"), CASES)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("explore", [Fraction(0), Fraction(1, 4), Fraction(1)])
@pytest.mark.parametrize("q", FIRST)
def test_the_probabilities_of_lists_are_those_of_enumerating_all(
    score: list[float], groups: list[list[int]], k: int, explore: Fraction, q: dict[int, Fraction] | None
) -> None:
    """Every prefix and marginal of every list that can be drawn, with ties, against exact fractions.

    So the prefixes of each length sum to 1 over all lists, the marginals of each place to 1 over all arms, and only
    lists of positive probability are drawn.
    """
    truth = distribution(groups, ARMS, k, explore, q)
    rng = np.random.default_rng(k)
    seen = {choice.arms: choice for choice in (listed(score, k, float(explore), u, q) for u in rng.random(400))}
    assert set(seen) <= set(truth)
    assert len(seen) > len(truth) / 2
    for arms, choice in seen.items():
        prefixes = np.cumprod(choice.propensities)
        for j in range(k):
            prefix = sum(p for each, p in truth.items() if each[: j + 1] == arms[: j + 1])
            marginal = sum(p for each, p in truth.items() if each[j] == arms[j])
            assert prefixes[j] == pytest.approx(float(prefix), rel=1e-12)
            assert choice.marginals[j] == pytest.approx(float(marginal), rel=1e-12)


@pytest.mark.parametrize(("score", "groups"), CASES[1:3])
@pytest.mark.parametrize("q", FIRST[:2])
def test_lists_come_as_often_as_their_probabilities_say(
    score: list[float], groups: list[list[int]], q: dict[int, Fraction] | None
) -> None:
    """6,000 draws of 3 of 4 arms at explore .3 against the exact distribution: chi-square below its 1 - 1e-6 quantile.

    The quantile is Wilson and Hilferty's, df (1 - 2 / (9 df) + 4.75 sqrt(2 / (9 df)))^3; the seed is fixed.
    """
    truth = distribution(groups, ARMS, 3, Fraction(3, 10), q)
    n = 6000
    found = Counter(listed(score, 3, 0.3, u, q).arms for u in np.random.default_rng(11).random(n))
    chi2 = sum((found[arms] - n * float(p)) ** 2 / (n * float(p)) for arms, p in truth.items())
    df = len(truth) - 1
    assert set(found) <= set(truth)
    assert chi2 < df * (1 - 2 / (9 * df) + 4.75 * math.sqrt(2 / (9 * df))) ** 3


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_a_list_is_repeated_by_its_u(u: float, k: int, explore: float, seed: int) -> None:
    """The same scores and u give the same list: k different eligible arms, propensities and marginals in (0, 1]."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 4, 9) / 4
    eligible = np.sort(rng.permutation(9)[:6])
    known = np.where(np.isin(np.arange(9), eligible), score, -np.inf)
    first, again = (draw_list(known, eligible, k, explore, u, exactly) for _ in range(2))
    assert first == again
    assert len(set(first.arms)) == k
    assert set(first.arms) <= set(eligible.tolist())
    assert all(0 < p <= 1 for p in (*first.propensities, *first.marginals))
    assert math.prod(first.propensities) <= min(first.marginals) * (1 + 1e-12)


def test_on_a_grid_of_u_the_first_place_of_what_is_explored_is_drawn_by_q() -> None:
    """Of 20,000 numbers within five standard deviations, and the others in every order alike."""
    n, q = 20_000, FIRST[1]
    found = Counter(listed([0.1, 0.4, 9.9, 0.3, 0.2], 2, 1.0, u, q).arms for u in np.arange(n) / n)
    for (first, _), count in found.items():
        p = float((q or {})[first]) / 3
        assert abs(count - n * p) <= 5 * math.sqrt(n * p)
    assert len(found) == 12


def test_the_coin_falls_once_for_the_whole_list() -> None:
    """Explore .5: below u = .5 always the best in order, from there on every order of the arms."""
    score = [0.1, 0.4, 9.9, 0.3, 0.2]
    assert {listed(score, 3, 0.5, u).arms for u in np.linspace(0, math.nextafter(0.5, 0), 50)} == {(1, 3, 4)}
    assert len({listed(score, 3, 0.5, u).arms for u in np.linspace(0.5, LAST, 400)}) == 24


def test_groups_tie_with_the_best_of_their_group() -> None:
    """Scores 1, .95, .88, .5, ties within .1: .88 ties with .95 but not with 1: the groups are {1, .95}, {.88}."""
    score = np.array([0.5, 0.95, 0.88, 1.0])
    assert [group.tolist() for group in tied_groups(score, 3, nearly)] == [[1, 3], [2]]
    assert [group.tolist() for group in tied_groups(score, 2, nearly)] == [[1, 3]]
    assert score.tolist() == [0.5, 0.95, 0.88, 1.0]


def test_a_list_of_more_arms_than_there_are_is_refused() -> None:
    """It ends with an error, not with a search for ever."""
    with pytest.raises(ValueError, match="3 have a score"):
        list(tied_groups(np.array([0.1, -np.inf, 0.3, 0.2]), 4, exactly))


@pytest.mark.parametrize(("K", "k"), [(1000, 107), (1000, 150), (1000, 1000), (10_000, 10_000)])
@pytest.mark.parametrize("u", [0.3, 0.995])
def test_a_long_list_is_less_likely_than_any_number_and_its_propensities_are_right(K: int, k: int, u: float) -> None:
    """Of equal arms, whichever side the coin falls on, place j has one of the K - j + 1 that are left."""
    choice = draw_list(np.zeros(K), np.arange(K), k, 0.02, u, exactly)
    np.testing.assert_allclose(choice.propensities, 1 / np.arange(K, K - k, -1.0), rtol=1e-12)
    np.testing.assert_allclose(choice.marginals, 1 / K, rtol=1e-12)
    sorted_ = draw_list(-np.arange(float(K)), np.arange(K), k, 0.02, 0.3, exactly)
    assert sorted_.arms == tuple(range(k))
    even = np.array([0.02 * math.exp(math.lgamma(K - j + 1) - math.lgamma(K + 1)) for j in range(4)])
    prefixes = 0.98 * np.array([0.02 / 0.98 + 1, 1, 1, 1]) + np.where(np.arange(4), even, 0)
    np.testing.assert_allclose(sorted_.propensities[:3], prefixes[1:] / prefixes[:-1], rtol=1e-12)
