"""Sweeps: every combination once, and what choosing the best costs is shown."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from simulator.environments.synthetic import Synthetic
from simulator.logs.log import Log
from simulator.ope.evaluate import evaluate
from simulator.policies.targets import frozen
from simulator.studies.parallel import processes, serial
from simulator.studies.run import Results, RunRow
from simulator.studies.select import Tried, chosen, halves, select
from simulator.studies.sweep import chosen_by_seeds, not_worse, sweep, sweep_log, variants

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
    rows = [
        RunRow(name, seed, 1, value, 0) for name, values in (("a", a), ("b", b)) for seed, value in enumerate(values)
    ]
    found = chosen_by_seeds(Results(rows, []))
    assert (found.policy, found.choosing, found.held_out, found.held_out_error) == ("a", 3.0, 1.0, 0.0)
    assert found.optimism == 2.0
    with pytest.raises(ValueError, match="two seeds or more"):
        chosen_by_seeds(Results(rows[:1], []))


def test_what_the_judging_seeds_do_not_tell_from_the_chosen_setting_is_named() -> None:
    """By hand, over seeds 1, 3, 5: b is .5 less each time, give or take .01; c is .2 more, .1 less and .3 less."""
    values = {"a": [1.0] * 6, "b": [0.9, 0.5, 0.9, 0.51, 0.9, 0.49], "c": [0.9, 1.2, 0.9, 0.9, 0.9, 0.7]}
    rows = [RunRow(name, seed, 1, value, 0) for name, each in values.items() for seed, value in enumerate(each)]
    results = Results(rows, [])
    assert not_worse(results, chosen_by_seeds(results)) == ["c"]


def test_halves_divide_no_user_and_keep_the_order() -> None:
    """30 users over 300 rows: each is in one half, and all rows are in exactly one."""
    user = np.random.default_rng(0).integers(0, 30, 300).astype(str)
    log = Log(("a",), np.zeros(300, np.int64), np.zeros(300), np.ones(300), user=user)
    one, other = halves(log)
    assert not set(user[one]) & set(user[other])
    assert sorted([*one, *other]) == list(range(300))
    assert (np.diff(one) > 0).all()
    assert 10 <= len(set(user[one])) <= 20


def test_of_a_log_whose_policy_learned_the_earlier_rows_choose() -> None:
    """What was told in the half that chooses shows in later draws, so the other half comes after it; users apart."""
    user = np.random.default_rng(0).integers(0, 30, 300).astype(str)
    plain = Log(("a",), np.zeros(300, np.int64), np.zeros(300), np.ones(300), learning=True)
    one, other = halves(plain)
    assert (one.tolist(), other.tolist()) == (list(range(150)), list(range(150, 300)))
    one, other = halves(replace(plain, user=user))
    assert one.max() < 150 <= other.min()
    assert not set(user[one]) & set(user[other])


def test_places_of_a_list_are_in_one_half() -> None:
    """Three rows a decision, seven decisions: the cut is between two of them."""
    decision = np.repeat(np.arange(7), 3).astype(str)
    one, other = halves(Log(("a",), np.zeros(21, np.int64), np.zeros(21), np.ones(21), decision_id=decision))
    assert (one.max() + 1) % 3 == 0
    assert (one.max() + 1, len(one) + len(other)) == (other.min(), 21)


@pytest.mark.parametrize("by", ["dr", "replay"])
def test_a_log_is_swept_in_parallel_as_one_after_the_other(by: Literal["dr", "replay"]) -> None:
    """Two settings in two processes give what they give here."""
    log = noise(1500)
    grid = {"explore": [0.0, 0.5]}
    one, two = (sweep_log(log, "linucb", grid, by=by, spread=spread) for spread in (serial, processes(2)))
    assert one == two
    assert [each.policy for each in one.tried] == ["linucb:explore=0.0", "linucb:explore=0.5"]


def contextual(n: int = 12_000, seed: int = 0) -> Log:
    """A uniform log of four arms; whichever suits the context earns .6, the others .2."""
    rng = np.random.default_rng(seed)
    kind, arm = rng.integers(0, 4, n), rng.integers(0, 4, n)
    reward = (rng.random(n) < np.where(kind == arm, 0.6, 0.2)) * 1.0
    return Log(tuple("abcd"), arm, reward, np.full(n, 0.25), context=np.eye(4)[kind] * [1, 1, 1, 1] + [1, 0, 0, 0])


def test_a_sweep_values_settings_as_learned_from_rows_before_those_that_value_them() -> None:
    """By the library: frozen after the first half, DR on the last quarter; learned from fewer it is another value."""
    log, cut = noise(1600), 800
    found = sweep_log(log, "popularity", {"refresh": [50]}, spread=serial)
    last = log.take(slice(1200, None))
    for each in found.tried:
        (row,) = evaluate(last, frozen(log, each.policy, cut)[-400:], estimators=["dr"])
        (less,) = evaluate(last, frozen(log, each.policy, cut // 2)[-400:], estimators=["dr"])
        assert each.held_out == pytest.approx(row.value) != pytest.approx(less.value)
        assert (each.low, each.high, each.verdict, each.matches) == (row.low, row.high, row.verdict, 0)


def test_a_sweep_chooses_where_settings_differ_and_says_by_how_much() -> None:
    """Without exploration it earns .6, all exploration .3: chosen, with the other clearly behind, about .3."""
    found = sweep_log(contextual(), "linucb", {"explore": [0.0, 1.0]}, spread=serial)
    assert (found.chosen.policy, found.decided) == ("linucb:explore=0.0", True)
    assert found.worse == ["linucb:explore=1.0"]
    behind = found.tried[1]
    assert behind.behind_low is not None
    assert behind.behind_high is not None
    assert 0 < behind.behind_low < 0.3 < behind.behind_high
    assert [row["chosen"] for row in found.table()] == [True, False]


@pytest.mark.parametrize("by", ["dr", "replay"])
def test_a_sweep_is_refused_where_no_setting_can_be_told_from_another(by: Literal["dr", "replay"]) -> None:
    """Eight settings on a log where all arms earn the same: none is chosen in 19 of 20 logs or more, and it is said."""
    grid, decided = {"alpha": [0.1, 0.5, 1.0, 2.0], "explore": [0.0, 0.5]}, 0
    for seed in range(10):
        found = sweep_log(noise(1200, seed=seed), "linucb", grid, by=by, seed=seed, spread=serial)
        decided += found.decided
        if not found.decided:
            assert found.note.startswith("refused to choose: on this log no policy is clearly worse than the best")
            assert not any(row["chosen"] for row in found.table())
    assert decided <= 1


def test_an_unknown_way_to_value_settings_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="by is one of dr, replay; got 'ips'"):
        sweep_log(noise(100), "linucb", {"alpha": [1]}, by="ips", spread=serial)  # type: ignore[arg-type]


def test_the_best_of_a_log_is_chosen_by_the_half_that_chooses() -> None:
    """The largest value there; settings without any match are no choice."""
    tried = [Tried("a", 0.4, 0.1, 0.3, 0.1), Tried("b", 0.5, 0.1, 0.2, 0.1), Tried("c", float("nan"), 0.1, 0.9, 0.1)]
    found = chosen(tried)
    assert (found.policy, found.held_out) == ("b", 0.2)
    assert found.optimism == pytest.approx(0.3)
    with pytest.raises(ValueError, match="could have been shown there"):
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
    assert found.worse == ["a", "c", "d"]
    assert found.verdict == "interval"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.9 < found.high
    assert [each.policy for each in found.tried] == ["a", "b", "c", "d"]


def test_among_equals_nothing_is_selected_in_nineteen_of_twenty_logs() -> None:
    """Four arms that all earn 1/2, 60 logs: at most 6 choices (of 60 at 5 %: 7 or more in 3 % of the times)."""
    logs = [noise(1000, 4, seed) for seed in range(60)]
    assert sum(select(log, fixed(log), seed=seed).decided for seed, log in enumerate(logs)) <= 6


def test_selection_takes_the_sequence_for_values_that_move_unless_told_that_they_do_not() -> None:
    """On few rows the verdict is a sequence: that of `evaluate` on the half that did not choose, either way."""
    log = noise(160)
    later, targets = log.take(slice(80, None)), fixed(log)
    ends = []
    for drifts in (True, False):
        found = select(log, targets, estimator="ips", drifts=drifts)
        for each, pi in zip(found.tried, targets.values(), strict=True):
            (row,) = evaluate(later, pi[80:], estimators=["ips"], drifts=drifts)
            assert (each.low, each.high, each.verdict) == (row.low, row.high, "sequence")
        ends.append([each.low for each in found.tried])
    assert ends[0] != ends[1]


def test_a_rate_that_moves_stays_inside_what_selection_says_of_its_choice() -> None:
    """Rewards are 0 in the first rows of the half that values and 1 in the others: the mean is in the interval."""
    arm = np.tile([0, 1], 240)
    reward = np.where(arm == 0, 0.0, np.repeat([1.0, 0.0, 1.0], [240, 120, 120]))
    log = Log(("a", "b"), arm, reward, np.full(480, 0.5))
    found = select(log, fixed(log))
    assert found.chosen.policy == "b"
    row = found.tried[1]
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.held_out <= row.high
    assert row.low <= 0.5 <= row.high
