"""Sweeps: every combination once, and what choosing the best costs is shown."""

from typing import Any

import numpy as np
import pytest

from simulator.environments.synthetic import Synthetic
from simulator.logged import Log
from simulator.runs import Results, Row
from simulator.selection import select
from simulator.spread import processes, serial
from simulator.sweeps import Tried, chosen, chosen_by_seeds, halves, sweep, sweep_log, variants

SMALL = Synthetic("small", arms=3, features=2, rounds=300)


def noise(n: int = 4000, K: int = 4, seed: int = 0) -> Log:
    """A uniform log in which all arms earn 1/2: there is nothing to find."""
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, K, n)
    return Log(tuple("abcdefgh"[:K]), arm, (rng.random(n) < 0.5) * 1.0, np.full(n, 1 / K))


def fixed(log: Log) -> dict[str, Any]:
    """Each arm as a policy that always shows it."""
    return {name: np.tile(np.eye(log.K)[a], (len(log), 1)) for a, name in enumerate(log.arms)}


def test_every_combination_is_tried_once() -> None:
    """Two alphas, two lambdas and an interval: four policies that say what they are."""
    found = variants("linucb:explore=0", {"alpha": [0.5, 1.0], "lambda": [1, 10], "refresh": [50]})
    assert [spec.name for spec in found] == [
        f"linucb:explore=0,alpha={a},lambda={lam},refresh=50" for a in (0.5, 1.0) for lam in (1, 10)
    ]
    assert {spec.refresh for spec in found} == {50}
    assert found[-1].options == {"explore": 0, "alpha": 1.0, "lambda": 10}


def test_settings_make_a_difference_where_they_should() -> None:
    """explore 1 is uniform, explore 0 is not; both are played under every seed."""
    results = sweep(SMALL, "linucb", {"explore": [0.0, 1.0]}, seeds=3, spread=serial)
    assert [row.seed for row in results.rows] == [0, 1, 2, 0, 1, 2]
    regrets = [np.mean([row.regret_of_uniform for row in results.rows[at : at + 3]]) for at in (0, 3)]
    assert regrets[0] < 85
    assert regrets[1] == pytest.approx(100, abs=12)


def test_one_half_of_the_seeds_chooses_and_the_other_judges() -> None:
    """By hand: over seeds 0 and 2 policy a leads with 3; over 1 and 3 it has 1. b is the other way round."""
    a, b = (3.0, 1.0, 3.0, 1.0), (1.0, 3.0, 1.0, 3.0)
    rows = [Row(name, seed, 1, value, 0) for name, values in (("a", a), ("b", b)) for seed, value in enumerate(values)]
    found = chosen_by_seeds(Results(rows, []))
    assert (found.policy, found.choosing, found.held_out, found.held_out_error) == ("a", 3.0, 1.0, 0.0)
    assert found.optimism == 2.0
    with pytest.raises(ValueError, match="two seeds or more"):
        chosen_by_seeds(Results(rows[:1], []))


def test_halves_divide_no_user_and_keep_the_order() -> None:
    """30 users over 300 rows: each is in one half, and all rows are in exactly one."""
    user = np.random.default_rng(0).integers(0, 30, 300).astype(str)
    log = Log(("a",), np.zeros(300, np.int64), np.zeros(300), np.ones(300), user=user)
    one, other = halves(log)
    assert not set(user[one]) & set(user[other])
    assert sorted([*one, *other]) == list(range(300))
    assert (np.diff(one) > 0).all()
    assert 10 <= len(set(user[one])) <= 20


def test_a_log_is_swept_in_both_halves_and_in_parallel_alike() -> None:
    """Two settings in two processes give what they give here."""
    log = noise(1500)
    grid = {"explore": [0.0, 0.5]}
    one = sweep_log(log, "linucb", grid, spread=serial)
    assert one == sweep_log(log, "linucb", grid, spread=processes(2))
    assert [each.policy for each in one] == ["linucb:explore=0.0", "linucb:explore=0.5"]
    assert all(150 < each.matches < 250 for each in one)


def test_the_best_of_a_log_is_chosen_by_the_half_that_chooses() -> None:
    """The largest value there; settings without any match are no choice."""
    tried = [Tried("a", 0.4, 0.1, 0.3, 0.1), Tried("b", 0.5, 0.1, 0.2, 0.1), Tried("c", float("nan"), 0.1, 0.9, 0.1)]
    found = chosen(tried)
    assert (found.policy, found.held_out) == ("b", 0.2)
    assert found.optimism == pytest.approx(0.3)
    with pytest.raises(ValueError, match="nothing matched"):
        chosen(tried[2:])


def test_choosing_among_equals_is_optimistic_and_the_other_half_is_not() -> None:
    """Eight arms that all earn 1/2, 30 logs: the chosen one looks better, and is valued 1/2 on the other half."""
    found = [select(noise(1600, 8, seed), fixed(noise(1600, 8, seed)), seed=seed).chosen for seed in range(30)]
    held_out = np.array([each.held_out for each in found])
    assert np.mean([each.choosing for each in found]) > 0.54
    assert abs(held_out.mean() - 0.5) < 4 * held_out.std(ddof=1) / np.sqrt(30)
    assert np.mean([each.optimism for each in found]) > 0.03


def test_selection_reports_the_interval_of_the_half_that_did_not_choose() -> None:
    """Arm b earns .9, others .5: it is chosen, its interval covers .9, and every candidate has both values."""
    log = noise(8000)
    rng = np.random.default_rng(5)
    log.reward[log.arm == 1] = rng.random((log.arm == 1).sum()) < 0.9
    found = select(log, fixed(log))
    assert found.chosen.policy == "b"
    assert found.verdict == "interval"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.9 < found.high
    assert [each.policy for each in found.tried] == ["a", "b", "c", "d"]
