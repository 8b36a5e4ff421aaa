"""Draws: one number u in [0, 1) picks an arm or a list, and the probability it is picked with is exact.

Propensities are never computed later: what these functions return is what is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector

Threshold = Callable[[Vector], Vector]
UNKNOWN = -1.0  # in place of a marginal that nobody knows


class Choice(NamedTuple):
    """One decision: the arms shown, in order, and what they were drawn with."""

    arms: tuple[int, ...]
    propensities: tuple[float, ...]  # of each position, given the positions before
    marginals: tuple[float, ...]  # of that arm at that position, over all lists; or `UNKNOWN`


def draw(probabilities: Matrix, u: Vector) -> Int:
    """The arm that each u in [0, 1) picks, shape (N,): a is picked with probability p_a, and never where p_a is 0."""
    if len(u) == 1:
        one = np.add.accumulate(probabilities[0])
        alone: Int = one.searchsorted(u * one[-1], "right")
        return alone
    cumulated = probabilities.cumsum(axis=1)
    # u < 1, so u times the total is less than the total: some arm is always beyond it
    result: Int = (cumulated > (u * cumulated[:, -1])[:, None]).argmax(axis=1)
    return result


def draw_list(
    score: Vector, eligible: Int, k: int, explore: float, u: float, threshold: Threshold, first: Vector | None = None
) -> Choice:
    """A list of k arms by one coin for the whole list: the best in order, or else an arm drawn by q and then the other
    eligible ones in random order.

    With g(j) the arms tied for position j, which share their positions in random order, and K arms eligible:

        prefix of positions 1 to j    (1 - explore) prod_i 1[a_i in g(i)] / |g(i) without a_1 .. a_(i-1)|
                                        + explore q(a_1) (K - j)! / (K - 1)!
        marginal of a at position j   (1 - explore) 1[a in g(j)] / |g(j)|
                                        + explore q(a) at the first, explore (1 - q(a)) / (K - 1) at each other

    u decides the coin; the order is drawn by a generator seeded with u's 53 bits, so u alone repeats the draw.

    Args:
        score: of every arm that can be among the k best, shape (all arms,); -inf of the others.
        eligible: indices of the arms that may be shown, at least k.
        k: the length of the list.
        explore: the probability that the coin falls on random order.
        u: the number drawn with.
        threshold: the least score that ties with a given largest one.
        first: q of every arm, shape (all arms,), 0 where it is not eligible; None: 1 / K, so that the order is even.
    """
    order = np.random.Generator(np.random.PCG64(int(u * 2**53)))
    groups = list(tied_groups(score, k, threshold))
    if u < 1 - explore:
        arms = np.concatenate([order.permutation(group) for group in groups])[:k]
    elif first is None:
        arms = order.choice(eligible, k, replace=False)
    else:
        top = draw(first[None], np.array([order.random()]))
        arms = np.concatenate([top, order.choice(eligible[eligible != top], k - 1, replace=False)])
    q = [1 / len(eligible)] * k if first is None else first[arms].tolist()
    group_of = np.full(len(score), -1)
    for g, group in enumerate(groups):
        group_of[group] = g
    own = group_of[arms].tolist()
    propensities, marginals = _chances(own, list(map(len, groups)), explore, len(eligible), q)
    return Choice(tuple(arms.tolist()), tuple(propensities), tuple(marginals))


def tied_groups(score: Vector, k: int, threshold: Threshold) -> Iterator[Int]:
    """The arms of the first k positions, best first, in groups that tie with the best of their group.

    Raises:
        ValueError: fewer than k arms have a score.
    """
    left, positions = score.copy(), 0
    while positions < k:
        group = np.flatnonzero((left >= threshold(left.max())) & (left > -np.inf))
        if not len(group):
            raise ValueError(f"a list of {k} needs {k} arms; only {positions} have a score")
        left[group] = -np.inf
        positions += len(group)
        yield group


def _chances(
    groups: list[int], sizes: list[int], explore: float, K: int, q: list[float]
) -> tuple[list[float], list[float]]:
    """(propensity of each position given those before, marginal of each position) of a list.

    The probability of a long list's prefix is less than the smallest float. So what is carried from one position to the
    next is how likely each side of the coin is, given the positions before; the two add up to 1.
    """
    group_at = np.repeat(np.arange(len(sizes)), sizes)[: len(groups)]
    left = sizes.copy()  # arms of each group that have no position yet
    propensities, marginals, best, even = [], [], 1 - explore, explore
    for j, (g, own, first) in enumerate(zip(group_at.tolist(), groups, q, strict=True)):
        best *= (own == g) / (left[g] or sizes[g])
        even *= 1 / (K - j) if j else first
        propensity = best + even
        propensities.append(propensity)
        best, even = best / propensity, even / propensity
        marginals.append((1 - explore) * (own == g) / sizes[g] + explore * ((1 - first) / (K - 1) if j else first))
        left[own] -= own >= 0
    return propensities, marginals
