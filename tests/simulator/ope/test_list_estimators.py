"""List estimators: every list of a problem with three arms and two positions, enumerated."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from logs import Array

from simulator.ope.estimators import dr
from simulator.ope.list_estimators import (
    cascade_dr,
    given_above,
    independent,
    prefix_weights,
    reward_interaction,
    standard,
)

K, k = 3, 2
LISTS = list(permutations(range(K), k))
FIRST = {"mu": np.array([0.5, 0.3, 0.2]), "pi": np.array([0.1, 0.3, 0.6])}
SECOND = {
    "mu": np.array([0.2, 0.5, 0.3]),
    "pi": np.array([0.6, 0.1, 0.3]),
}  # taste at position 1, renormalised to the rest
Q = np.random.default_rng(0).random((k, K, K))  # any model: [position, arm above, arm]; position 0 uses the first line
Rewards = Callable[[tuple[int, ...]], list[float]]


def choices(policy: str, above: tuple[int, ...]) -> Array:
    """Probability of every arm at the next position."""
    if not above:
        return FIRST[policy]
    left = np.where(np.isin(np.arange(K), above), 0, SECOND[policy])
    return left / left.sum()


def steps(policy: str, shown: tuple[int, ...]) -> Array:
    """Conditional probabilities of a list, position by position."""
    return np.array([choices(policy, shown[:j])[shown[j]] for j in range(k)])


def marginals(policy: str, shown: tuple[int, ...]) -> Array:
    """Probability of each arm of a list at its position, over all lists."""
    return np.array([sum(steps(policy, each).prod() for each in LISTS if each[j] == shown[j]) for j in range(k)])


def own_arm_only(shown: tuple[int, ...]) -> list[float]:
    """A reward that depends on its own arm and position."""
    return [0.1 + 0.2 * shown[0], 0.7 - 0.3 * shown[1]]


def arms_above(shown: tuple[int, ...]) -> list[float]:
    """A reward that also depends on the arm above: the reader stops after arm 2."""
    return [0.1 + 0.2 * shown[0], 0.0 if shown[0] == 2 else 0.7 - 0.3 * shown[1]]


def whole_list(shown: tuple[int, ...]) -> list[float]:
    """A reward at the first position that depends on the second."""
    return [0.5 if shown[1] == 0 else 0.1, 0.4]


def value(rewards: Rewards) -> float:
    """The target's value: over all its lists."""
    return sum(steps("pi", shown).prod() * sum(rewards(shown)) for shown in LISTS)


def expectation(name: str, rewards: Rewards) -> float:
    """An estimator's expected value: over all lists of the logging policy."""
    total = 0.0
    for shown in LISTS:
        reward, p, t = np.array([rewards(shown)]), steps("mu", shown)[None], steps("pi", shown)[None]
        match name:
            case "standard":
                estimate = standard(reward, p, t)
            case "independent":
                estimate = independent(reward, marginals("mu", shown)[None], marginals("pi", shown)[None])
            case "interaction":
                estimate = reward_interaction(reward, p, t)
            case _:
                table = np.array([[choices("pi", shown[:j]) for j in range(k)]])
                model = np.array([[Q[0, 0], Q[1, shown[0]]]])
                estimate = cascade_dr(reward, np.array([shown]), p, t, table, model)
        total += steps("mu", shown).prod() * estimate.value
    return total


UNBIASED = {
    "standard": (own_arm_only, arms_above, whole_list),
    "interaction": (own_arm_only, arms_above),
    "cascade": (own_arm_only, arms_above),
    "independent": (own_arm_only,),
}


@pytest.mark.parametrize("rewards", [own_arm_only, arms_above, whole_list])
@pytest.mark.parametrize("name", list(UNBIASED))
def test_list_estimators_are_unbiased_exactly_where_their_assumption_holds(name: str, rewards: Rewards) -> None:
    """Over every list; and off by more than .01 where a reward depends on more than they assume."""
    found, true = expectation(name, rewards), value(rewards)
    if rewards in UNBIASED[name]:
        assert found == pytest.approx(true, rel=1e-12)
    else:
        assert abs(found - true) > 0.01


def test_list_weights_are_products_down_to_each_place() -> None:
    """By hand: .2/.4 = .5, times .9/.3 = 1.5."""
    assert prefix_weights(np.array([[0.4, 0.3]]), np.array([[0.2, 0.9]]))[0].tolist() == pytest.approx([0.5, 1.5])


def test_prefix_probabilities_become_conditional_ones() -> None:
    """What epsilon-greedy lists log: (1 - eps) 1[greedy prefix] + eps (K - j)! / K!, for each list of three arms."""
    eps, K3 = 0.3, 6
    for shown in permutations(range(3)):
        prefix = np.array([[0.7 * (shown[:j] == (0, 1, 2)[:j]) + eps / n for j, n in ((1, 3), (2, 6), (3, K3))]])
        step = given_above(prefix)
        assert step.cumprod(axis=1) == pytest.approx(prefix)
        assert step[0, 2] == pytest.approx(1.0)  # the last arm is the only one left
    assert given_above(np.array([[0.0, 0.0]])).tolist() == [[0, 0]]


def test_cascade_dr_with_one_place_is_dr_and_without_model_reward_interaction() -> None:
    """Its two limits."""
    rng = np.random.default_rng(0)
    reward, arm, p, t = rng.random((9, 1)), rng.integers(0, 3, (9, 1)), np.full((9, 1), 0.3), np.full((9, 1), 0.5)
    table, model = rng.dirichlet(np.ones(3), (9, 1)), rng.random((9, 1, 3))
    q, v = model[np.arange(9), 0, arm[:, 0]], (table * model).sum(axis=2)[:, 0]
    one = cascade_dr(reward, arm, p, t, table, model)
    assert one.value == pytest.approx(dr(reward[:, 0], p[:, 0], t[:, 0], q, v).value)
    assert cascade_dr(reward, arm, p, t, table, 0 * model).value == pytest.approx(
        reward_interaction(reward, p, t).value
    )


def test_a_good_model_makes_cascade_dr_vary_less() -> None:
    """With the true expected rewards of the positions to come, the spread over lists falls to that of the target's."""

    def spread(model: Callable[[int, tuple[int, ...]], Array]) -> float:
        mean = square = 0.0
        for shown in LISTS:
            table = np.array([[choices("pi", shown[:j]) for j in range(k)]])
            q = np.array([[model(j, shown) for j in range(k)]])
            p, t = steps("mu", shown)[None], steps("pi", shown)[None]
            each = cascade_dr(np.array([arms_above(shown)]), np.array([shown]), p, t, table, q).value
            mean += p.prod() * each
            square += p.prod() * each**2
        return square - mean**2

    def truth(j: int, shown: tuple[int, ...]) -> Array:
        if j == 1:
            return np.array([arms_above((shown[0], a))[1] for a in range(K)])
        after = [choices("pi", (a,)) @ [arms_above((a, b))[1] for b in range(K)] for a in range(K)]
        return np.array([arms_above((a, 0))[0] + after[a] for a in range(K)])

    assert spread(truth) < 1e-12
    assert spread(lambda j, shown: np.zeros(K)) > 0.05


def test_a_lists_row_weight_counts_it_as_often() -> None:
    """Weights 1 and 3 are the second list three times."""
    rng = np.random.default_rng(0)
    reward, p, t = rng.random((2, 2)), np.full((2, 2), 0.5), np.array([[0.2, 0.9], [0.7, 0.4]])
    for each in (standard, independent, reward_interaction):
        thrice = [np.repeat(table, [1, 3], axis=0) for table in (reward, p, t)]
        assert each(reward, p, t, np.array([1.0, 3.0])).value == pytest.approx(each(*thrice).value)


def test_a_propensity_of_zero_is_refused() -> None:
    """Position 1 of list 1 is row 3 of the flattened table."""
    with pytest.raises(ValueError, match=r"row 3 has 0\.0"):
        standard(np.ones((2, 2)), np.array([[0.5, 0.5], [0.5, 0.0]]), np.ones((2, 2)))
