"""Lists by policies that do not rank: each place is the policy's own choice among the arms left, known exactly."""

import math
from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from test_engine import contexts, events, experiment, trained

from bandit.core.draw import UNKNOWN, Choice
from bandit.core.engine import Model
from bandit.core.policies import InverseGap, Softmax, Thompson
from bandit.core.policies.lists import PLACES, draw_lists

POLICIES: list[Any] = [Thompson(explore=0.1), InverseGap(explore=0.0), Softmax(explore=0.2)]
TAGS = ["thompson", "inverse-gap", "softmax"]


def learned(K: int = 5, n: int = 300, **changes: Any) -> Model:
    """A model that has seen n events of K arms."""
    return trained(experiment(K=K, **changes), events(3, n, K=K))


def lists(model: Model, policy: Any, x: np.ndarray, k: list[int], u: np.ndarray, mask: np.ndarray) -> list[Choice]:
    """A list for each context, of the arms in the mask."""
    estimates, rule = model.scorer.estimate(x, mask), policy.rule(lambda arm: -1)
    return draw_lists(rule, estimates, rule.probabilities(estimates), np.array(k), u.tolist())


@pytest.mark.parametrize("policy", POLICIES)
def test_each_place_is_drawn_with_the_policy_s_probabilities_among_the_arms_left(policy: Any) -> None:
    """Asked anew without the arms above, for 40 contexts with lists of one to five arms and some arms not eligible."""
    model, rng = learned(K=7), np.random.default_rng(0)
    x, u, k = contexts(5, 40), rng.random(40), [1, 2, 3, 4, 5] * 8
    mask = np.ones((40, 7), bool)
    mask[np.arange(40), rng.integers(0, 7, 40)] = False
    rule = policy.rule(lambda arm: -1)
    for i, choice in enumerate(lists(model, policy, x, k, u, mask)):
        left = mask[[i]].copy()
        assert len(set(choice.arms)) == k[i]
        for arm, propensity in zip(choice.arms, choice.propensities, strict=True):
            p = rule.probabilities(model.scorer.estimate(x[[i]], left))[0]
            assert propensity == pytest.approx(p[arm], rel=1e-9)
            assert left[0, arm]
            left[0, arm] = False
        assert choice.marginals == (choice.propensities[0], *[UNKNOWN] * (k[i] - 1))


@pytest.mark.parametrize("policy", POLICIES)
def test_lists_come_as_often_as_their_propensities_say(policy: Any) -> None:
    """20,000 lists of 3 of 4 arms: chi-square below its 1 - 1e-6 quantile, and the probabilities of all add up to 1."""
    model, n = learned(K=4), 20_000
    x, mask = np.repeat(contexts(8, 1), n, axis=0), np.ones((1, 4), bool)
    found = lists(model, policy, x, [3] * n, np.random.default_rng(2).random(n), mask)
    p = {choice.arms: math.prod(choice.propensities) for choice in found}
    counts = Counter(choice.arms for choice in found)
    assert all(each in set(permutations(range(4), 3)) for each in p)
    rare = 1 - sum(chance for chance in p.values() if n * chance >= 5)
    often = [each for each, chance in p.items() if n * chance >= 5]
    chi2 = sum((counts[each] - n * p[each]) ** 2 / (n * p[each]) for each in often)
    rest, rare = n - sum(counts[each] for each in often), max(0.0, rare)
    assert abs(rest - n * rare) <= 5 * math.sqrt(n * rare * (1 - rare)) + 1e-6
    df = len(often)
    assert chi2 < df * (1 - 2 / (9 * df) + 4.75 * math.sqrt(2 / (9 * df))) ** 3
    if len(p) == 24:
        assert sum(p.values()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_list_is_repeated_by_its_u_alone_or_among_others(policy: Any) -> None:
    """In a batch of lists of other lengths and contexts, as alone."""
    model, u, k = learned(), np.random.default_rng(4).random(20), [1, 5, 3, 2] * 5
    x, mask = contexts(6, 20), np.ones((1, 5), bool)
    together = lists(model, policy, x, k, u, mask)
    for i in range(20):
        (alone,) = lists(model, policy, x[[i]], [k[i]], u[[i]], mask)
        assert alone.arms == together[i].arms
        assert alone.propensities == pytest.approx(together[i].propensities, rel=1e-9)


@pytest.mark.parametrize("tag", TAGS)
def test_the_first_place_is_what_one_arm_would_be(tag: str) -> None:
    """By the same u: asking for more arms does not change the first."""
    model = learned(policy={"type": tag})
    x, e, u = contexts(6, 50), model.experiment, np.random.default_rng(9).random(50)
    one, three = (model.decide(e, x, e.active[None], [k] * 50, u) for k in (1, 3))
    for alone, listed, p in zip(one.choices, three.choices, three.probabilities, strict=True):
        assert (alone.arms[0], alone.propensities[0]) == (listed.arms[0], listed.propensities[0])
        assert p[alone.arms[0]] == alone.propensities[0]
        assert alone.marginals == alone.propensities


@pytest.mark.parametrize("policy", [Thompson(explore=0.0), InverseGap(explore=0.0), Softmax(explore=0.0)])
def test_a_list_of_all_arms_ends_with_those_that_would_never_come_first(policy: Any) -> None:
    """Also where the policy leaves them exactly 0 at the first place; the last place is certain."""
    model = learned(n=3000)
    for choice in lists(
        model, policy, contexts(6, 30), [5] * 30, np.random.default_rng(1).random(30), np.ones((1, 5), bool)
    ):
        assert sorted(choice.arms) == list(range(5))
        assert choice.propensities[-1] == 1
        assert all(0 < p <= 1 for p in choice.propensities)


@pytest.mark.parametrize("policy", POLICIES)
def test_beyond_so_many_places_the_arms_left_are_ranked_by_their_estimates(policy: Any) -> None:
    """By one coin for the rest, as epsilon-greedy does; where it does not explore, these are the means in order."""
    model, mask = trained(experiment(K=60), events(3, 600, K=60)), np.ones((1, 60), bool)
    x, u, k = contexts(6, 30), np.random.default_rng(1).random(30), PLACES + 20
    ordered = 0
    for i, choice in enumerate(lists(model, policy, x, [k] * 30, u, mask)):
        assert len(set(choice.arms)) == k
        assert choice.marginals[1:] == (UNKNOWN,) * (k - 1)
        estimates = model.scorer.estimate(x[[i]], mask)
        left = np.setdiff1d(np.arange(60), choice.arms[:PLACES])
        score = np.full(60, -np.inf)
        score[left] = estimates.mean[0, left]
        below = choice.arms[PLACES:]
        ordered += score[list(below)].tolist() == sorted(score[left].tolist(), reverse=True)[:20]
        best = estimates.mean[0, below[0]] == score.max()
        expected = (1 - policy.explore) * best + policy.explore / len(left)
        assert choice.propensities[PLACES] == pytest.approx(expected, rel=1e-12)
    assert ordered >= 15


def test_slices_of_either_kind_draw_their_lists_in_one_batch() -> None:
    """A slice that ranks has its lists as it had them before; one that does not has its own way."""
    slices = {"ranks": {"share": 0.5}, "draws": {"share": 0.5, "policy": {"type": "softmax"}}}
    plain, both = learned(policy={"explore": 0.3}), learned(policy={"explore": 0.3}, slices=slices)
    x, u, e = contexts(6, 60), np.random.default_rng(7).random(60), plain.experiment
    alone = plain.decide(e, x, e.active[None], [3] * 60, u).choices
    play = [0, 1] * 30
    mixed = both.decide(both.experiment, x, e.active[None], [3] * 60, u, play).choices
    assert mixed[::2] == alone[::2]
    assert all(choice.marginals[1] == UNKNOWN for choice in mixed[1::2])
    assert all(0 < p <= 1 for choice in mixed[::2] for p in choice.marginals)
