"""Policies: their probabilities by hand, and what holds of them for any estimates."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.policies import LinUCB
from bandit.core.ridge.estimates import Estimates
from bandit.core.ridge.linear import Ridge
from bandit.core.ridge.scoring import Scorer
from bandit.core.sums import ONE, Sums


def means(*rewards: int, n: int = 1000, noise: float = 0.0, d: int = 1) -> Scorer:
    """Arms shown n times without context, with so many rewards of 1; without noise they are scored by their mean."""
    sums = Sums.zeros(len(rewards), 1, d)
    sums.A[:, 0, 0], sums.n[:] = n * ONE**2, n
    sums.B[:, 0, 0] = np.array(rewards) * 10**6 * ONE
    scorer = Scorer(len(rewards), 1, d, Ridge(np.ones(1), np.array([1e-6]), noise=noise))
    scorer.install(np.arange(len(rewards)), scorer.compute(sums, np.arange(len(rewards)), True), True)
    scorer.derived = scorer.derive()
    return scorer


def estimated(scorer: Scorer, *eligible: list[bool]) -> Estimates:
    """The estimates for the context (1), once for each row of eligible arms."""
    return scorer.estimate(np.full((len(eligible), 1), ONE, np.int16), np.array(eligible))


def test_the_best_arm_gets_all_but_its_share_of_exploring() -> None:
    """Four arms, explore 0.2: 0.8 + 0.05 for the best and 0.05 for the others."""
    p = LinUCB(explore=0.2).probabilities(estimated(means(100, 300, 200, 0), [True] * 4))
    np.testing.assert_allclose(p, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-15)


def test_tied_arms_share_evenly() -> None:
    """Two of four arms lead together, explore 0.2: 0.4 + 0.05 each."""
    p = LinUCB(explore=0.2).probabilities(estimated(means(300, 100, 300, 0), [True] * 4))
    np.testing.assert_allclose(p, [[0.45, 0.05, 0.45, 0.05]], rtol=1e-15)


def test_each_row_shares_among_its_own_eligible_arms() -> None:
    """Explore 0.3 over three, two and one eligible arms; the others have exactly 0, the overall best among them."""
    p = LinUCB(explore=0.3).probabilities(
        estimated(means(100, 300, 200), [True] * 3, [True, False, True], [True, False, False])
    )
    np.testing.assert_allclose(p, [[0.1, 0.8, 0.1], [0.15, 0, 0.85], [1, 0, 0]], rtol=1e-15)
    assert (p[[1, 2], 1] == 0).all()


def test_without_exploring_only_the_best_is_shown() -> None:
    """Explore 0 leaves exactly 0 for every other arm, so nothing but the best can be drawn."""
    p = LinUCB(explore=0.0).probabilities(estimated(means(1, 3, 2), [True] * 3))
    assert p.tolist() == [[0.0, 1.0, 0.0]]


def test_exploring_always_is_uniform() -> None:
    """Explore 1 ignores every estimate."""
    p = LinUCB(explore=1.0).probabilities(estimated(means(1, 3, 2), [True, True, True], [True, True, False]))
    np.testing.assert_allclose(p, [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], rtol=1e-15)


def test_alpha_decides_between_the_better_known_and_the_less_known() -> None:
    """Means .3 after 10,000 and .29 after 100 impressions, noise 1: widths .01 and .0995; alpha turns at .11."""
    scorer, rare = means(3000, 0, n=10_000, noise=1.0), means(0, 29, n=100, noise=1.0)
    for ours, theirs in zip(sum(scorer.rows, ()), sum(rare.rows, ()), strict=True):
        ours[1] = theirs[1]
    scorer.derived = scorer.derive()
    known, unknown = ([[1.0, 0.0]], [[0.0, 1.0]])
    found = estimated(scorer, [True, True])
    mean, spread = found.mean[0], found.spread[0]
    turn = (mean[0] - mean[1]) / (spread[1] - spread[0])
    assert turn == pytest.approx(0.11, abs=0.005)
    assert LinUCB(alpha=0.99 * turn, explore=0).probabilities(found).tolist() == known
    assert LinUCB(alpha=1.01 * turn, explore=0).probabilities(found).tolist() == unknown


def test_the_score_is_the_upper_confidence_bound() -> None:
    """mean + alpha sigma width, by hand."""
    derived = means(1, 3, noise=0.5).derived
    score = LinUCB(alpha=2.0).score(derived, slice(None), np.array([0.1, 0.2]), np.array([0.1, 0.0]))
    np.testing.assert_allclose(score, [0.2, 0.2], rtol=1e-15)


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
    st.floats(0, 1),
    st.floats(0, 1e6),
    st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=4),
)
@settings(max_examples=80, deadline=None)
def test_probabilities_are_a_distribution_over_the_eligible(
    rewards: list[int], explore: float, alpha: float, masks: list[list[bool]]
) -> None:
    """Rows sum to 1, no eligible arm is below explore / |eligible|, every other arm has exactly 0."""
    eligible = np.array(masks)[:, : len(rewards)]
    eligible[~eligible.any(axis=1), 0] = True
    p = LinUCB(alpha=alpha, explore=explore).probabilities(estimated(means(*rewards, noise=0.5), *eligible.tolist()))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)  # a few ulp for each arm
    assert not p[~eligible].any()
    floor = explore / eligible.sum(axis=1, keepdims=True)
    assert (p >= floor * (1 - 1e-15))[eligible].all()


@pytest.mark.parametrize(
    "text",
    ['{"alpha": -0.1}', '{"alpha": 1e7}', '{"explore": -0.01}', '{"explore": 1.01}', '{"alpa": 1}', '{"type": "ucb"}',
     '{"alpha": "1"}', '{"explore": true}'],
)  # fmt: skip
def test_a_policy_out_of_its_limits_is_refused(text: str) -> None:
    """alpha in [0, 10^6], explore in [0, 1], both numbers, nothing else; the type is linucb."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=LinUCB)


def test_defaults_are_those_of_the_contract() -> None:
    """An empty object is LinUCB with alpha and explore "auto", and says its type when it is written."""
    assert msgspec.json.decode("{}", type=LinUCB) == LinUCB(alpha="auto", explore="auto")
    assert msgspec.to_builtins(LinUCB()) == {"type": "linucb", "alpha": "auto", "explore": "auto"}
