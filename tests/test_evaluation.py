"""Everything at once: obp's recorded values on real logs, what may be said, and whether intervals cover."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from simulator.estimators import dr, expected
from simulator.evaluation import ESTIMATORS, Row, evaluate
from simulator.intervals import betting, betting_ips, normal
from simulator.logged import Log
from simulator.models import cross_fitted, past_only, ridge_model
from simulator.moving import moving, moving_value
from tests.logs import Array, World, greedy_with, log_of, open_bandit, open_bandit_target, reference

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


def by_name(rows: list[Row]) -> dict[str, Row]:
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
    assert (found["dr"].low, found["dr"].high) == pytest.approx(normal(parts))
    ips = found["ips"]
    assert ips.value == pytest.approx((w * log.reward).mean())
    assert ips.standard_error == pytest.approx((w * log.reward).std(ddof=1) / math.sqrt(len(log)))
    assert (ips.max_weight, ips.mean_weight, ips.n) == pytest.approx((w.max(), w.mean(), len(log)))
    assert (ips.verdict, ips.note) == ("interval", "")


def test_all_estimators_come_in_their_order_or_those_asked_for() -> None:
    """No names: all ten."""
    log, target = drawn(500)
    assert tuple(row.estimator for row in evaluate(log, target)) == ESTIMATORS
    assert [row.estimator for row in evaluate(log, target, estimators=["dr", "ips"])] == ["dr", "ips"]


def test_biased_estimators_say_so_whatever_the_verdict() -> None:
    """Five carry the note; the rest do not."""
    log, target = drawn()
    for rows in (evaluate(log, target), evaluate(log.take(slice(0, 20)), target[:20])):
        noted = {row.estimator for row in rows if "bias not included" in row.note}
        assert noted == {"dm", "clipped", "switch-dr", "dros", "mrdr"}


def test_too_little_is_refused_with_its_reason() -> None:
    """30 rows of a uniform log: values, but no interval."""
    log, target = drawn(30, 1.0)
    for row in evaluate(log, target, estimators=["ips", "snips", "dr", "dm"]):
        assert (row.verdict, row.low, row.high) == ("refused", None, None)
        assert row.value is not None
        assert "effective n 30 is below 50" in row.note


def test_in_between_the_interval_is_a_confidence_sequence() -> None:
    """200 rows: that of IPS for IPS, SNIPS, DR and SNDR; DM, clipped, SWITCH, DRos and replay have their own."""
    log, target = drawn(200, 1.0)
    found = by_name(evaluate(log, target, acceptance="none", clip=0.5, tau=3.0, lam=9.0))
    assert {row.verdict for row in found.values() if row.estimator != "replay"} == {"sequence"}
    w = target[np.arange(200), log.arm] / log.propensity
    common = betting_ips(w, log.reward, bound=1.0)
    for name in ("ips", "snips", "dr", "sndr", "mrdr"):
        assert (found[name].low, found[name].high) == pytest.approx(common, abs=1e-12)
    assert (found["clipped"].low, found["clipped"].high) == pytest.approx(
        [0.5 * end for end in betting(np.minimum(w, 0.5) * log.reward / 0.5)], abs=1e-9
    )
    for name in ("dm", "switch-dr", "dros"):
        assert found[name].low < found[name].value < found[name].high
    assert found["dm"].high - found["dm"].low < found["ips"].high - found["ips"].low


def test_a_value_that_moves_has_the_sequence_for_it() -> None:
    """Of IPS and of what is bounded; of users and weighted rows it is betting, and the note says what that takes."""
    log, target = drawn(300, 1.0)
    found = by_name(evaluate(log, target, acceptance="none", drifts=True))
    w = target[np.arange(300), log.arm] / log.propensity
    band = moving_value(w, log.reward, bound=1.0)
    assert (found["dr"].low, found["dr"].high) == (band.low[-1], band.high[-1])
    q = np.full(target.shape, 0.5)
    dm = by_name(evaluate(log, target, q=q, estimators=["dm"], drifts=True))["dm"]
    even = moving(np.full(300, 0.5), np.full(300, 0.5))
    assert (dm.low, dm.high) == (even.low[-1], even.high[-1])
    twice = replace(log, user=np.repeat(np.array([f"u{i}" for i in range(150)]), 2))
    ips = by_name(evaluate(twice, target, drifts=True))["ips"]
    still = by_name(evaluate(twice, target))["ips"]
    assert (ips.low, ips.high, ips.verdict) == (still.low, still.high, "sequence")
    assert "takes a value that moves for one that stays" in ips.note
    assert "that moves" not in still.note


def test_rewards_on_another_scale_give_the_same_intervals_on_that_scale() -> None:
    """r to 40 r - 35, between -35 and 5: values and ends move along, in the sequence and the normal case."""
    for n in (200, 3000):
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
    assert evaluate(moved, target, q="mean") == evaluate(moved, target, q="mean", reward_range=(-35, 5))
    with pytest.raises(ValueError, match=r"rewards must be in \[0, 1\]; row 0 has -35"):
        evaluate(moved, target, reward_range=(0, 1))


def test_replay_is_judged_by_its_matches() -> None:
    """500 rows of a uniform log of five arms: n_eff* of the uniform target is 500, but about 100 rows match."""
    log, target = drawn(500, 1.0)
    found = by_name(evaluate(log, target))
    assert found["ips"].n_eff == pytest.approx(500)
    assert 70 < found["replay"].n_eff < 130
    assert found["replay"].verdict == "sequence"


def test_replay_without_rejection_on_a_log_that_is_not_uniform_says_it_is_biased() -> None:
    """With rejection, or on a uniform log, it does not."""
    log, target = drawn()
    (row,) = evaluate(log, target, estimators=["replay"], acceptance="none")
    assert "not uniform" in row.note
    assert "not uniform" not in evaluate(log, target, estimators=["replay"])[0].note
    even, target = drawn(explore=1.0)
    assert "not uniform" not in evaluate(even, target, estimators=["replay"], acceptance="none")[0].note


def test_a_replay_without_matches_has_no_value() -> None:
    """None, not NaN, and refused."""
    logging = np.tile([1.0, 0.0], (100, 1))
    log = log_of(logging, np.zeros(100, int), np.ones(100))
    (row,) = evaluate(log, logging[:, ::-1].copy(), estimators=["replay"])
    assert (row.value, row.standard_error, row.low, row.verdict) == (None, None, None, "refused")


def test_a_model_is_fitted_on_the_past_where_the_policy_learned() -> None:
    """By default, and in the other folds where it did not; asking for the wrong one is noted."""
    log, target = drawn()
    learned = replace(log, learning=True)
    want = expected(target, np.clip(past_only(ridge_model(), log), 0, 1)).mean()
    (row,) = evaluate(learned, target, estimators=["dm"])
    assert row.value == pytest.approx(want, rel=1e-12)
    assert evaluate(log, target, estimators=["dm"], q_fit="past")[0].value == row.value
    assert evaluate(log, target, estimators=["dm"])[0].value != row.value
    assert "future" in evaluate(learned, target, estimators=["dr"], q_fit="cross")[0].note
    assert "in sample" in evaluate(log, target, estimators=["dr"], q_fit="in_sample")[0].note


def test_predictions_and_regressors_can_be_handed_in() -> None:
    """A table of predictions as it is; a classifier of scikit-learn's, cross-fitted."""
    log, target = drawn(600)
    table = np.random.default_rng(0).random((600, log.K))
    assert evaluate(log, target, estimators=["dm"], q=table)[0].value == pytest.approx(expected(target, table).mean())
    found = by_name(evaluate(log, target, estimators=["dr", "ips"], q=LogisticRegression()))
    assert found["dr"].standard_error < found["ips"].standard_error


def test_users_that_repeat_widen_the_interval() -> None:
    """Each decision five times over: as many rows, but the interval of the fifth."""
    log, target = drawn(2000, 1.0)
    rows = np.repeat(np.arange(2000), 5)
    users = replace(log.take(rows), user=rows.astype(str))
    (once,), (many,) = (evaluate(each, t, estimators=["ips"]) for each, t in ((log, target), (users, target[rows])))
    assert (many.value, many.verdict) == (pytest.approx(once.value), "interval")
    assert (many.low, many.high) == pytest.approx((once.low, once.high))
    short = slice(0, 1000)  # 200 users: a sequence over users, as wide as over their 200 decisions
    (once,) = evaluate(log.take(slice(0, 200)), target[:200], estimators=["ips"])
    (many,) = evaluate(users.take(short), target[rows][short], estimators=["ips"])
    assert once.verdict == many.verdict == "sequence"
    assert many.n_eff == pytest.approx(200)


def test_row_weights_undo_a_thinned_log() -> None:
    """A tenth of the rows without a click kept: with weights the estimates agree with the whole log's."""
    world, rng, n = World(), np.random.default_rng(0), 40_000
    log, _ = world.log(rng, n, world.policy(0.5))
    kept = (log.reward > 0) | (rng.random(n) < 0.1)
    thin = replace(log, weight=np.where(log.reward > 0, 1.0, 10.0)).take(kept)
    target = np.full((n, world.K), 1 / world.K)
    for whole, part in zip(evaluate(log, target), evaluate(thin, target[kept]), strict=True):
        assert part.verdict == "interval"
        assert part.value == pytest.approx(whole.value, abs=5 * math.hypot(whole.standard_error, part.standard_error))
        assert abs(part.value - thin.reward.mean()) > 0.1


def test_the_bootstrap_can_be_asked_for() -> None:
    """The same verdict, its quantiles in place of the normal ones, the same for the same seed."""
    log, target = drawn()
    (plain,) = evaluate(log, target, estimators=["snips"])
    (boot,) = evaluate(log, target, estimators=["snips"], interval="bootstrap", seed=7)
    assert (boot.low, boot.high) == pytest.approx((plain.low, plain.high), abs=0.2 * (plain.high - plain.low))
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
            assert row.n_eff >= 400
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
    """.05 explored over 20 arms: a sequence at best, in each of 40 logs and for each estimator."""
    world, rng = World(K=20), np.random.default_rng(0)
    logging, target = world.policy(0.05), world.policy(1.0)
    for _ in range(40):
        log, rows = world.log(rng, 500, logging)
        found = evaluate(log, target[rows], estimators=["ips", "snips", "dr"], q="mean")
        assert {row.verdict for row in found} == {"refused"}


def test_the_sequences_of_real_answers_cover_too() -> None:
    """Between 50 and 400: over 150 logs the sequence misses in 5 % at most (and 4 standard errors of that)."""
    world, rng = World(), np.random.default_rng(1)
    logging, target = world.policy(0.2), world.policy(1.0)
    truth, missed = world.value(target), 0
    for _ in range(150):
        log, rows = world.log(rng, 600, logging)
        (row,) = evaluate(log, target[rows], estimators=["ips"])
        assert row.verdict == "sequence"
        missed += not row.low <= truth <= row.high
    assert missed <= 150 * (0.05 + 4 * math.sqrt(0.05 * 0.95 / 150))
