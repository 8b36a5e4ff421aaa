"""Everything at once: obp's recorded values on real logs, what may be said, and whether intervals cover."""

import math
from dataclasses import replace

import numpy as np
import pytest
from logs import Array, World, greedy_with, log_of, open_bandit, open_bandit_target, reference
from sklearn.linear_model import LogisticRegression

from simulator.logs.log import Log
from simulator.ope.checks.overlap import SKEWNESS
from simulator.ope.design import moments, spread, totals
from simulator.ope.drifting import drifting
from simulator.ope.estimators import dr, expected
from simulator.ope.evaluate import EstimatorRow, evaluate
from simulator.ope.intervals import bounded, normal, upper_error, weighted
from simulator.ope.models import cross_fitted, past_only, ridge_model
from simulator.ope.terms import ESTIMATORS

OBP = {
    "ipw": "ips",
    "ipw_clip10": "clipped",
    "snipw": "snips",
    "dm": "dm",
    "dr": "dr",
    "sndr": "sndr",
    "switch-dr5": "switch-dr",
    "dros10": "dros",
    "rm": "replay",
}


def by_name(rows: list[EstimatorRow]) -> dict[str, EstimatorRow]:
    """Rows under their estimators' names."""
    return {row.estimator: row for row in rows}


def real_target(campaign: str, name: str) -> Array:
    """One of the three recorded targets, shape (3, K)."""
    table = open_bandit_target(campaign)
    uniform = np.full(table.shape, 1 / table.shape[1])
    argmax = greedy_with(0.0, table.argmax(axis=1), table.shape[1])
    return {"bts": table, "uniform": uniform, "det_argmax_bts": argmax}[name]


def drawn(n: int = 3000, explore: float = 0.5, seed: int = 0, **fields: object) -> tuple[Log, Array]:
    """A log of the usual world and the uniform target."""
    world = World()
    log, _ = world.log(np.random.default_rng(seed), n, world.policy(explore), **fields)
    return log, np.full((n, world.K), 1 / world.K)


@pytest.mark.parametrize("combination", list(reference()))
def test_every_value_of_obp_is_reproduced(combination: str) -> None:
    """Nine estimators on four real logs for three targets, to 1e-9, with the model obp was given: fitted in sample."""
    policy, campaign, name = combination.split("/")
    log = open_bandit(policy, campaign)
    target = real_target(campaign, name)[log.position]
    options = {"q": "mean-position", "q_fit": "in_sample", "tau": 5, "lam": 10, "clip": 10, "acceptance": "none"}
    found = by_name(evaluate(log, target, **options))
    recorded = reference()[combination]
    compared = {theirs: ours for theirs, ours in OBP.items() if theirs in recorded}
    assert len(compared) == (9 if name == "det_argmax_bts" else 8)
    for theirs, ours in compared.items():
        assert found[ours].value == pytest.approx(recorded[theirs], abs=1e-9, rel=0), ours
    if recorded["n_eff_star"]:
        assert found["ips"].n_eff == pytest.approx(recorded["n_eff_star"], rel=1e-9)


def test_a_row_says_what_its_estimator_says() -> None:
    """Value, spread and interval of IPS and DR, put together by hand from their parts."""
    log, target = drawn()
    found = by_name(evaluate(log, target, seed=3))
    i = np.arange(len(log))
    q = np.clip(cross_fitted(ridge_model(), log, seed=3), 0, 1)
    w = target[i, log.arm] / log.propensity
    parts = dr(log.reward, log.propensity, target[i, log.arm], q[i, log.arm], expected(target, q))
    assert found["dr"].value == pytest.approx(parts.value, rel=1e-12)
    k = moments(log.arm, log.reward - q[i, log.arm], log.K, 1.0, w)
    weights = target / log.probability
    S = totals(log.probability, weights, np.ones(len(log)))
    centre = (w * (log.reward - q[i, log.arm])).mean()
    by_design = spread(parts, S, k, expected(target, q), np.ones(len(log)), centre, top=weights.max())
    assert found["dr"].skewness == pytest.approx(by_design.skewness)
    ends = normal(parts.value, max(by_design.error, upper_error(parts)))
    assert (found["dr"].low, found["dr"].high) == pytest.approx(ends)
    ips = found["ips"]
    assert ips.value == pytest.approx((w * log.reward).mean())
    assert 1 <= ips.standard_error / ((w * log.reward).std(ddof=1) / math.sqrt(len(log))) < 1.25  # by design: heavier
    assert (ips.max_weight, ips.mean_weight, ips.n) == pytest.approx((w.max(), w.mean(), len(log)))
    assert (ips.verdict, ips.note) == ("interval", "")


def test_all_estimators_come_in_their_order_or_those_asked_for() -> None:
    """No names: all ten."""
    log, target = drawn(500)
    assert tuple(row.estimator for row in evaluate(log, target)) == tuple(ESTIMATORS)
    assert [row.estimator for row in evaluate(log, target, estimators=["dr", "ips"])] == ["dr", "ips"]


def test_biased_estimators_say_so_whatever_the_verdict() -> None:
    """Five carry the note; the rest do not."""
    log, target = drawn()
    for rows in (evaluate(log, target), evaluate(log.take(slice(0, 20)), target[:20])):
        noted = {row.estimator for row in rows if "bias not included" in row.note}
        assert noted == {"dm", "clipped", "switch-dr", "dros", "mrdr"}


def test_little_has_a_sequence_and_says_what_an_interval_takes() -> None:
    """30 rows of a uniform log: a hundred is the least effective n."""
    log, target = drawn(30, 1.0)
    for row in evaluate(log, target, estimators=["ips", "snips", "dr"]):
        assert row.verdict == "sequence"
        assert row.low <= row.value <= row.high
        assert "more decisions like these, or" in row.note
    (row,) = evaluate(*drawn(5, 1.0), estimators=["ips"])
    assert (row.verdict, row.low >= 0, row.high <= 1) == ("sequence", True, True)


def test_asked_for_any_number_of_looks_the_answer_is_a_sequence() -> None:
    """Of w r for IPS and SNIPS, with the doubly robust terms for the others; DM, clipped and replay have their own."""
    log, target = drawn(3000, 1.0)
    found = by_name(evaluate(log, target, acceptance="none", clip=0.5, tau=3.0, lam=9.0, looks="any"))
    biased = {name for name, by in ESTIMATORS.items() if by.biased}
    assert {name for name, row in found.items() if row.verdict == "biased"} == biased
    assert {row.verdict for name, row in found.items() if name not in biased} == {"sequence"}
    w = target[np.arange(3000), log.arm] / log.propensity
    band = drifting(weighted(w, log.reward, 1.0))
    for name in ("ips", "snips"):
        assert (found[name].low, found[name].high) == pytest.approx((band.low[-1], band.high[-1]), abs=1e-12)
    even = drifting(bounded(np.minimum(w, 0.5) * log.reward / 0.5))
    assert (found["clipped"].low, found["clipped"].high) == pytest.approx(
        (even.low[-1] / 2, even.high[-1] / 2), abs=1e-9
    )
    assert found["dr"].high - found["dr"].low < found["ips"].high - found["ips"].low
    for row in found.values():
        assert row.low <= row.value <= row.high


def test_a_value_that_stays_may_be_bet_on() -> None:
    """`drifts=False`: narrower for few rows, and the note says what it takes."""
    log, target = drawn(300, 1.0)
    (drifting_row,), (constant,) = (
        evaluate(log, target, estimators=["ips"], looks="any", drifts=drifts) for drifts in (True, False)
    )
    w = target[np.arange(300), log.arm] / log.propensity
    assert (constant.low, constant.high) == pytest.approx(weighted(w, log.reward, 1.0).betting(0.05), abs=1e-12)
    assert constant.high - constant.low < drifting_row.high - drifting_row.low
    assert "assumes a constant mean" in constant.note
    assert "the same in all rows" not in drifting_row.note


def test_a_value_is_between_its_ends_whatever_the_rewards_do() -> None:
    """60 rows without a reward, then 60 with one: betting on one value leaves the mean out, and still says it."""
    log = log_of(np.ones((120, 1)), np.zeros(120, int), np.repeat([0.0, 1.0], 60))
    for drifts in (True, False):
        (row,) = evaluate(log, np.ones((120, 1)), estimators=["ips"], looks="any", drifts=drifts)
        assert row.low <= row.value == 0.5 <= row.high
    (row,) = evaluate(log, np.ones((120, 1)), estimators=["ips"], looks="any")
    assert 0.2 < row.low < 0.4 < 0.6 < row.high < 0.8


def test_a_log_in_which_no_heavy_row_was_rewarded_is_not_taken_for_calm() -> None:
    """Its rows have hardly a spread; by design a click of weight 500 may come in any of two hundred rows."""
    rng, n = np.random.default_rng(0), 20_000
    heavy = np.arange(n) % 100 == 0
    logging = np.where(heavy[:, None], [0.998, 0.002], [0.998, 0.002])
    arm = np.zeros(n, int)
    arm[np.flatnonzero(~heavy)[:40]] = 1
    target = greedy_with(0.0, np.where(heavy, 1, 0), 2)
    log = log_of(logging, arm, (rng.random(n) < 0.05).astype(float))
    for row in evaluate(log, target, estimators=["ips", "snips", "dr"], q="mean"):
        assert row.verdict == "sequence"
        assert row.skewness > SKEWNESS
        assert row.standard_error > 3 * log.reward.std() / math.sqrt(n)


def test_a_cap_bounds_refunds_too() -> None:
    """One that has not come yet counts as 0, as the answer says; once one has, as much as minus the cap."""
    log, target = drawn(4000, 1.0)
    (none,) = evaluate(replace(log, reward=30 * log.reward), target, estimators=["ips"], cap=20)
    refunds = replace(log, reward=np.where(np.arange(4000) % 50 == 0, -500.0, 30 * log.reward))
    (some,) = evaluate(refunds, target, estimators=["ips"], cap=20)
    assert "rewards above 20 count as 20, those below 0 as 0" in none.note
    assert "rewards above 20 count as 20, those below −20 as −20" in some.note
    assert some.value == pytest.approx(none.value - 0.4, abs=0.15)


def test_fractions_without_a_stated_range_are_no_clicks() -> None:
    """Where all are 0 or 1 it is the range; ratings of 0 to 1 may be followed by one of 5."""
    log, target = drawn(4000, 1.0)
    (clicks,), (ratings,) = (
        evaluate(replace(log, reward=each), target, estimators=["ips"]) for each in (log.reward, 0.5 * log.reward)
    )
    assert (clicks.verdict, ratings.verdict) == ("interval", "assumed")


def test_no_value_lies_beyond_the_possible_rewards() -> None:
    """DR of clicks can be below 0; the answer is then 0, and says what the estimate was."""
    log = log_of(np.full((200, 2), [0.99, 0.01]), (np.arange(200) < 7).astype(int), np.zeros(200))
    q = np.full((200, 2), 0.05)
    (row,) = evaluate(log, greedy_with(0.0, np.ones(200, int), 2), estimators=["dr"], q=q, reward_range=(0, 1))
    assert (row.value, row.low) == (0.0, 0.0)
    assert "the estimate itself is -0.125, outside the possible rewards" in row.note


def test_money_without_a_stated_range_has_no_interval() -> None:
    """Nobody knows what the next order will be; with a range, or a cap, one may be given."""
    log, target = drawn(4000, 1.0)
    money = replace(log, reward=30 * log.reward)
    (unknown,), (known,), (capped,), (own,) = (
        evaluate(each, target, estimators=["ips"], **how)
        for each, how in (
            (money, {}), (money, {"reward_range": (0, 30)}), (money, {"cap": 20}),
            (replace(money, reward_range=(0.0, 30.0)), {}),
        )
    )  # fmt: skip
    assert (unknown.verdict, known.verdict, capped.verdict) == ("assumed", "interval", "interval")
    assert "this holds only if all are in the observed range 0 to 30" in unknown.note
    assert own == known
    assert capped.value == pytest.approx(known.value * 2 / 3)
    assert "rewards above 20 count as 20" in capped.note


def test_rewards_on_another_scale_give_the_same_intervals_on_that_scale() -> None:
    """r to 40 r - 35, between -35 and 5: values and ends move along, in the sequence and the normal case."""
    for n in (40, 3000):
        log, target = drawn(n, 1.0)
        moved = replace(log, reward=40 * log.reward - 35)
        plain, scaled = evaluate(log, target, q="ridge"), evaluate(moved, target, reward_range=(-35, 5))
        for one, other in zip(plain, scaled, strict=True):
            if one.estimator in ("ips", "snips", "dm", "dr"):
                assert other.verdict == one.verdict
                assert (other.low, other.high) == pytest.approx((40 * one.low - 35, 40 * one.high - 35), abs=0.2)


def test_a_reward_range_wider_than_0_to_1_is_taken_from_the_log() -> None:
    """-35 and 5 lie outside: the default stretches to them; a range that does not hold is an error."""
    log, target = drawn(200, 1.0)
    moved = replace(log, reward=40 * log.reward - 35)
    plain, given = (evaluate(moved, target, q="mean", looks="any", **how) for how in ({}, {"reward_range": (-35, 5)}))
    assert [(row.value, row.low, row.high) for row in plain] == [(row.value, row.low, row.high) for row in given]
    with pytest.raises(ValueError, match=r"rewards must be in \[0, 1\]; row 0 has -35"):
        evaluate(moved, target, reward_range=(0, 1))


def test_replay_is_judged_by_its_matches() -> None:
    """150 rows of a uniform log of five arms: n_eff* of the uniform target is 150, but about 30 rows match."""
    log, target = drawn(150, 1.0)
    found = by_name(evaluate(log, target))
    assert found["ips"].n_eff == pytest.approx(150)
    assert 20 < found["replay"].n_eff < 45
    assert (found["ips"].verdict, found["replay"].verdict) == ("interval", "sequence")


def test_replay_without_rejection_on_a_log_that_is_not_uniform_says_it_is_biased() -> None:
    """With rejection, or on a uniform log, it does not."""
    log, target = drawn()
    (row,) = evaluate(log, target, estimators=["replay"], acceptance="none")
    assert "not uniform" in row.note
    assert "not uniform" not in evaluate(log, target, estimators=["replay"])[0].note
    even, target = drawn(explore=1.0)
    assert "not uniform" not in evaluate(even, target, estimators=["replay"], acceptance="none")[0].note


def test_a_replay_without_matches_has_no_value() -> None:
    """None, not NaN, and anything is possible."""
    logging = np.tile([0.99, 0.01], (100, 1))
    log = log_of(logging, np.zeros(100, int), np.ones(100))
    (row,) = evaluate(log, greedy_with(0.0, np.ones(100, int), 2), estimators=["replay"])
    assert (row.value, row.standard_error, row.low, row.high, row.verdict) == (None, None, 0, 1, "sequence")


def test_a_model_is_fitted_on_the_past_where_the_policy_learned() -> None:
    """By default, and in the other splits where it did not; asking for the wrong one is noted."""
    log, target = drawn()
    learned = replace(log, learning=True)
    want = expected(target, np.clip(past_only(ridge_model(), log), 0, 1)).mean()
    (row,) = evaluate(learned, target, estimators=["dm"])
    assert row.value == pytest.approx(want, rel=1e-12)
    assert evaluate(log, target, estimators=["dm"], q_fit="past")[0].value == row.value
    assert evaluate(log, target, estimators=["dm"])[0].value != row.value
    assert "although the logging policy learned" in evaluate(learned, target, estimators=["dr"], q_fit="cross")[0].note
    assert "in sample" in evaluate(log, target, estimators=["dr"], q_fit="in_sample")[0].note


def test_predictions_and_regressors_can_be_handed_in() -> None:
    """A table of predictions as it is; a classifier of scikit-learn's, cross-fitted."""
    log, target = drawn(600)
    table = np.random.default_rng(0).random((600, log.K))
    assert evaluate(log, target, estimators=["dm"], q=table)[0].value == pytest.approx(expected(target, table).mean())
    found = by_name(evaluate(log, target, estimators=["dr", "ips"], q=LogisticRegression()))
    assert found["dr"].standard_error < found["ips"].standard_error


def test_an_arm_that_the_log_may_have_picked_is_told_of() -> None:
    """The one that a learner showed most, or that did best: of five equal arms it is clearly better in 12 % of logs."""
    log, _ = drawn(2000, 0.5)
    best, worst = (greedy_with(0.0, np.full(2000, each), log.K) for each in extremes(log))
    told = "if chosen by this log, the arm's value is biased upwards"
    for each, learning in ((best, False), (best, True)):
        assert told in evaluate(replace(log, learning=learning), each, estimators=["dr"])[0].note
    assert told not in evaluate(log, worst, estimators=["dr"])[0].note


def extremes(log: Log) -> tuple[int, int]:
    """The arms of the largest and the smallest mean reward."""
    means = np.bincount(log.arm, log.reward, log.K) / np.bincount(log.arm, minlength=log.K)
    return int(means.argmax()), int(means.argmin())


def test_users_that_repeat_widen_the_interval() -> None:
    """Each decision five times over: as many rows, but the interval of the fifth."""
    log, target = drawn(2000, 1.0)
    rows = np.repeat(np.arange(2000), 5)
    users = replace(log.take(rows), user=rows.astype(str))
    (once,), (many,) = (evaluate(each, t, estimators=["ips"]) for each, t in ((log, target), (users, target[rows])))
    assert (many.value, many.verdict) == (pytest.approx(once.value), "interval")
    assert (many.low, many.high) == pytest.approx((once.low, once.high), rel=2e-3)
    assert "clustered by 2,000 users or decisions: 2.2 times as wide as if rows were independent" in many.note
    short = slice(0, 200)  # 40 users: a sequence over users, as wide as over their 40 decisions
    (once,) = evaluate(log.take(slice(0, 40)), target[:40], estimators=["ips"])
    (many,) = evaluate(users.take(short), target[rows][short], estimators=["ips"])
    assert once.verdict == many.verdict == "sequence"
    assert many.n_eff == pytest.approx(40)
    assert (many.low, many.high) == pytest.approx((once.low, once.high), abs=0.12)  # t is 5: slopes are others


def test_a_list_among_single_decisions_is_one_decision() -> None:
    """Two rows of one decision among 2,000 of one row each: they are one unit, and everything else stays as it is."""
    log, target = drawn(2000, 1.0)
    ids = np.arange(2000).astype(str)
    both = ids.copy()
    both[1001] = both[1000]
    one, other = (
        by_name(evaluate(replace(log, decision_id=each), target, estimators=["ips", "dr"], q="mean"))
        for each in (ids, both)
    )
    for name, row in other.items():
        assert row.verdict == one[name].verdict == "interval"
        assert row.value == pytest.approx(one[name].value, rel=1e-2)
        assert (row.low, row.high) == pytest.approx((one[name].low, one[name].high), rel=0.02)
        assert row.n_eff == pytest.approx(one[name].n_eff, rel=1e-2)
    assert "clustered by 1,999 users or decisions: no wider than if rows were independent" in other["ips"].note


def test_row_weights_undo_a_thinned_log() -> None:
    """A tenth of the rows without a click kept: with weights the estimates agree with the whole log's."""
    world, rng, n = World(), np.random.default_rng(0), 40_000
    log, _ = world.log(rng, n, world.policy(0.5))
    kept = (log.reward > 0) | (rng.random(n) < 0.1)
    thin = replace(log, weight=np.where(log.reward > 0, 1.0, 10.0)).take(kept)
    target = np.full((n, world.K), 1 / world.K)
    for whole, part in zip(evaluate(log, target), evaluate(thin, target[kept]), strict=True):
        assert part.verdict == ("biased" if ESTIMATORS[part.estimator].biased else "interval")
        assert part.value == pytest.approx(whole.value, abs=5 * math.hypot(whole.standard_error, part.standard_error))
        assert abs(part.value - thin.reward.mean()) > 0.1


def test_the_bootstrap_can_be_asked_for() -> None:
    """The same verdict, its quantiles in place of the normal ones, the same for the same seed."""
    log, target = drawn()
    (plain,) = evaluate(log, target, estimators=["snips"])
    (boot,) = evaluate(log, target, estimators=["snips"], interval="bootstrap", seed=7)
    assert (boot.low, boot.high) == pytest.approx((plain.low, plain.high), abs=0.2 * (plain.high - plain.low))
    assert boot.high - boot.low >= 0.9 * (plain.high - plain.low)  # what rows do not show is in it too
    assert evaluate(log, target, estimators=["snips"], interval="bootstrap", seed=7) == [boot]
    assert boot.low != plain.low


def test_what_cannot_be_evaluated_is_named() -> None:
    """Shape, sum, names, choices, emptiness."""
    log, target = drawn(50)
    for change, message in (
        ({"target": target[:, :2]}, r"shape \(50, 5\), a row for each decision; got \(50, 2\)"),
        ({"target": np.where(np.arange(50)[:, None] == 7, 0.3, target)}, "row 7 sums to 1.5"),
        ({"estimators": ["ips", "magic"]}, r"unknown \['magic'\]"),
        ({"q": target[:, 0]}, r"predictions must have the target's shape \(50, 5\); got \(50,\)"),
        ({"q_fit": "future"}, "q_fit must be one of cross, past, in_sample; got 'future'"),
        ({"acceptance": "all"}, "acceptance must be one of rejection, none"),
        ({"interval": "exact"}, "interval must be one of normal, bootstrap"),
        ({"looks": "two"}, "looks must be one of one, any"),
        ({"log": replace(log, reward=np.full(50, math.nan))}, "rewards must be in .* row 0 has nan"),
        ({"log": log.take(slice(0, 0)), "target": target[:0]}, "the log has no rows"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(**{"log": log, "target": target} | change)


@pytest.mark.parametrize(("explore", "n"), [(1.0, 450), (0.2, 1900), (0.1, 3400)])
def test_intervals_cover_where_they_are_given(explore: float, n: int) -> None:
    """IPS, SNIPS and DR over 150 logs: 95 % less than 4 standard errors of that share (1.8 %)."""
    world, rng = World(), np.random.default_rng(0)
    logging, target = world.policy(explore), world.policy(1.0)
    truth = world.value(target)
    covered = {"ips": [], "snips": [], "dr": []}
    for _ in range(150):
        log, rows = world.log(rng, n, logging)
        for row in evaluate(log, target[rows], estimators=list(covered), q="mean"):
            assert row.n_eff >= 100
            if row.verdict == "interval":
                covered[row.estimator].append(row.low <= truth <= row.high)
    for found in covered.values():
        assert len(found) > 135
        assert np.mean(found) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 150)


@pytest.mark.parametrize("q", ["ridge", "mean"])
def test_dm_covers_what_it_would_say_on_average(q: str) -> None:
    """Its model's error is in the interval: 60 logs, of which 5 % may miss, and 4 standard errors of that."""
    rows = [evaluate(*drawn(1500, 1.0, seed), estimators=["dm"], q=q)[0] for seed in range(60)]
    mean = np.mean([row.value for row in rows])
    held = [row.low <= mean <= row.high for row in rows if row.low is not None and row.high is not None]
    assert len(held) == 60
    assert np.mean(held) >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 60)
    spread = np.std([row.value for row in rows])
    assert np.mean([row.standard_error for row in rows]) == pytest.approx(spread, rel=0.3)


def test_little_exploration_in_500_rows_gets_no_interval() -> None:
    """.05 explored over 20 arms: a sequence, in each of 40 logs and for each estimator."""
    world, rng = World(K=20), np.random.default_rng(0)
    logging, target = world.policy(0.05), world.policy(1.0)
    for _ in range(40):
        log, rows = world.log(rng, 500, logging)
        found = evaluate(log, target[rows], estimators=["ips", "snips", "dr"], q="mean")
        assert {row.verdict for row in found} == {"sequence"}


def test_the_sequences_of_real_answers_cover_too() -> None:
    """Over 150 logs the sequence misses in 5 % at most (and 4 standard errors of that)."""
    world, rng = World(), np.random.default_rng(1)
    logging, target = world.policy(0.2), world.policy(1.0)
    truth, missed = world.value(target), 0
    for _ in range(150):
        log, rows = world.log(rng, 600, logging)
        (row,) = evaluate(log, target[rows], estimators=["dr"], looks="any")
        assert row.verdict == "sequence"
        missed += not row.low <= truth <= row.high
    assert missed <= 150 * (0.05 + 4 * math.sqrt(0.05 * 0.95 / 150))


def test_a_reward_beyond_its_range_by_rounding_is_at_its_end() -> None:
    """.1 + .2 is a little more than .3."""
    log, target = drawn(300, 1.0)
    tenths = replace(log, reward=np.where(log.reward > 0, 0.1 + 0.2, 0.0), reward_range=(0.0, 0.3))
    (row,) = evaluate(tenths, target, estimators=["ips"])
    assert row.value == pytest.approx(0.3 * log.reward.mean())
