"""What is explored, how much and over which arms: by hand, by enumeration and by drawing, for every policy."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import after, contexts, events, experiment, trained
from test_randomised import SIX, estimated, ruled
from test_randomised import model as of_rewards

from bandit.core.document import faults_of
from bandit.core.draw import draw
from bandit.core.policies import EpsilonGreedy, InverseGap, LinUCB, Softmax, Thompson
from bandit.core.policies.rule import explored
from bandit.core.validation import parse_document
from bandit.errors import Problem

ALL: list[Any] = [LinUCB(), EpsilonGreedy(), Thompson(), InverseGap(), Softmax()]
ARMS = [f"a{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("mu", "share"), [(0.5, 0.01), (0.05, 0.01), (0.01, 0.02), (0.99, 0.02), (2, 0.02), (-1, 0.02)]
)
def test_rare_rewards_count_for_less(mu: float, share: float) -> None:
    """After 4,000 impressions of clicks: at 1 % (or 99) they count for 990, so that as much is explored as at first."""
    derived = of_rewards([0, 0], [0, 0]).derived._replace(impressions=4000.0, mu=mu, low=0.0, span=1.0)
    assert explored("auto", derived) == pytest.approx(share, rel=1e-15)
    derived = derived._replace(impressions=16_000.0, mu=-2 + 3 * 0.01, low=-2.0, span=3.0)
    assert explored("auto", derived) == pytest.approx(0.02 * (1000 / (16_000 * 25 * 0.01 * 0.99)) ** 0.5, rel=1e-9)


def aimed(policy: Any, *challengers: str, explore: float = 0.3) -> Any:
    """The rule of the policy with these challengers, for six arms of which a5 has no slot."""
    policy = msgspec.structs.replace(policy, explore=explore, challengers=challengers)
    return policy.rule(lambda arm: ARMS.index(arm) if arm != "a5" else -1)


@pytest.mark.parametrize(
    ("impressions", "share"),
    [(0, 0.02), (1, 0.02), (1000, 0.02), (4000, 0.01), (16_000, 0.005), (16_001, 0.005), (10**9, 0.005)],
)
def test_auto_falls_with_the_root_of_the_impressions_to_a_floor(impressions: int, share: float) -> None:
    """By hand: .02 up to 1,000, half of it at 4,000, a quarter from 16,000 on; a number is what it says."""
    derived = of_rewards([0, 0], [0, 0]).derived._replace(impressions=float(impressions), mu=0.5, low=0.0, span=1.0)
    assert explored("auto", derived) == pytest.approx(share, rel=1e-15)
    assert explored(0.3, derived) == 0.3


@pytest.mark.parametrize("policy", ALL, ids=lambda policy: type(policy).__name__)
def test_every_policy_explores_by_what_its_model_knows(policy: Any) -> None:
    """4,000 impressions: as a share of .01 has it, with all arms and with some."""
    found = estimated(of_rewards([300, 500, 100], [1000, 2000, 1000]), [True] * 3, [True, False, True])
    number = msgspec.structs.replace(policy, explore=0.01)
    assert policy.explore == "auto"
    np.testing.assert_array_equal(ruled(policy).probabilities(found), ruled(number).probabilities(found))


@pytest.mark.parametrize("policy", ALL, ids=lambda policy: type(policy).__name__)
def test_half_of_what_is_explored_is_spread_over_the_challengers(policy: Any) -> None:
    """(1 - e) own + e/2 1[a in C]/|C| + e/2 /|eligible|, for two of them eligible, one, and none; one has no slot."""
    rows = [[True] * 6, [True, False, True, True, True, True], [True, False, True, False, False, True]]
    found = estimated(SIX, *rows)
    own = ruled(msgspec.structs.replace(policy, explore=0.0)).probabilities(found)
    even = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    half = np.array([[0, 0.5, 0, 0.5, 0, 0], [0, 0, 0, 1, 0, 0], even[2]])
    p = aimed(policy, "a1", "a3", "a5", "a1").probabilities(found)
    np.testing.assert_allclose(p, 0.7 * own + 0.15 * half + 0.15 * even, rtol=0, atol=1e-15)
    assert not p[~np.array(rows)].any()


@given(st.sampled_from(ALL), st.floats(0, 1), st.sets(st.sampled_from(ARMS), min_size=1), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_with_challengers_it_is_a_distribution_with_a_floor(
    policy: Any, explore: float, challengers: set[str], seed: int
) -> None:
    """Rows sum to 1, nobody eligible is below half of the even share, others have 0; a batch is its rows."""
    rows = np.random.default_rng(seed).random((3, 6)) < 0.6
    rows[:, 0] = True
    rule = aimed(policy, *sorted(challengers), explore=explore)
    p = rule.probabilities(estimated(SIX, *rows.tolist()))
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-13
    assert not p[~rows].any()
    assert (p >= explore / 2 / rows.sum(axis=1, keepdims=True) * (1 - 1e-12))[rows].all()
    for i in range(3):
        assert rule.probabilities(estimated(SIX, rows[i].tolist()))[0] == pytest.approx(p[i], abs=1e-13)


@pytest.mark.parametrize("policy", ALL, ids=lambda policy: type(policy).__name__)
def test_with_challengers_each_arm_comes_as_often_as_its_probability_says(policy: Any) -> None:
    """Of 100,000 numbers on a grid within one."""
    n = 100_000
    p = aimed(policy, "a0", "a2").probabilities(estimated(SIX, [True, True, False, True, True, True]))
    counts = np.bincount(draw(np.broadcast_to(p, (n, 6)), np.arange(n) / n), minlength=6)
    assert (np.abs(counts - n * p[0]) < 1 + 1e-9).all()
    assert counts[2] == 0


@pytest.mark.parametrize("tag", ["linucb", "epsilon-greedy", "thompson"])
def test_the_engine_draws_arms_and_lists_with_the_challengers_that_are_eligible(tag: str) -> None:
    """Of five arms, the first of them retired, so that slots are no indices; explore 1: only what is explored."""
    policy = {"type": tag, "explore": 1, "challengers": ["a4", "a2"]}
    model = trained(experiment(K=5), events(3, 300, K=5))
    model.adopt(after(model.experiment, arms=["a1", "a2", "a3", "a4"], policy=policy))
    n = 4000
    e, x, u = model.experiment, contexts(5, n), np.random.default_rng(1).random(n)
    one, three = (model.decide(e, x, None, [k] * n, u) for k in (1, 3))
    expected = [0, 0.125, 0.375, 0.125, 0.375]
    np.testing.assert_allclose(one.probabilities, np.broadcast_to(expected, (n, 5)), rtol=0, atol=1e-15)
    for decided in (one, three):
        counts = np.bincount([choice.arms[0] for choice in decided.choices], minlength=5)
        assert (np.abs(counts - n * np.array(expected)) <= 5 * np.sqrt(n * 0.25)).all()
        assert all(choice.propensities[0] == pytest.approx(expected[choice.arms[0]]) for choice in decided.choices)
    none = model.decide(e, x[:1], np.array([[False, True, False, True, False]]), [1], u[:1]).probabilities
    np.testing.assert_allclose(none, [[0, 0.5, 0, 0.5, 0]])


@pytest.mark.parametrize("tag", ["linucb", "epsilon-greedy"])
def test_lists_by_one_coin_have_their_probabilities(tag: str) -> None:
    """Of a1 to a3, a3 aimed at, after 4,000 impressions: e .01, by hand for a list that begins with the challenger."""
    policy = {"type": tag, "challengers": ["a3"]}
    model = trained(experiment(policy=policy), events(3, 4000))
    mask = np.array([[False, True, True, True]])
    x, u = np.repeat(contexts(6, 1), 3000, axis=0), 1 - np.arange(1, 3001) / 3000 / 100
    found = {c.arms: c for c in model.decide(model.experiment, x, mask, [3] * 3000, u).choices}
    p = model.probabilities(x[:1], mask)[0]
    best = int(p.argmax())
    assert len(found) == 6
    for arms, choice in found.items():
        q = [2 / 3 if arm == 3 else 1 / 6 for arm in arms]
        assert choice.propensities[0] == pytest.approx(p[arms[0]], rel=1e-12)
        assert choice.marginals[0] == pytest.approx(p[arms[0]], rel=1e-12)
        assert choice.propensities[0] == pytest.approx(0.99 * (arms[0] == best) + 0.01 * q[0], rel=1e-12)
        low = [0.01 * (1 - q[j]) / 2 for j in (1, 2)]
        assert all(choice.marginals[j] in (pytest.approx(low[j - 1]), pytest.approx(0.99 + low[j - 1])) for j in (1, 2))
        if arms[0] != best:
            assert choice.propensities[1:] == pytest.approx((1 / 2, 1))
    counts = np.bincount([c.arms[0] for c in model.decide(model.experiment, x, mask, [3] * 3000, u).choices])
    assert abs(counts[3] - 2000) <= 5 * np.sqrt(3000 * 2 / 9)


def test_places_drawn_for_themselves_are_aimed_at_the_challengers_left() -> None:
    """The second place is what one arm would be without the first."""
    model = trained(experiment(policy={"type": "softmax", "explore": 0.4, "challengers": ["a1", "a2"]}), events(3, 300))
    x, u = contexts(6, 60), np.random.default_rng(2).random(60)
    for i, choice in enumerate(model.decide(model.experiment, x, None, [2] * 60, u).choices):
        left = np.ones((1, 4), bool)
        left[0, choice.arms[0]] = False
        p = model.probabilities(x[[i]], left)[0]
        assert choice.propensities[1] == pytest.approx(p[choice.arms[1]], rel=1e-9)


# as parts of a document


def document(**changes: Any) -> Any:
    """A document of the arms old and new."""
    return parse_document(json.dumps({"rewards": {"click": {}}, "arms": ["old", "new"], **changes}).encode())


@pytest.mark.parametrize("tag", ["linucb", "epsilon-greedy", "thompson", "inverse-gap", "softmax"])
def test_candidates_are_arms_of_the_document_here_and_in_slices(tag: str) -> None:
    """One that is not, or is no more, is told with its place and the nearest name; unset, none are written."""
    policy, plain = {"type": tag, "challengers": ["new", "odl"]}, {"type": tag}
    sliced = {"a": {"share": 0.5, "policy": policy}, "b": {"policy": plain}}
    (one,) = faults_of(document(policy=policy), {})
    (other,) = faults_of(document(policy=plain, slices=sliced), {})
    assert (one.pointer, other.pointer) == ("/policy/challengers/1", "/slices/a/policy/challengers/1")
    assert one.expected == other.expected == "an arm of this document; did you mean 'old'?"
    fits = document(policy={"type": tag, "challengers": ["new", "old"]})
    assert not list(faults_of(fits, {}))
    assert [f.pointer for f in faults_of(msgspec.structs.replace(fits, arms=("new",)), {})] == ["/policy/challengers/1"]
    assert "challengers" not in msgspec.to_builtins(document(policy=plain).policy)
    assert msgspec.to_builtins(fits.policy)["challengers"] == ("new", "old")


def test_auto_is_a_share_that_lets_evaluate() -> None:
    """As any above 0; uniform and fixed have neither `auto` nor challengers."""
    assert document().evaluable
    assert document(policy={"explore": 0.001}).evaluable
    assert not document(policy={"explore": 0}).evaluable
    assert not document(policy={"type": "fixed", "arm": "old"}).evaluable
    for policy in ({"type": "fixed", "arm": "old", "explore": "auto"}, {"type": "uniform", "challengers": ["old"]}):
        with pytest.raises(Problem):
            document(policy=policy)
