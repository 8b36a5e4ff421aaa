"""Differences of what policies earn on the same rows: by a plain loop, where they are 0, and at how many looks."""

import math
from dataclasses import replace

import numpy as np
import pytest
from logs import Array, World, draw, greedy_with, log_of

from benchmarks.coverage_logs import moving, users
from simulator.logs.log import Log
from simulator.ope.differences import Data, Difference, compare, compared, earned, lift
from simulator.ope.evaluate import evaluate

DAYS, PER_DAY = 30, 50


def usual(n: int = 2000, explore: float = 0.5, **fields: object) -> tuple[Log, Array, Array]:
    """A log of the usual world, the uniform target and the greedy one."""
    world = World()
    log, rows = world.log(np.random.default_rng(0), n, world.policy(explore), **fields)
    return log, world.policy(1.0)[rows], world.policy(0.0)[rows]


def test_a_difference_is_the_mean_of_doubly_robust_ones() -> None:
    """Row by row: sum_a (A - B) q + (A - B) / mu (r - q); so are two values by DR, one less the other."""
    log, even, greedy = usual()
    q = np.random.default_rng(1).random(even.shape)
    total = 0.0
    for i, a in enumerate(log.arm.tolist()):
        v = sum((even[i, b] - greedy[i, b]) * q[i, b] for b in range(log.K))
        total += v + (even[i, a] - greedy[i, a]) / log.propensity[i] * (log.reward[i] - q[i, a])
    found = compared(Data.of(log, {"q": q}), even, greedy, 0.05)
    assert found.value == pytest.approx(total / len(log))
    one, other = (evaluate(log, pi, estimators=["dr"], q=q)[0].value for pi in (even, greedy))
    assert found.value == pytest.approx(one - other)
    assert found.share == pytest.approx((one - other) / other)
    back = compared(Data.of(log, {"q": q}), greedy, even, 0.05)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_a_lift_is_the_value_less_the_mean_reward() -> None:
    """What was earned is its own propensity's: w is 1."""
    log, even, _ = usual()
    q = np.random.default_rng(1).random(even.shape)
    found = lift(Data.of(log, {"q": q}), even, 0.05)
    at = np.arange(len(log)), log.arm
    rest = ((even - log.probability) * q).sum(axis=1) + (even[at] / log.propensity - 1) * (log.reward - q[at])
    assert found.value == pytest.approx(rest.mean())
    assert found.verdict == "interval"
    assert found.low < found.value < found.high < 0


@pytest.mark.parametrize("looks", ["one", "any"])
@pytest.mark.parametrize("n", [1, 20, 2000])
def test_a_policy_differs_from_itself_by_nothing(looks: str, n: int) -> None:
    """Exactly 0, from 0 to 0, however few rows: nothing was drawn differently. It is no clear difference."""
    log, even, _ = usual(n)
    found = compare(log, {"a": even, "b": even.copy()}, looks=looks)["b"]
    assert (found.value, found.low, found.high, found.clear) == (0.0, 0.0, 0.0, False)
    own_policy = lift(Data.of(log, {"q": "mean"}), log.probability, 0.05, looks)
    assert (own_policy.value, own_policy.low, own_policy.high) == (0.0, 0.0, 0.0)


def test_rows_that_cannot_tell_the_two_apart_are_left_out() -> None:
    """An arm that could not be shown in a row of fifty: compared on the others; where it never could, refused."""
    rng, n = np.random.default_rng(0), 2000
    logging = np.full((n, 3), 1 / 3)
    logging[::50] = [0.5, 0.5, 0.0]
    log = log_of(logging, draw(rng, logging), (rng.random(n) < 0.3).astype(float))
    last, first = (greedy_with(0.0, np.full(n, a), 3) for a in (2, 0))
    alone, q = np.arange(n) % 50 != 0, rng.random((n, 3))
    found = compare(log, {"a": first, "b": last}, looks="one", q=q)["b"]
    same_rows = compare(log.take(alone), {"a": first[alone], "b": last[alone]}, looks="one", q=q[alone])["b"]
    assert (found.n, found.verdict) == (1960, "interval")
    assert (found.value, found.low, found.high) == pytest.approx((same_rows.value, same_rows.low, same_rows.high))
    never = log.take(~alone)
    refused = compare(never, {"a": first[~alone], "b": last[~alone]})["b"]
    assert (refused.verdict, refused.low, refused.high, refused.clear, refused.n) == ("refused", None, None, False, 0)


def test_a_broken_log_has_no_difference() -> None:
    """Propensities twice too small, or lost rows."""
    log, even, greedy = usual()
    wrong = replace(log, propensity=log.propensity / 2, probability=None)
    lost = log.take((log.arm != 2) | (np.arange(len(log)) % 2 == 0))
    rows = (log.arm != 2) | (np.arange(len(log)) % 2 == 0)
    for each, one, other in ((wrong, even, greedy), (lost, even[rows], greedy[rows])):
        found = compare(each, {"a": one, "b": other})["b"]
        assert (found.verdict, found.low, math.isnan(found.value)) == ("refused", None, True)


def test_the_paired_difference_is_narrower_than_the_two_values() -> None:
    """A target that differs in one context of twenty: the rest is the same and cancels."""
    log, _, greedy = usual(6000, 1.0)
    other = np.where((np.arange(6000) % 20 == 0)[:, None], np.roll(greedy, 1, axis=1), greedy)
    found = compare(log, {"a": greedy, "b": other}, looks="one")["b"]
    (one,), (two,) = (evaluate(log, pi, estimators=["dr"]) for pi in (greedy, other))
    assert found.verdict == "interval"
    assert found.high - found.low < math.hypot(one.high - one.low, two.high - two.low) / 2


def test_looks_and_money_decide_between_interval_and_sequence() -> None:
    """Looked at again: a sequence, and a wider one. Rewards without a stated range: one that assumes theirs."""
    log, even, greedy = usual()
    once, often = (compare(log, {"a": greedy, "b": even}, looks=looks)["b"] for looks in ("one", "any"))
    assert (once.verdict, often.verdict) == ("interval", "sequence")
    assert often.low < once.low < once.high < often.high
    assert compare(log, {"a": greedy, "b": even})["b"] == often
    money = replace(log, reward=30 * log.reward)
    for how, said in (({}, "assumed"), ({"reward_range": (0, 30)}, "interval"), ({"cap": 20}, "interval")):
        assert compare(money, {"a": greedy, "b": even}, looks="one", **how)["b"].verdict == said
    given = compare(money, {"a": greedy, "b": even}, looks="one", reward_range=(0, 30))["b"]
    assert (given.low, given.high) == pytest.approx((30 * once.low, 30 * once.high), rel=1e-3)


def rare(seed: int, *, known: bool, n: int = 1000) -> tuple[Log, Array, Array]:
    """One visitor of twenty is shown arm 1 by 2 %, and pays 1 for it; the others by 30 %, and pay nothing."""
    rng = np.random.default_rng([23, seed])
    segment = rng.random(n) < 0.05
    p = np.where(segment, 0.02, 0.3)
    logging = np.column_stack([1 - p, p])
    arm = draw(rng, logging)
    log = log_of(logging, arm, (segment & (arm == 1)).astype(float), full=known)
    return log, greedy_with(0.0, np.zeros(n, int), 2), greedy_with(0.0, np.ones(n, int), 2)


@pytest.mark.parametrize("known", [True, False])
def test_a_difference_holds_where_heavy_rows_were_not_drawn(*, known: bool) -> None:
    """-.05 in truth: with the largest weight seen for a bound, the sequence held in 64 logs of 100."""
    held = []
    for seed in range(60):
        log, zero, one = rare(seed, known=known)
        for looks in ("one", "any"):
            found = compare(log, {"one": one, "zero": zero}, looks=looks)["zero"]
            held.append(found.low is None or found.low <= -0.05 <= found.high)
    assert np.mean(held) > 0.97


def test_policies_that_differ_only_where_nothing_was_drawn_are_not_the_same() -> None:
    """Two rare arms, neither ever shown: [0, 0] was said of a true difference of .45."""
    rng, n = np.random.default_rng(0), 1000
    logging = np.full((n, 3), [0.999, 0.0005, 0.0005])
    log = log_of(logging, np.zeros(n, int), (rng.random(n) < 0.1).astype(float))
    one, two = (greedy_with(0.0, np.full(n, arm), 3) for arm in (1, 2))
    for looks in ("one", "any"):
        found = compare(log, {"one": one, "two": two}, looks=looks)["two"]
        assert (found.verdict, found.clear) == ("sequence", False)
        assert found.low < -0.4
        assert found.high > 0.4


def test_users_who_keep_their_arm_are_compared_and_are_few() -> None:
    """Fifty rows each: 100 users are no log that is broken, and five are not enough for an interval."""
    rng = np.random.default_rng(0)
    for people, verdict in ((400, "interval"), (5, "sequence")):
        arm, liking = rng.integers(2, size=people), rng.beta(1, 3, people)
        who = np.repeat(np.arange(people), 50)
        n = len(who)
        clicks = (rng.random(n) < liking[who]).astype(float)
        log = log_of(np.full((n, 2), 0.5), arm[who], clicks, user=who.astype(str))
        pair = {"a": greedy_with(0.0, np.zeros(n, int), 2), "b": greedy_with(0.0, np.ones(n, int), 2)}
        assert compare(log, pair, looks="one")["b"].verdict == verdict


def test_what_was_earned_is_the_mean_reward() -> None:
    """With its textbook interval on many rows; as a sequence for many looks, for few rows and for money."""
    log, even, _ = usual()
    data = Data.of(log, {"q": "mean"})
    side = earned(data, 0.05)
    half = 1.96 * log.reward.std() / math.sqrt(len(log))
    assert (side.value, side.verdict) == (pytest.approx(log.reward.mean()), "interval")
    assert (side.low, side.high) == pytest.approx((side.value - half, side.value + half), abs=half / 6)
    assert earned(data, 0.05, "any").verdict == "sequence"
    assert earned(data.take(np.arange(20)), 0.05).verdict == "sequence"
    assert earned(Data.of(replace(log, reward=30 * log.reward), {"q": "mean"}), 0.05).verdict == "assumed"
    assert even.shape == data.q.shape


def test_users_that_repeat_widen_a_difference() -> None:
    """Each decision five times over: the interval of once each."""
    log, even, greedy = usual()
    rows = np.repeat(np.arange(2000), 5)
    many = replace(log.take(rows), user=rows.astype(str))
    q = np.full(even.shape, 0.3)
    once = compared(Data.of(log, {"q": q}), greedy, even, 0.05)
    often = compared(Data.of(many, {"q": q[rows]}), greedy[rows], even[rows], 0.05)
    assert often.verdict == once.verdict == "interval"
    assert (often.low, often.high) == pytest.approx((once.low, once.high), rel=0.02)


def series(looks: str, count: int) -> tuple[float, float]:
    """Of A/A tests looked at daily for a month the shares that were clear at some look, and at the last one."""
    first, second = (greedy_with(0.0, np.full(DAYS * PER_DAY, a), 2) for a in (0, 1))
    even, q = np.full(first.shape, 0.5), np.full(first.shape, 0.3)
    clear = np.zeros((count, DAYS), bool)
    for seed in range(count):
        rng = np.random.default_rng(seed)
        log = log_of(even, draw(rng, even), (rng.random(len(even)) < 0.3).astype(float))
        for day in range(DAYS):
            rows = slice((day + 1) * PER_DAY)
            found = compare(log.take(rows), {"a": first[rows], "b": second[rows]}, q=q[rows], looks=looks)["b"]
            clear[seed, day] = found.clear
    return clear.any(axis=1).mean(), clear[:, -1].mean()


def test_equal_targets_looked_at_daily_are_hardly_ever_called_different() -> None:
    """A sequence: in 5 % of the months at most, and 4 standard errors of that; an interval for one look in many."""
    assert series("any", 40)[0] <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 40)
    ever, last = series("one", 150)
    assert last <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 150) < 0.15 < ever


def held(found: Difference, truth: float) -> bool:
    """Whether the ends hold it."""
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def test_differences_of_values_that_move_and_of_users_are_held() -> None:
    """Rates that rise and fall; visitors with a liking of their own: 5 % of 40 logs, and 4 standard errors of that."""
    kept: dict[str, list[bool]] = {"moving": [], "users": []}
    for seed in range(40):
        for name, make in (("moving", moving), ("users", users)):
            one, other, *_ = make(3000, np.random.default_rng(seed))
            found = compare(one.log, {"a": other.target, "b": one.target}, q="mean", looks="one")["b"]
            kept[name].append(held(found, one.truth - other.truth))
    assert min(np.mean(each) for each in kept.values()) >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 40)


def test_a_baseline_that_is_none_of_the_targets_is_refused() -> None:
    """With those that are."""
    log, even, greedy = usual(20)
    with pytest.raises(ValueError, match="the baseline is one of a, b; got 'c'"):
        compare(log, {"a": even, "b": greedy}, baseline="c")
    assert list(compare(log, {"a": even, "b": greedy}, baseline="b")) == ["a"]
