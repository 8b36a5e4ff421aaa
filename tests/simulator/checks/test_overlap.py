"""What may be said of a log: n_eff* by hand, the verdict's table, what each diagnostic catches, on real logs too."""

import math
from dataclasses import replace

import numpy as np
import pytest
from logs import World, draw, greedy_with, log_of, open_bandit, open_bandit_target, reference

from simulator.ope.checks.overlap import (
    effective_n,
    kish,
    lacking,
    logging_policy,
    overlap,
    playable,
    squared_weights,
    units,
    verdict,
)
from simulator.ope.checks.sample_ratio import sample_ratio
from simulator.ope.evaluate import evaluate

CAMPAIGNS = ("men", "all")


def test_effective_n_of_two_rows_is_that_worked_out_by_hand() -> None:
    """rho = .25/.5 + .25/.5 = 1 and 1/.1 = 10; with row weights 1 and 2: 9 / (1 + 40)."""
    target, logging = np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([[0.5, 0.5], [0.9, 0.1]])
    assert squared_weights(target, logging).tolist() == pytest.approx([1, 10])
    assert effective_n(target, logging) == pytest.approx(4 / 11)
    assert effective_n(target, logging, np.array([1.0, 2.0])) == pytest.approx(9 / 41)


def test_effective_n_is_the_logs_length_for_its_own_policy_and_a_kth_for_one_arm() -> None:
    """pi = mu: n. One arm out of K uniform ones: n / K. An arm that was never drawn: 0."""
    uniform, first = np.full((30, 5), 0.2), greedy_with(0.0, np.zeros(30, int), 5)
    assert effective_n(uniform, uniform) == pytest.approx(30)
    assert effective_n(first, uniform) == pytest.approx(6)
    assert effective_n(uniform, first) == 0


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_effective_n_on_the_uniform_real_log_is_the_recorded_one(campaign: str) -> None:
    """Only 1 / K is logged, and recognised: exact for three targets."""
    log, table = open_bandit("random", campaign), open_bandit_target(campaign)
    assert logging_policy(log)[1] == "uniform"
    targets = {
        "uniform": np.full(table.shape, 1 / log.K),
        "bts": table,
        "det_argmax_bts": greedy_with(0.0, table.argmax(axis=1), log.K),
    }
    for name, target in targets.items():
        found = overlap(log, target[log.position])
        assert found.n_eff == pytest.approx(reference()[f"random/{campaign}/{name}"]["n_eff_star"], rel=1e-12)
        assert found.basis == "uniform"


def test_effective_n_sees_the_weights_that_were_never_drawn() -> None:
    """500 rows with .05 explored, a target that differs in 5 % of them: the rows say 470, the vectors below 25."""
    rng, n, K = np.random.default_rng(1), 500, 20
    logging = greedy_with(0.05, np.zeros(n, int), K)
    target = greedy_with(0.0, np.where(np.arange(n) % 20 == 0, 1, 0), K)
    log = log_of(logging, draw(rng, logging), np.zeros(n))
    w = target[np.arange(n), log.arm] / log.propensity
    assert kish(w) > 400
    assert overlap(log, target).n_eff < 25
    assert "interval" not in {row.verdict for row in evaluate(log, target)}


def test_a_log_of_propensities_alone_is_judged_by_its_rows_and_called_optimistic() -> None:
    """n^2 / sum w^2, with a note on every row of the answer."""
    log, table = open_bandit("bts", "men"), open_bandit_target("men")
    target = table[log.position]
    w = target[np.arange(len(log)), log.arm] / log.propensity
    found = overlap(log, target)
    assert (found.basis, found.n_eff) == ("rows", pytest.approx(len(log) ** 2 / (w @ w)))
    assert all("optimistic" in row.note for row in evaluate(log, target, estimators=["ips", "dm"], q="mean"))


def test_a_target_is_valued_where_it_could_be_played() -> None:
    """An arm that was not eligible in one row of a hundred: the value of the others, with their share."""
    rng, n = np.random.default_rng(0), 2000
    logging = np.full((n, 3), 1 / 3)
    logging[::100] = [0.5, 0.5, 0.0]
    log, target = log_of(logging, draw(rng, logging), rng.random(n)), greedy_with(0.0, np.full(n, 2), 3)
    assert playable(log, target).tolist() == [i % 100 != 0 for i in range(n)]
    rest = np.arange(n) % 100 != 0
    (row,), (same,) = (
        evaluate(log, target, estimators=["ips"], reward_range=(0, 1)),
        evaluate(log.take(rest), target[rest], estimators=["ips"], reward_range=(0, 1)),
    )
    assert (row.n, row.share, same.share) == (1980, 0.99, 1.0)
    assert (row.value, row.low, row.high, row.verdict) == (same.value, same.low, same.high, "interval")
    assert "99.0000% of decisions in which every arm that it plays could have been shown" in row.note


def test_a_target_that_could_never_be_played_is_refused() -> None:
    """The question cannot be put: no value, no interval."""
    logging = np.tile([1.0, 0.0], (50, 1))
    log = log_of(logging, np.zeros(50, int), np.ones(50))
    (row,) = evaluate(log, logging[:, ::-1].copy(), estimators=["dr"])
    assert (row.value, row.low, row.n, row.share, row.verdict) == (None, None, 0, 0.0, "refused")
    assert row.note == "in every row the target plays an arm that could not have been shown (no common support)"


def test_a_propensity_of_one_says_that_no_other_arm_could_be_shown() -> None:
    """With the shown arm's number alone: those rows count for a target that plays the same, and not for others."""
    rng, n = np.random.default_rng(0), 3000
    certain = np.arange(n) % 10 == 0
    logging = np.where(certain[:, None], [1.0, 0.0], [0.5, 0.5])
    arm = draw(rng, logging)
    log = log_of(logging, arm, (rng.random(n) < np.where(certain, 0.9, 0.1)).astype(float), full=False)
    other, own = greedy_with(0.0, np.ones(n, int), 2), greedy_with(0.0, np.zeros(n, int), 2)
    assert playable(log, own).all()
    (row,) = evaluate(log, other, estimators=["ips"])
    assert (row.share, row.n) == (0.9, 2700)
    assert row.low <= 0.1 <= row.high
    assert row.mean_weight == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("full", [True, False])
def test_propensities_twice_too_small_are_refused(full: bool) -> None:
    """The mean weight is then 2, far from 1, whether full vectors or only the shown arm's number were logged."""
    world, rng = World(), np.random.default_rng(0)
    logging = world.policy(0.5)
    log, rows = world.log(rng, 3000, logging)
    wrong = replace(log, propensity=log.propensity / 2, probability=log.probability / 2 if full else None)
    found = overlap(wrong, world.policy(1.0)[rows])
    assert found.mean_weight == pytest.approx(2, abs=0.2)
    assert "not near 1" in found.failures()[0]
    assert overlap(log, world.policy(1.0)[rows]).failures() == []
    (row,) = evaluate(wrong, world.policy(1.0)[rows], estimators=["snips"])
    assert (row.verdict, row.low) == ("refused", None)


def test_the_mean_weight_of_sound_logs_is_near_one() -> None:
    """Over 300 logs the z of the mean weight has mean 0 and spread 1, so that its limits mean what they say."""
    world, rng = World(), np.random.default_rng(5)
    logging, target = world.policy(0.5), world.policy(1.0)
    zs = {True: [], False: []}
    for _ in range(300):
        log, rows = world.log(rng, 400, logging)
        for full in zs:
            each = log if full else replace(log, probability=None)
            zs[full].append(overlap(each, target[rows]).z)
    for z in zs.values():
        assert abs(np.mean(z)) < 4 / math.sqrt(300)
        assert np.std(z) == pytest.approx(1, abs=0.17)


@pytest.mark.parametrize(
    ("n_eff", "skew", "failures", "said"),
    [
        (50, 0.5, [], "interval"),
        (49.9, 0.1, [], "sequence"),
        (5000, 0.51, [], "sequence"),
        (5000, math.inf, [], "sequence"),
        (0.5, 0.1, [], "sequence"),
        (5000, 0.1, ["broken"], "refused"),
        (math.nan, 0.1, [], "sequence"),
    ],
)
def test_the_verdict_is_its_table(n_eff: float, skew: float, failures: list[str], said: str) -> None:
    """50 and .5 belong to the better side; a failed diagnostic overrules everything; nothing else refuses."""
    assert verdict(n_eff, skew, failures) == said


def test_what_an_interval_lacks_is_the_larger_of_two() -> None:
    """Half the skewness takes four times the rows; five times the effective n five times."""
    assert lacking(5000, 1.0) == pytest.approx(4)
    assert lacking(10, 1.0) == pytest.approx(5)
    assert lacking(5000, 0.2) == 1
    assert lacking(0.0, 0.2) == math.inf


def test_a_log_without_a_click_gets_no_normal_interval() -> None:
    """It would be from 0 to 0; the sequence says what 500 rows without a click say."""
    logging = np.full((500, 2), 0.5)
    log = log_of(logging, draw(np.random.default_rng(0), logging), np.zeros(500))
    (row,) = evaluate(log, logging, estimators=["ips"])
    assert (row.verdict, row.value, row.low) == ("sequence", 0, 0)
    assert 0.005 < row.high < 0.2


def test_users_that_repeat_are_units_and_unknown_ones_stand_for_themselves() -> None:
    """Two rows of `u`, one of `v`, two without a user: four units; nobody twice: none."""
    log = log_of(np.full((5, 2), 0.5), np.zeros(5, int), np.zeros(5), user=np.array(["u", "", "v", "u", ""]))
    unit = units(log)
    assert unit is not None
    assert unit[0] == unit[3]
    assert sorted(set(unit.tolist())) == [0, 1, 2, 3]
    assert units(replace(log, user=np.array(list("abcde")))) is None
    assert units(replace(log, user=None, decision_id=np.array(list("aabbc")))).tolist() == [0, 0, 1, 1, 2]


def test_effective_n_is_never_above_the_users_own() -> None:
    """10,000 rows of 60 users are 60 at most."""
    rng, n = np.random.default_rng(0), 10_000
    logging = np.full((n, 2), 0.5)
    log = log_of(logging, draw(rng, logging), rng.random(n), user=np.array([str(i % 60) for i in range(n)]))
    assert overlap(log, logging, units(log)).n_eff == pytest.approx(60, rel=1e-3)


@pytest.mark.parametrize("full", [True, False])
def test_row_weights_count_in_effective_n_and_mean_weight(full: bool) -> None:
    """(sum s)^2 over sum s^2 rho (or s^2 w^2), and sum s w / sum s."""
    world, rng = World(), np.random.default_rng(0)
    log, rows = world.log(rng, 500, world.policy(0.5), weight=rng.integers(1, 9, 500).astype(float))
    target, s = world.policy(1.0)[rows], log.weight
    w = target[np.arange(500), log.arm] / log.propensity
    found = overlap(log if full else replace(log, probability=None), target)
    square = s**2 @ (target**2 / log.probability).sum(axis=1) if full else s**2 @ w**2
    assert found.n_eff == pytest.approx(s.sum() ** 2 / square)
    assert found.mean_weight == pytest.approx(s @ w / s.sum())


# the sample-ratio check


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("explore", [1.0, 0.3, 0.02])
def test_sound_logs_pass_the_sample_ratio_check(explore: float, full: bool) -> None:
    """100 logs at each share of exploration, most arms rare at .02, in three slices; none may be flagged (p .1)."""
    world, rng = World(K=12), np.random.default_rng(0)
    logging = world.policy(explore)
    for _ in range(100):
        log, _rows = world.log(rng, 600, logging, part=rng.integers(0, 3, 600))
        log = log if full else replace(log, probability=None)
        found = sample_ratio(log)
        assert (found.flagged, found.failures()) == ([], [])
        assert {share.part for share in found.shares} == {0, 1, 2}


def test_a_rare_arm_drawn_once_is_no_alarm_and_an_impossible_one_is() -> None:
    """Expected .02 draws, drawn once: z is 7 and fine; expected none, drawn once: broken."""
    n = 200
    logging = np.tile([0.9999, 0.0001], (n, 1))
    arm = np.zeros(n, int)
    arm[7] = 1
    rare = sample_ratio(log_of(logging, arm, np.zeros(n)))
    assert max(share.z for share in rare.shares) > 6
    assert not rare.flagged
    impossible = log_of(np.tile([1.0, 0.0], (n, 1)), arm, np.zeros(n))
    assert sample_ratio(impossible).flagged


@pytest.mark.parametrize("full", [True, False])
def test_scores_logged_as_propensities_of_an_argmax_are_flagged(full: bool) -> None:
    """The arm was the best one, the propensity a softmax: caught with the vectors and without, and refused."""
    world, rng, n = World(), np.random.default_rng(0), 3000
    score = np.log(world.rate[:n])
    softmax = np.exp(score - score.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    log = log_of(softmax, score.argmax(axis=1), (rng.random(n) < 0.3) * 1.0, full=full)
    found = sample_ratio(log)
    assert found.basis == ("full" if full else "rows")
    assert max(abs(share.z) for share in found.flagged) > 15
    (row,) = evaluate(log, np.full((n, world.K), 0.2), estimators=["snips"])
    assert row.verdict == "refused"


@pytest.mark.parametrize("policy", ["uniform", "epsilon-greedy"])
def test_a_log_that_lost_rows_of_one_arm_is_flagged(policy: str) -> None:
    """Half of one arm's rows are gone: that arm is named, with the slice in which it happened."""
    world, rng, n = World(), np.random.default_rng(0), 6000
    log, _ = world.log(rng, n, world.policy(1.0 if policy == "uniform" else 0.5), part=np.arange(n) % 2)
    lost = log.take(~((log.arm == 2) & (log.part == 1) & (rng.random(n) < 0.5)))
    assert not sample_ratio(log).flagged
    worst = sample_ratio(lost).flagged[0]
    assert (worst.arm, worst.part) == ("arm-2", 1)
    assert worst.z < -worst.limit
    assert "arm 'arm-2' in slice 1 drawn" in sample_ratio(lost).failures()[0]
    (row,) = evaluate(lost, lost.probability, estimators=["ips"])  # weights of 1, so that nothing else would notice
    assert (row.mean_weight, row.verdict, row.low) == (pytest.approx(1), "refused", None)
    assert "slice 1 drawn" in row.note


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_the_uniform_real_log_passes_and_loses_it_with_its_rows(campaign: str) -> None:
    """Recognised as uniform by its constant propensity; without half of one item's rows it fails."""
    log = open_bandit("random", campaign)
    assert not sample_ratio(log).flagged
    lost = log.take(~((log.arm == 3) & (np.arange(len(log)) % 2 == 0)))
    assert [share.arm for share in sample_ratio(lost).flagged] == ["3"]


def test_twenty_tiny_propensities_in_a_real_log_are_caught_three_times() -> None:
    """1e-6 on 20 of 10,000 rows of bts/all: refused by n_eff, by the mean weight, and flagged by the sample ratio."""
    log = open_bandit("bts", "all")
    propensity = log.propensity.copy()
    propensity[np.random.default_rng(0).choice(len(log), 20, replace=False)] = 1e-6
    broken = replace(log, propensity=propensity)
    uniform = np.full((len(log), log.K), 1 / log.K)
    found = overlap(broken, uniform)
    assert found.n_eff < 1
    assert found.max_weight == pytest.approx(12_500)
    assert any("not near 1" in failure for failure in found.failures())
    assert sample_ratio(broken).flagged[0].arm is None
    assert {row.verdict for row in evaluate(broken, uniform, q="mean")} == {"refused"}
    assert not sample_ratio(log).flagged


def test_a_propensity_that_is_not_its_vectors_is_named() -> None:
    """Three rows of a hundred say another number than their full vector."""
    logging = np.tile([0.7, 0.3], (100, 1))
    log = log_of(logging, draw(np.random.default_rng(0), logging), np.zeros(100))
    propensity = log.propensity.copy()
    propensity[:3] += 0.05
    found = sample_ratio(replace(log, propensity=propensity))
    assert found.mismatch == 0.03
    assert "3.00% of the propensities contradict the probabilities of all arms" in found.failures()


def test_thinned_rows_pass_with_their_weights_and_fail_without() -> None:
    """A tenth of the rows without a click was kept: weighted by 10 the shares are right, unweighted they are not."""
    world, rng, n = World(), np.random.default_rng(0), 40_000
    log, _ = world.log(rng, n, world.policy(1.0))
    kept = (log.reward > 0) | (rng.random(n) < 0.1)
    thin = replace(log, weight=np.where(log.reward > 0, 1.0, 10.0)).take(kept)
    assert not sample_ratio(thin).flagged
    assert sample_ratio(replace(thin, weight=None)).flagged


def test_a_user_who_sees_one_arm_for_ever_is_one_draw() -> None:
    """100 users with 50 rows of the arm drawn once for each: as rows it looks broken, as users it is sound."""
    rng = np.random.default_rng(0)
    logging = np.full((5000, 4), 0.25)
    user = np.repeat(np.arange(100), 50)
    arm = rng.integers(0, 4, 100)[user]
    log = log_of(logging, arm, np.zeros(5000), user=user.astype(str))
    assert not sample_ratio(log).flagged
    assert sample_ratio(replace(log, user=None)).flagged


def test_what_only_shown_propensities_cannot_prove_is_told() -> None:
    """Half of the rows of an arm, or all of them, are gone; a sound log says nothing."""
    rng, n = np.random.default_rng(5), 6000
    often = 0.1 + 0.5 * rng.random(n)  # of the first arm; the four others share the rest
    P = np.column_stack([often, *[(1 - often) / 4] * 4])
    log = log_of(P, draw(rng, P), np.zeros(n), full=False)
    assert sample_ratio(log).warnings == ()
    half = log.take(np.flatnonzero((log.arm != 0) | (rng.random(n) < 0.5)))
    (said,) = sample_ratio(half).warnings
    assert said.startswith("arm 'arm-0' has a sum of 1 / propensity of")
    assert said.endswith("some of its rows may be lost")
    gone = log.take(np.flatnonzero(log.arm != 0))
    assert sample_ratio(gone).warnings == (
        "1 of 5 arms were never shown: this log cannot tell whether their rows were lost",
    )
    rows = evaluate(half, np.full((len(half), 5), 0.2), estimators=["ips"])
    assert "some of its rows may be lost" in rows[0].note
