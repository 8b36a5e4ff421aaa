"""Thompson sampling, inverse gap and softmax: their probabilities by hand, by drawing, and what holds for any model."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from bandit.core.document import Document
from bandit.core.draw import draw
from bandit.core.policies import InverseGap, Policy, Rule, Softmax, Thompson
from bandit.core.policies.largest import largest
from bandit.core.ridge.estimates import Estimates
from bandit.core.ridge.linear import Ridge
from bandit.core.ridge.scoring import Scorer
from bandit.core.sums import ONE, Sums
from bandit.core.validation import parse_document
from bandit.errors import Problem

CREDIT = 10**6  # of a reward of 1
ALL: list[Any] = [
    Thompson(), Thompson(scale=0.3, explore=0.0), InverseGap(), InverseGap(gamma_scale=0.1, explore=0.0), Softmax(),
    Softmax(temperature=3.0, explore=0.0),
]  # fmt: skip


def model(rewards: list[int], shown: list[int], *, noise: float | None = None, unit: float = 1.0) -> Scorer:
    """Arms without contexts, shown so often, with so many rewards of one unit each."""
    K = len(rewards)
    sums = Sums.zeros(K, 1, 1)
    sums.n[:] = shown
    sums.A[:, 0, 0], sums.B[:, 0, 0] = sums.n * ONE**2, np.array(rewards) * CREDIT * ONE
    sums.R[:, 0, 0, 1] = np.array(rewards) * CREDIT**2
    scorer = Scorer(K, 1, 1, Ridge(np.ones(1), np.array([unit / CREDIT]), noise=noise, high=unit))
    if not len(arms := np.flatnonzero(sums.n)):
        return scorer
    scorer.install(arms, scorer.compute(sums, arms, True), True)
    scorer.derived = scorer.derive()
    return scorer


def estimated(scorer: Scorer, *eligible: list[bool]) -> Estimates:
    """For the context (1), once for each row of eligible arms; all of them by default."""
    masks = np.array(eligible or [[True] * len(scorer.scored)])
    return scorer.estimate(np.full((len(masks), 1), ONE, np.int16), masks)


SIX = model([30, 33, 2, 0, 40, 5], [100, 100, 10, 0, 130, 20])


def ruled(policy: Any) -> Rule:
    """The rule of a policy that names no arm."""
    rule: Rule = policy.rule(lambda arm: -1)
    return rule


# by hand


def test_thompson_of_two_is_the_normal_distribution_of_their_difference() -> None:
    """And each gets half of what is spread evenly."""
    found = estimated(model([40, 50], [100, 200]))
    (mean,), (spread,) = found.mean, found.spread
    first = special.ndtr((mean[0] - mean[1]) / (0.5 * math.hypot(*spread)))
    p = Thompson(scale=0.5, explore=0.1).probabilities(found)[0]
    assert p == pytest.approx([0.9 * first + 0.05, 0.9 * (1 - first) + 0.05], abs=1e-13)


def test_thompson_is_as_often_as_draws_of_the_estimates_are_the_largest() -> None:
    """A million draws for six arms, one of them never shown: counts within five standard deviations."""
    found, n = estimated(SIX), 1_000_000
    draws = found.mean[0] + 2 * found.spread[0] * np.random.default_rng(1).normal(size=(n, 6))
    p = Thompson(scale=2.0, explore=0.0).probabilities(found)[0]
    counts = np.bincount(draws.argmax(axis=1), minlength=6)
    assert (np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p))).all()


@pytest.mark.parametrize("fresh", [0, 1, 2, 300])
def test_arms_that_nobody_has_seen_are_as_likely_as_each_alone_would_be(fresh: int) -> None:
    """They are counted together, and the same comes out as for normals one by one, whichever may be shown."""
    scorer = model([30, 10] + [0] * fresh, [100, 50] + [0] * fresh)
    masks = np.random.default_rng(0).random((3, 2 + fresh)) < 0.6
    masks[:, 0] = True
    masks[0], masks[1, 2:] = True, False
    found = estimated(scorer, *masks.tolist())
    sd = np.broadcast_to(found.spread, masks.shape)
    assert Thompson(scale=1.0, explore=0.0).probabilities(found) == pytest.approx(largest(found.mean, sd), abs=1e-12)


@pytest.mark.parametrize("policy", [Thompson(scale=0.0, explore=0.1), Thompson(explore=0.1)])
def test_thompson_without_spread_shows_the_best_and_ties_share(policy: Thompson) -> None:
    """At scale 0, and where the noise is 0: as epsilon-greedy, with the same ties."""
    noise = None if policy.scale == 0 else 0.0
    p = policy.probabilities(estimated(model([300, 100, 300, 0], [1000] * 4, noise=noise)))
    np.testing.assert_allclose(p, [[0.475, 0.025, 0.475, 0.025]], rtol=1e-14)


def test_inverse_gap_by_hand() -> None:
    """gamma = 2 sqrt(3 300 / 1) = 60 for three arms; 1 / (3 + 60 gap / span) behind the best, which has the rest."""
    scorer = model([30, 40, 50], [100, 100, 100])
    assert scorer.derived.impressions == 300
    assert scorer.derived.span == 1.0  # clicks: the whole range
    found = estimated(scorer, [True] * 3, [True, True, False])
    mean = found.mean[0]
    behind = [1 / (3 + 60 * (mean[2] - mean[a])) for a in (0, 1)]
    p = InverseGap(gamma_scale=2.0, explore=0.0).probabilities(found)
    assert p[0] == pytest.approx([*behind, 1 - sum(behind)], rel=1e-13)
    two = 1 / (2 + 2 * math.sqrt(2 * 300) * (mean[1] - mean[0]))  # among the two that may be shown
    assert p[1] == pytest.approx([two, 1 - two, 0.0], rel=1e-13)
    even = InverseGap(gamma_scale=2.0, explore=0.3).probabilities(found)[0]
    assert even == pytest.approx(0.7 * p[0] + 0.1, rel=1e-13)


def test_before_anything_is_learned_every_arm_is_as_likely() -> None:
    """By each of the three."""
    for policy in ALL:
        p = ruled(policy).probabilities(estimated(model([0] * 5, [0] * 5)))
        assert p == pytest.approx(np.full((1, 5), 0.2), rel=1e-14)


def test_softmax_by_hand() -> None:
    """Arms are exp(gap / (0.5 sigma_pool)) times as likely."""
    found = estimated(model([30, 40, 50], [100, 100, 100]))
    mean, pool = found.mean[0], found.derived.pool
    odds = np.exp(mean / (0.5 * pool))
    p = Softmax(temperature=0.5, explore=0.2).probabilities(found)[0]
    assert p == pytest.approx(0.8 * odds / odds.sum() + 0.2 / 3, rel=1e-13)


@pytest.mark.parametrize("policy", ALL)
def test_the_unit_of_the_reward_changes_nothing(policy: Any) -> None:
    """Clicks, or the same in units of a billionth or a billion."""
    usual = ruled(policy).probabilities(estimated(SIX))
    for unit in (1e-9, 1e9):
        scorer = model([30, 33, 2, 0, 40, 5], [100, 100, 10, 0, 130, 20], unit=unit)
        assert ruled(policy).probabilities(estimated(scorer)) == pytest.approx(usual, rel=1e-6, abs=1e-12)


def test_a_range_that_is_far_too_wide_does_not_make_inverse_gap_even() -> None:
    """Rewards of 1 in a range up to a million: the span is by what came, three standard deviations to either side."""
    narrow, wide = model([30, 60], [100, 100]), model([30, 60], [100, 100])
    wide.ridge = Ridge(np.ones(1), np.array([1 / CREDIT]), high=1e6)
    wide.derived = wide.derive()
    assert narrow.derived.span == 1.0
    assert wide.derived.span < 5
    p = InverseGap(explore=0.0).probabilities(estimated(wide))[0]
    assert p[0] < 0.1


# what holds of each


@given(
    st.sampled_from(ALL),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=12),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_probabilities_are_a_distribution_over_the_eligible(
    policy: Any, arms: list[tuple[int, int]], explore: float, seed: int
) -> None:
    """Sums of 1, exactly 0 elsewhere, nobody below explore / |eligible|; a batch is its rows; order changes nothing."""
    rng, policy = np.random.default_rng(seed), msgspec.structs.replace(policy, explore=explore)
    rewards, shown = [min(each) for each in arms], [each[1] for each in arms]
    eligible = rng.random((3, len(arms))) < 0.7
    eligible[np.arange(3), rng.integers(0, len(arms), 3)] = True
    scorer = model(rewards, shown)
    p = ruled(policy).probabilities(estimated(scorer, *eligible.tolist()))
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-13
    assert not p[~eligible].any()
    floor = explore / eligible.sum(axis=1, keepdims=True)
    assert (p >= floor * (1 - 1e-12))[eligible].all()
    for i in range(3):
        alone = ruled(policy).probabilities(estimated(scorer, eligible[i].tolist()))
        assert alone[0] == pytest.approx(p[i], abs=1e-13)
    order = rng.permutation(len(arms))
    other = model([rewards[a] for a in order], [shown[a] for a in order])
    moved = ruled(policy).probabilities(estimated(other, *eligible[:, order].tolist()))
    assert moved == pytest.approx(p[:, order], abs=1e-11)
    for a, b in zip(*np.nonzero([[one == two for one in arms] for two in arms]), strict=True):
        both = eligible[:, a] & eligible[:, b]
        assert p[both, a] == pytest.approx(p[both, b], abs=1e-12)


@pytest.mark.parametrize("policy", ALL)
def test_on_a_grid_of_u_each_arm_comes_as_often_as_its_probability_says(policy: Any) -> None:
    """Of 100,000 numbers within one."""
    n = 100_000
    p = ruled(policy).probabilities(estimated(SIX, [True, True, False, True, True, True]))
    counts = np.bincount(draw(np.broadcast_to(p, (n, 6)), np.arange(n) / n), minlength=6)
    assert (np.abs(counts - n * p[0]) < 1 + 1e-9).all()
    assert counts[2] == 0


@pytest.mark.parametrize("policy", ALL)
def test_the_better_estimate_is_never_the_less_likely_where_all_is_as_uncertain(policy: Any) -> None:
    """Arms shown equally often, in the order of their rewards."""
    p = ruled(policy).probabilities(estimated(model([10, 20, 30, 40, 50], [100] * 5)))[0]
    assert (np.diff(p) >= 0).all()
    assert p[4] > p[0]


@pytest.mark.parametrize("policy", ALL)
def test_people_are_told_the_estimate_as_the_score(policy: Any) -> None:
    """There is no other number that arms are ranked by."""
    assert ruled(policy).score(None, 0, 0.3, 0.7) == 0.3
    assert ruled(policy).leading(estimated(SIX), np.array([2])) is None


# as parts of a document


@pytest.mark.parametrize("kind", [Thompson, InverseGap, Softmax])
def test_a_document_names_it_by_its_type(kind: Any) -> None:
    """With its defaults where nothing else is said, and it is written back whole."""
    tag = str(kind.__struct_config__.tag)
    document = parse_document(json.dumps({"rewards": {"click": {}}, "arms": ["a"], "policy": {"type": tag}}).encode())
    assert document.policy == kind()
    assert msgspec.json.decode(msgspec.json.encode(document), type=Document) == document
    assert document.evaluable
    assert not msgspec.structs.replace(document, policy=kind(explore=0.0)).evaluable


@pytest.mark.parametrize(
    ("policy", "pointer"),
    [
        ({"type": "thompson", "scale": -0.1}, "/policy/scale"),
        ({"type": "thompson", "scale": 1e7}, "/policy/scale"),
        ({"type": "thompson", "explore": 1.1}, "/policy/explore"),
        ({"type": "thompson", "alpha": 1}, "/policy/alpha"),
        ({"type": "inverse-gap", "gamma_scale": -1}, "/policy/gamma_scale"),
        ({"type": "inverse-gap", "gamma_scale": "10"}, "/policy/gamma_scale"),
        ({"type": "softmax", "temperature": 0}, "/policy/temperature"),
        ({"type": "softmax", "temprature": 1}, "/policy/temprature"),
        ({"type": "softmax", "explore": -0.1}, "/policy/explore"),
        ({"type": "inverse_gap"}, "/policy/type"),
        ({"type": "thomson"}, "/policy/type"),
    ],
)
def test_what_is_out_of_its_limits_is_refused_with_its_place(policy: dict[str, Any], pointer: str) -> None:
    """Each parameter, those of other policies, and names that are nearly right."""
    with pytest.raises(Problem) as found:
        parse_document(json.dumps({"rewards": {"click": {}}, "arms": ["a"], "policy": policy}).encode())
    assert [fault.pointer for fault in found.value.faults] == [pointer]
    if pointer == "/policy/type" and policy["type"] == "thomson":
        assert "thompson" in found.value.faults[0].expected


def test_the_least_and_the_largest_settings_still_make_distributions() -> None:
    """Scales and temperatures at both of their ends."""
    found = estimated(SIX, [True] * 6, [False, True, True, True, False, False])
    ends: list[Policy] = [
        Thompson(scale=1e-300), Thompson(scale=1e6), InverseGap(gamma_scale=0.0), InverseGap(gamma_scale=1e6),
        Softmax(temperature=5e-324), Softmax(temperature=1e6),
    ]  # fmt: skip
    for policy in ends:
        p = ruled(policy).probabilities(found)
        assert np.isfinite(p).all()
        assert np.abs(p.sum(axis=1) - 1).max() < 1e-13
        assert not p[1, [0, 4, 5]].any()
