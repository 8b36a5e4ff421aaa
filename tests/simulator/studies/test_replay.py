"""Replay: against plain loops, known truths and recorded values; and that its accounts are honest."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit.arrays import Matrix, Vector
from simulator.environments.named import named
from simulator.logs.loaders import load
from simulator.logs.log import Log, eligible_of
from simulator.ope import estimators
from simulator.policies.on_log import grid_of, task_of
from simulator.policies.protocol import Learner, Outcomes
from simulator.policies.specs import build, parse
from simulator.studies import replay as replaying
from simulator.studies.lived import SHARE, judge
from simulator.studies.parallel import serial
from simulator.studies.replay import coins, replay, replay_fixed
from simulator.studies.replay_dr import replay_dr
from simulator.studies.run import run

DATA = Path(__file__).parents[2] / "data" / "open-bandit"


def logged(n: int, seed: int = 0, policy: Matrix | None = None, full: bool = True) -> tuple[Log, Matrix]:
    """(a log of the logistic problem by a policy, shape (1, 10), uniform by default; every arm's mean)."""
    episode = named("logistic").episode(seed, n)
    P = np.broadcast_to(np.full((1, 10), 0.1) if policy is None else policy, (n, 10))
    rng = np.random.default_rng(seed)
    arm = (rng.random((n, 1)) < np.cumsum(P, axis=1)).argmax(axis=1)
    rows = np.arange(n)
    log = Log(
        tuple(f"arm{a}" for a in range(10)), arm, episode.reward[rows, arm], P[rows, arm], P if full else None,
        episode.x / 4096,
    )  # fmt: skip
    return log, episode.mean


def skewed() -> Matrix:
    """A logging policy that shows the first arm ten times as often as the last."""
    p = np.linspace(10, 1, 10)
    return (p / p.sum())[None]


def slowly(log: Log, policy: str, refresh: int, seed: int, c: float) -> tuple[list[int], list[Vector]]:
    """(the rows that match, probabilities of all arms in each row as it was met): a loop over rows."""
    learner, u = build(parse(policy), task_of(log, 0)), coins(log, seed)
    matched, waiting, met = [], [], []
    for t in range(len(log)):
        row = np.array([t])
        P = learner.probabilities(grid_of(log, row), eligible_of(log, row))[0]
        met.append(P)
        if u[t] < P[log.arm[t]] * c / log.propensity[t]:
            matched.append(t)
            waiting.append(t)
        if len(waiting) == refresh:
            for each in waiting:
                at = np.array([each])
                own = np.array([met[each][log.arm[each]]])
                learner.learn(
                    Outcomes(grid_of(log, at), log.arm[at], log.reward[at], own, eligible_of(log, at)), told=False
                )
            learner.refresh()
            waiting = []
    return matched, met


def test_replay_of_a_fixed_policy_by_hand() -> None:
    """Arms 0, 1, 0, 1, 0 shown evenly; the target always shows 0: three matches with rewards 1, 0, 1."""
    log = Log(("a", "b"), np.array([0, 1, 0, 1, 0]), np.array([1.0, 1, 0, 0, 1]), np.full(5, 0.5))
    found = replay_fixed(log, np.tile([1.0, 0.0], (5, 1)))
    assert found.matched.tolist() == [0, 2, 4]
    assert found.value == pytest.approx(2 / 3)
    assert (found.matches, found.rows, found.share, found.c) == (3, 5, 0.6, 0.5)


def test_replay_of_uniform_on_a_uniform_log_is_the_mean_of_its_matches() -> None:
    """By hand from the seed's coins: row t matches if u_t < pi c / mu = 1/2; the value is the mean of those rows."""
    reward = np.array([1.0, 0, 0, 1, 1, 0, 1, 0])
    log = Log(("a", "b"), np.array([0, 1] * 4), reward, np.full(8, 0.5))
    u = coins(log, 5)
    expected = [t for t in range(8) if u[t] < 0.5]
    found = replay(log, "uniform", seed=5)
    assert found.matched.tolist() == expected
    assert found.value == np.mean(reward[expected])


@pytest.mark.parametrize(("campaign", "target"), [("men", "det_argmax_bts")])
def test_replay_of_open_bandits_argmax_is_what_obp_says(campaign: str, target: str) -> None:
    """273 matches and the value that obp's ReplayMethod gives, to the last digit."""
    log = load(DATA / "random" / campaign, "open-bandit")
    table = np.zeros((3, log.K))
    with (DATA / f"target_bts_{campaign}.csv").open() as file:
        for row in csv.DictReader(file):
            table[int(row["position"]) - 1, int(row["arm"])] = float(row["probability"])
    found = replay_fixed(log, np.eye(log.K)[table.argmax(axis=1)][log.position])
    recorded = json.loads((DATA / "obp_reference.json").read_text())["values"][f"random/{campaign}/{target}"]["rm"]
    assert found.matches == 273
    assert found.value == pytest.approx(recorded, rel=1e-12)


def test_coins_are_not_the_draws_of_a_log_with_the_same_seed() -> None:
    """A log drawn by numpy's generator of seed 0 and replayed with seed 0: every arm has a tenth of the matches."""
    log, _ = logged(4000, seed=0)
    matched = replay(log, "uniform", seed=0).matched
    np.testing.assert_allclose(np.bincount(log.arm[matched], minlength=10) / len(matched), 0.1, atol=0.05)


@pytest.mark.parametrize("policy", ["linucb", "ucb1", "thompson-free"])
@pytest.mark.parametrize("uneven", [False, True])
def test_replay_is_that_of_a_plain_loop(policy: str, uneven: bool) -> None:
    """Row by row, with one call a row: the same matches, although the fast one looks at many rows at once."""
    log, _ = logged(3000 if uneven else 1000, policy=skewed() if uneven else None)
    found = replay(log, policy, refresh=15, seed=3)
    matched, _ = slowly(log, policy, 15, 3, log.propensity.min())
    assert found.matched.tolist() == matched
    assert found.value == pytest.approx(log.reward[matched].mean())
    assert len(matched) > 30


@pytest.mark.parametrize("piece", [(1, 1), (7, 7), (5000, 5000)])
def test_how_many_rows_are_looked_at_once_changes_nothing(
    piece: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, in sevens, or all: the same matches."""
    log, _ = logged(1500)
    usual = replay(log, "linucb", refresh=20)
    monkeypatch.setattr(replaying, "PIECE", piece)
    assert replay(log, "linucb", refresh=20).matched.tolist() == usual.matched.tolist()


class Listening:
    """Another learner, with all it is told written down."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.told = learner, []  # type: Learner, list[Outcomes]

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """Write down, then learn."""
        assert not told
        self.told.append(outcomes)
        self.learner.learn(outcomes, told=told)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)


def test_a_policy_learns_from_its_matches_only() -> None:
    """What the learner was told is the matched rows, once each and in order, drawn with its own probabilities."""
    log, _ = logged(1500)
    listening = Listening(build(parse("linucb"), task_of(log)))
    found = replay(log, listening, refresh=20)
    assert np.concatenate([told.arm for told in listening.told]).tolist() == log.arm[found.matched].tolist()
    assert np.concatenate([told.reward for told in listening.told]).tolist() == log.reward[found.matched].tolist()
    _, met = slowly(log, "linucb", 20, 0, 0.1)
    own = [met[t][log.arm[t]] for t in found.matched]
    np.testing.assert_allclose(np.concatenate([told.propensity for told in listening.told]), own)


def test_an_uneven_log_gives_the_value_of_another_policy_all_the_same() -> None:
    """Arm 0 earns 1 and is shown often, the others 0: uniform earns .1; matches without c / mu would say about .18."""
    values, naive = [], []
    for seed in range(40):
        log, _ = logged(2000, seed, skewed())
        log = replace(log, reward=(log.arm == 0).astype(float))
        values.append(replay(log, "uniform", seed=seed).value)
        target = np.full(2000, 0.1)
        naive.append(estimators.replay(log.reward, log.propensity, target, acceptance="none", seed=seed + 100).value)
    assert abs(np.mean(values) - 0.1) < 4 * np.std(values, ddof=1) / np.sqrt(40)
    assert np.mean(naive) == pytest.approx(10 / 55, abs=0.02)


def test_a_learning_policy_earns_in_replay_what_it_earns_live() -> None:
    """Ten uniform logs of 4,000 rows: the mean value is that of live runs of as many decisions, within 4 errors."""
    found = [replay(logged(4000, seed)[0], "linucb", refresh=20, seed=seed) for seed in range(10)]
    lived = round(np.mean([each.matches for each in found]))
    live = run(named("logistic"), ["linucb"], rounds=lived, seeds=10, refresh=20, spread=serial).rows
    gaps = np.array([each.value - row.mean_reward for each, row in zip(found, live, strict=True)])
    assert abs(gaps.mean()) < 4 * gaps.std(ddof=1) / np.sqrt(10)
    assert np.mean([each.share for each in found]) == pytest.approx(0.1, abs=0.01)


def test_a_floor_leaves_more_matches_and_counts_what_it_cuts() -> None:
    """By hand: uniform's chance is pi c / mu = .1 * .1 / mu, with c .1: above 1 where mu is below .01, here of no arm.

    With c .9 it is above 1 where mu is below .09: arms 5 to 9. They lack .09 / mu - 1 of what they should have.
    """
    log, _ = logged(3000, policy=skewed())
    plain, floored, high = (replay(log, "uniform", floor=floor) for floor in (0.0, 0.1, 0.9))
    assert (plain.cut, plain.c) == (0, log.propensity.min())
    assert (floored.cut, floored.c) == (0, 0.1)
    beyond = log.propensity < 0.09
    chance = 0.09 / log.propensity
    assert (high.cut, high.c) == (beyond.sum(), 0.9)
    assert high.lacking == pytest.approx((chance[beyond] - 1).sum() / chance.sum())
    assert plain.matches < floored.matches < high.matches


def test_what_a_floor_cuts_does_not_bias_the_value_of_a_policy_that_does_not_learn() -> None:
    """Rows cut to a chance of 1 count for what was cut. Arm 9 earns 1 and is shown rarely: uniform earns .1."""
    found, uncounted = [], []
    for seed in range(40):
        log, _ = logged(2000, seed, skewed())
        log = replace(log, reward=(log.arm == 9).astype(float))
        done = replay(log, "uniform", seed=seed, floor=0.9)
        found.append(done.value)
        uncounted.append(log.reward[done.matched].mean())
    assert abs(np.mean(found) - 0.1) < 4 * np.std(found, ddof=1) / np.sqrt(40)
    assert np.mean(uncounted) < 0.08


def test_rows_that_stand_for_several_match_more_often() -> None:
    """Every second row has weight 4, the others 1: they match a quarter as often."""
    log, _ = logged(4000)
    weighted = Log(
        log.arms, log.arm, log.reward, log.propensity, log.probability, log.context, weight=np.tile([4.0, 1], 2000)
    )
    matched = replay(weighted, "uniform").matched
    heavy, light = (matched % 2 == 0).sum(), (matched % 2 == 1).sum()
    assert heavy == pytest.approx(4 * light, rel=0.35)


def test_a_log_without_matches_has_no_value() -> None:
    """And an empty one neither; the counts say why."""
    log = Log(("a", "b"), np.zeros(5, np.int64), np.ones(5), np.full(5, 0.5))
    none = replay_fixed(log, np.tile([0.0, 1.0], (5, 1)))
    assert np.isnan(none.value)
    assert (none.matches, none.rows, none.share) == (0, 5, 0.0)
    empty = replay(log.take(slice(0, 0)), "linucb")
    assert np.isnan(empty.value)
    assert (empty.matches, empty.share) == (0, 0.0)


def test_arms_that_were_not_eligible_are_not_considered() -> None:
    """The policy chooses among the arms whose logged probability is above 0, row by row."""
    n = 600
    P = np.zeros((n, 3))
    P[::2, :2], P[1::2, 1:] = 0.5, 0.5
    arm = np.where(
        np.arange(n) % 2 == 0, np.random.default_rng(0).integers(0, 2, n), np.random.default_rng(1).integers(1, 3, n)
    )
    log = Log(("a", "b", "c"), arm, np.ones(n), np.full(n, 0.5), P)
    learner = build(parse("uniform"), task_of(log))
    assert (learner.probabilities(grid_of(log, slice(0, 2)), eligible_of(log, slice(0, 2))) == P[:2]).all()
    assert replay(log, "uniform").share == pytest.approx(0.5, abs=0.07)


def test_doubly_robust_replay_is_that_of_a_plain_loop() -> None:
    """R_t row by row from the probabilities that the loop met, with q all .2; on a uniform log every c_t is 1/10."""
    log, _ = logged(1000)
    q = np.full((1000, 10), 0.2)
    found = replay_dr(log, "linucb", refresh=15, seed=2, q=q)
    matched, met = slowly(log, "linucb", 15, 2, 0.1)
    pi = np.array([P[a] for P, a in zip(met, log.arm, strict=True)])
    assert found.matched.tolist() == matched
    assert found.value == pytest.approx(np.mean(0.2 + pi / 0.1 * (log.reward - 0.2)))
    assert (found.rows, found.cut, found.c) == (1000, 0, 0.1)


def test_doubly_robust_replay_is_unbiased_for_a_fixed_policy() -> None:
    """Over 40 uneven logs the mean is within 4 standard errors of the truth, and closer to it than matches alone."""
    robust, plain, truths = [], [], []
    for seed in range(40):
        log, mean = logged(1500, seed, skewed())
        robust.append(replay_dr(log, "uniform", seed=seed).value)
        plain.append(replay(log, "uniform", seed=seed).value)
        truths.append(mean.mean())
    gaps = np.array(robust) - truths
    assert abs(gaps.mean()) < 4 * gaps.std(ddof=1) / np.sqrt(40)
    assert np.abs(gaps).mean() < np.abs(np.array(plain) - truths).mean()


def test_a_larger_c_makes_the_history_longer_and_says_what_it_cuts() -> None:
    """With c_max above the smallest propensity more rows are learned from; rows beyond a chance of 1 are counted."""
    log, _ = logged(2000)
    plain, longer = replay_dr(log, "linucb", refresh=20), replay_dr(log, "linucb", refresh=20, c_max=0.5, quantile=0.1)
    assert plain.cut == 0
    assert longer.matches > plain.matches
    assert longer.cut > 0
    assert 0.1 <= longer.c <= 0.5


def test_the_same_seed_gives_the_same_replay_and_another_one_does_not() -> None:
    """Bit by bit."""
    log, _ = logged(1500)
    one, again, other = (replay(log, "linucb", seed=seed) for seed in (1, 1, 2))
    assert (one.value, one.matched.tolist()) == (again.value, again.matched.tolist())
    assert one.matched.tolist() != other.matched.tolist()


def test_a_policy_file_is_replayed_with_the_logs_columns(tmp_path: Path) -> None:
    """Its own features are not asked for; its alpha counts."""
    document = {
        "features": [{"type": "boolean", "name": "member"}], "arms": ["x"], "rewards": {"sale": {}},
        "policy": {"type": "linucb", "alpha": 0.0, "explore": 0.0},
    }  # fmt: skip
    (path := tmp_path / "home.json").write_text(json.dumps(document))
    log, _ = logged(800)
    assert replay(log, str(path)).matched.tolist() == replay(log, "linucb:alpha=0,explore=0").matched.tolist()


def test_a_short_life_on_a_learners_log_is_refused_and_what_was_lived_is_told() -> None:
    """A log at explore .02 leaves some hundred matches of thousands: neither replay says what the policy would earn."""
    explored = np.full((1, 10), 0.002)
    explored[0, 0] = 0.982
    log, _ = logged(6000, policy=explored)
    for done in (replay(log, "linucb"), replay_dr(log, "linucb")):
        row = judge(log, done)
        assert done.matches < 300
        assert (row.verdict, row.low, row.high) == ("refused", None, None)
        assert row.value == pytest.approx(done.value)
        assert f"value over the {done.matches:,} decisions that matched; the log has 6,000" in row.note
        assert "with more decisions to learn from, it would earn something else" in row.note


@pytest.mark.parametrize("robust", [False, True])
def test_a_life_that_is_long_enough_has_a_sequence_that_holds_it_and_one_as_long_as_the_log(robust: bool) -> None:
    """Of 12 uniform logs of two arms half the rows match: all intervals hold what such lives earn, short and long."""
    environment = named("logistic", arms=2)
    lives = run(environment, ["linucb"], rounds=3000, seeds=12, spread=serial, windows=2).curves
    for seed, curve in enumerate(lives):
        episode = environment.episode(seed, 3000)
        arm = np.random.default_rng(seed + 100).integers(0, 2, 3000)
        log = Log(("a", "b"), arm, episode.reward[np.arange(3000), arm], np.full(3000, 0.5), context=episode.x / 4096)
        row = judge(log, (replay_dr if robust else replay)(log, "linucb", seed=seed))
        assert row.verdict == "sequence"
        assert row.low is not None
        assert row.high is not None
        for truth in (curve.mean_reward[0], float(np.mean(curve.mean_reward))):
            assert row.low < truth < row.high


def test_a_policy_that_does_not_learn_is_judged_by_its_matches_alone() -> None:
    """All weigh the same: n_eff is their number; the error is that of a mean of as many rewards, or a little more."""
    log, mean = logged(8000, policy=skewed())
    row = judge(log, done := replay(log, "uniform"))
    assert done.share < SHARE
    assert row.verdict == "interval"
    assert row.n_eff == pytest.approx(done.matches)
    assert row.standard_error is not None
    rewards = log.reward[done.matched]
    assert 1 <= row.standard_error / (rewards.std(ddof=1) / np.sqrt(done.matches)) < 1.1
    assert row.low is not None
    assert row.high is not None
    assert row.low < mean.mean() < row.high


def test_a_replay_of_a_broken_log_or_without_a_match_is_refused() -> None:
    """Arm a was drawn in nine rows of ten, and its propensity logged as a half; or arm b was never shown."""
    arm = (np.arange(3000) % 10 == 0).astype(np.int64)
    broken = Log(("a", "b"), arm, np.ones(3000), np.full(3000, 0.5))
    row = judge(broken, replay(broken, "uniform"))
    assert row.verdict == "refused"
    assert "arm 'a' drawn 2700 times for 1500 expected" in row.note
    none = Log(("a", "b"), np.zeros(5, np.int64), np.ones(5), np.full(5, 0.5))
    row = judge(none, replay_fixed(none, np.tile([0.0, 1.0], (5, 1))))
    assert (row.verdict, row.value) == ("refused", None)
    assert "nothing matched" in row.note


def test_a_row_says_what_part_of_its_lessons_was_cut() -> None:
    """Of both replays: how many rows, and the share of what the policy would have learned from."""
    log, _ = logged(2000, policy=skewed())
    for done in (replay(log, "uniform", floor=0.9), replay_dr(log, "uniform", c_max=0.9, quantile=0.5)):
        assert done.cut > 0
        assert 0 < done.lacking < 1
        assert f"{done.cut:,} rows matched too rarely: the policy lacks {done.lacking:.2%}" in judge(log, done).note


def test_the_robust_value_of_a_row_is_that_of_the_replay_whatever_is_cut() -> None:
    """Weights c_t that change are row weights of `evaluate`'s DR."""
    log, _ = logged(2000, policy=skewed())
    done = replay_dr(log, "linucb", c_max=0.9, quantile=0.05, refresh=20)
    assert len(np.unique(done.evidence.weight)) > 1
    assert judge(log, done).value == pytest.approx(done.value)
