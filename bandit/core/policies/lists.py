"""Lists: k arms in order, by whichever policy. Nothing but u decides, and each propensity is what was drawn with.

A policy that ranks (`Rule.leading`) has the best in order, or else, by one coin for the list, an even order, but for
challengers at the first place: see `draw_list`. Of any other each place is drawn for itself, from the policy's own
probabilities among the arms left. How likely an arm is at a lower place over all lists would take a sum over all orders
of arms above it: it is not known there, and not a number in the log.
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import Int, Matrix
from bandit.core.draw import UNKNOWN, Choice, draw, draw_list
from bandit.core.policies.linucb import EpsilonGreedy
from bandit.core.policies.rule import Rule, explored
from bandit.core.ridge.estimates import Estimates

PLACES = 32  # drawn for themselves, as each takes as long as a decision; lower ones are ranked by their estimates


def draw_lists(rule: Rule, estimates: Estimates, first: Matrix, k: Int, u: list[float]) -> list[Choice]:
    """A list of k[i] arms by u[i] for each of N contexts.

    Args:
        rule: the policy.
        estimates: of the N contexts.
        first: the rule's probabilities for them, shape (N, K).
        k: how many arms each, at most those that are eligible.
        u: the numbers drawn with, in [0, 1).
    """
    if not u:
        return []
    score = rule.leading(estimates, k)
    if score is None:
        return _by_places(rule, estimates, first, k, u)
    allowed = [np.flatnonzero(row) for row in estimates.eligible]
    allowed *= len(score) // len(allowed)  # one row may stand for all
    explore, aimed = explored(rule.explore, estimates.derived), rule.explored_first(estimates)
    firsts = [None] * len(u) if aimed is None else list(aimed)
    return [
        draw_list(row, arms, size, explore, number, estimates.threshold, first)
        for row, arms, size, number, first in zip(score, allowed, k.tolist(), u, firsts, strict=True)
    ]


def _by_places(rule: Rule, estimates: Estimates, p: Matrix, k: Int, u: list[float]) -> list[Choice]:
    """The first place is drawn with u, as a single arm is; each lower one with the next number of a generator that is
    seeded with u's 53 bits.
    """
    numbers = [np.random.Generator(np.random.PCG64(int(each * 2**53))) for each in u]
    left = np.broadcast_to(estimates.eligible, p.shape).copy()
    made = [Choice((), (), ()) for _ in u]
    rows, drawn = np.arange(len(u)), np.array(u)
    for place in range(min(int(k.max()), PLACES)):
        if place:
            rows = np.flatnonzero(k > place)
            drawn = np.array([numbers[row].random() for row in rows.tolist()])
            p = rule.probabilities(estimates.only(rows, left[rows]))
        arms = draw(p, drawn)
        chances = p[np.arange(len(rows)), arms].tolist()
        left[rows, arms] = False
        for row, arm, chance in zip(rows.tolist(), arms.tolist(), chances, strict=True):
            marginal = UNKNOWN if place else chance
            made[row] = _followed(made[row], Choice((arm,), (chance,), (marginal,)))
    for row in np.flatnonzero(k > PLACES).tolist():
        rest = _ranked(rule, estimates.only(np.array([row]), left[[row]]), int(k[row]) - PLACES, numbers[row].random())
        made[row] = _followed(made[row], rest._replace(marginals=(UNKNOWN,) * len(rest.arms)))
    return made


def _followed(above: Choice, below: Choice) -> Choice:
    return Choice._make(one + other for one, other in zip(above, below, strict=True))


def _ranked(rule: Rule, estimates: Estimates, k: int, u: float) -> Choice:
    """The arms left in order of their estimates, or else evenly."""
    by_mean = EpsilonGreedy(explore=rule.explore).rule(lambda arm: -1)
    (choice,) = draw_lists(by_mean, estimates, estimates.mean, np.array([k]), [u])
    return choice
