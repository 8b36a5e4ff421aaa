"""The lift of a slice over another: against a computation by hand, and against worlds whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from simulator.logs.log import Kind
from simulator.ope.lift.contrast import means, relative, weights
from simulator.ope.lift.earned import earned_of
from simulator.ope.lift.lift import REWARDED, USERS, lift_of
from simulator.ope.lift.pair import Pair, pair_of, silence, wrong
from simulator.ope.lift.past import foreseen, useful
from simulator.ope.lift.sequence import more, multiplier
from simulator.ope.lift.shares import imbalance
from simulator.ope.lift.traffic import Traffic, users_of

TWO = ("learned", "random")


def traffic(n: int = 6000, *, seed: int = 0, lift: float = 0.2, holdout: float = 0.3, **others: object) -> Traffic:
    """Clicks of users who come about three times each, at a rate of .3 without the lift."""
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, n // 3, n))
    user = user[rng.permutation(n)]
    part = (rng.random(n // 3) < holdout).astype(int)[user]
    click = rng.random(n) < np.where(part == 0, 0.3 + lift, 0.3)
    found = Traffic(
        TWO,
        part,
        np.tile([1 - holdout, holdout], (n, 1)),
        users_of(user + 1),
        np.arange(n) * 1000,
        (Kind("click"),),
        click[:, None].astype(float),
        uniform=1,
    )
    return replace(found, **others)  # type: ignore[arg-type]


def test_the_difference_is_that_of_the_slices_means_and_its_error_that_of_users() -> None:
    """By hand: three users of one slice, two of the other; rewards added up by user, ratios linearised."""
    user, part = np.array([0, 0, 1, 2, 2, 3, 4]), np.array([0, 0, 0, 1, 1, 1, 0])
    r = np.array([1.0, 3.0, 5.0, 0.0, 1.0, 5.0, 1.0])
    found = means(weights(part, np.tile([0.5, 0.5], (7, 1)), (0, 1)), r, np.zeros(7), user)
    assert found.value == pytest.approx([2.5, 2.0])
    first = [(4 - 2 * 2.5) / 4, (5 - 2.5) / 4, (1 - 2.5) / 4]  # (a user's rewards - mean x decisions) / all decisions
    second = [(1 - 2 * 2.0) / 3, (5 - 2.0) / 3]
    squares = [sum(each**2 for each in side) for side in (first, second)]
    decide = squares[0] ** 2 / sum(each**4 for each in first)  # users who decide the first one's variance
    if_like_the_second = squares[1] * 3**2 / 2 * 3 / 4**2  # per user, for three users with four decisions
    extra = 5 / (decide + 5) * (if_like_the_second - squares[0])
    assert squares[0] * 4**2 / 3 * 2 / 3**2 < squares[1]  # the other way round nothing is added
    assert found.error**2 == pytest.approx(5 / 4 * sum(squares) + extra)


def test_more_users_of_one_kind_do_not_make_a_user_count_twice() -> None:
    """A user whose one decision becomes ten equal ones says no more of others: the error stays what it was."""
    one = traffic(3000)
    ten = one.take(np.ones(3000, bool))
    rows = np.repeat(np.arange(3000), 10)
    ten = replace(
        one,
        part=one.part[rows],
        shares=one.shares[rows],
        user=one.user[rows],
        time_ms=one.time_ms[rows],
        rewards=one.rewards[rows],
    )
    first, second = lift_of(one), lift_of(ten)
    assert first is not None
    assert second is not None
    halves = [(each.effect.high - each.effect.low) / multiplier(each.decisions) for each in (first, second)]  # type: ignore[operator]
    assert halves[1] == pytest.approx(halves[0], rel=0.03)  # the first block is another one


def test_a_lift_covers_the_truth_and_a_loss_has_its_sign() -> None:
    """Sign = policy minus baseline, in the sum and in each kind, absolute and relative."""
    for true in (0.2, -0.2):
        found = lift_of(traffic(20_000, lift=true, kinds=(Kind("click", 2.0),)))
        assert found is not None
        assert (found.slice, found.baseline) == TWO
        (click,) = found.kinds
        assert click.low is not None
        assert click.high is not None
        assert click.low < true < click.high
        assert click.relative_low is not None
        assert click.relative_high is not None
        assert click.relative_low < true / 0.3 < click.relative_high
        assert found.effect.value == pytest.approx(2 * click.value)
        assert found.effect.clear
        assert np.sign(found.effect.value) == np.sign(true)


def test_moving_shares_do_not_make_a_winner_of_equal_slices() -> None:
    """The level of rewards doubles while the baseline's share goes from .1 to .6: plain means differ clearly."""
    rng = np.random.default_rng(1)
    n = 20_000
    held = np.where(np.arange(n) < n // 2, 0.1, 0.6)
    part = (rng.random(n) < held).astype(int)
    click = rng.random(n) < np.where(np.arange(n) < n // 2, 0.2, 0.4)
    equal = traffic(
        n, part=part, shares=np.column_stack([1 - held, held]), user=np.arange(n), rewards=click[:, None].astype(float)
    )
    found = lift_of(equal)
    assert found is not None
    assert not found.effect.clear
    assert [change.what for change in found.changes] == ["shares: learned 0.9 to 0.4, random 0.1 to 0.6"]
    assert found.changes[0].time_ms == n // 2 * 1000
    plain = click[part == 0].mean() - click[part == 1].mean()
    assert plain < -0.05
    assert abs(found.effect.value or 0) < 0.02
    trap = means(np.eye(2)[part], click.astype(float), np.zeros(n), np.arange(n))
    assert abs(trap.difference) > multiplier(n) * trap.error


def test_decisions_in_which_only_one_slice_had_a_share_say_nothing() -> None:
    """Before the holdout began there was nothing to compare with."""
    whole = traffic(6000)
    alone = replace(
        whole,
        part=np.concatenate([np.zeros(2000, int), whole.part]),
        shares=np.concatenate([np.tile([1.0, 0.0], (2000, 1)), whole.shares]),
        user=np.concatenate([np.arange(2000) + 10_000, whole.user]),
        time_ms=np.concatenate([np.arange(2000), whole.time_ms]),
        rewards=np.concatenate([np.ones((2000, 1)), whole.rewards]),
    )
    assert lift_of(alone) == lift_of(whole)
    assert lift_of(alone.take(np.arange(8000) < 2000)) is None


def test_nothing_is_said_of_few_users_or_of_few_rewards() -> None:
    """Told with how many are missing: users of the smaller slice, or users who earned something."""
    few = lift_of(traffic(90, holdout=0.3, user=np.arange(90)))
    held = int(traffic(90, holdout=0.3).part.sum())
    assert few is not None
    assert (few.missing, few.effect.value, few.effect.low) == (USERS - held, None, None)
    rare = traffic(3000)
    rewards = np.zeros((3000, 1))
    rewards[:7] = 1
    found = lift_of(replace(rare, rewards=rewards, user=np.arange(3000)))
    assert found is not None
    assert (found.missing, found.effect.missing, found.effect.value) == (0, REWARDED - 7, None)


def test_a_sum_waits_for_the_rewarded_users_of_what_decides_it() -> None:
    """Many clicks say nothing of money that seven users brought; where money hardly counts they say it all."""
    both = traffic(6000, user=np.arange(6000))
    money = np.where(np.arange(6000) < 7, 100.0, 0.0)
    for weight, missing in ((1.0, REWARDED - 7), (1e-4, 0)):
        kinds = (Kind("click"), Kind("buy", weight))
        found = lift_of(replace(both, kinds=kinds, rewards=np.column_stack([both.rewards, money])))
        assert found is not None
        assert (found.effect.missing, found.kinds[0].missing, found.kinds[1].missing) == (missing, 0, REWARDED - 7)


def test_a_cap_winsorises_and_is_counted() -> None:
    """A kind's rewards above it count as it, in its own lift and in the sum."""
    money = traffic(6000, kinds=(Kind("buy", cap=1.0),))
    large = replace(money, rewards=money.rewards * np.where(np.arange(6000) % 100 == 0, 400.0, 1.0)[:, None])
    found, plain = lift_of(large), lift_of(money)
    assert found is not None
    assert plain is not None
    assert found.kinds[0].value == plain.kinds[0].value
    assert (found.effect.value, found.kinds[0].cap) == (plain.effect.value, 1.0)
    assert found.kinds[0].capped == int((large.rewards > 1).sum()) > 0


def test_the_pair_is_learned_against_random_else_the_first_against_the_uniform_one() -> None:
    """And else against the next; one slice alone is no pair."""
    three = replace(traffic(10), names=("new", "old", "dice"), shares=np.tile([0.5, 0.3, 0.2], (10, 1)), uniform=None)
    assert pair_of(three) == (0, 1)
    assert pair_of(replace(three, uniform=0)) == (1, 0)
    assert pair_of(replace(three, uniform=2)) == (0, 2)
    assert pair_of(replace(three, names=("random", "x", "learned"))) == (2, 0)
    assert pair_of(replace(three, shares=np.tile([1.0, 0.0, 0.0], (10, 1)))) is None


def test_a_pair_can_be_asked_for_by_name() -> None:
    """Of one that is named the other is found: random, what plays uniformly, or the next; and learned, or the first."""
    names = ("random", "x", "learned", "y")
    four = replace(traffic(10), names=names, shares=np.tile([0.25] * 4, (10, 1)), uniform=0)
    assert pair_of(four, Pair("x", "y")) == (1, 3)
    assert pair_of(four, Pair("x")) == (1, 0)
    assert pair_of(four, Pair("random")) == (0, 1)
    assert pair_of(four, Pair(baseline="x")) == (2, 1)
    assert pair_of(replace(four, names=("a", "b", "c", "d")), Pair(baseline="b")) == (2, 1)
    assert pair_of(replace(four, names=("a", "b", "c", "d"), uniform=2), Pair("a")) == (0, 2)
    assert pair_of(replace(four, shares=np.tile([0.5, 0.5, 0.0, 0.0], (10, 1))), Pair("x", "y")) is None


def test_what_cannot_be_compared_says_why() -> None:
    """A name that is near; the same one twice; one slice alone, none at all, or two that never decided together."""
    two = traffic(10)
    names = two.names
    assert wrong(Pair("lerned"), ("learned", "random")) == (
        "slice",
        "one of learned, random; did you mean 'learned'?",
    )
    assert wrong(Pair(names[0], names[0]), names) == (
        "baseline",
        "another slice than the one that is compared with it",
    )
    assert wrong(Pair(baseline="a"), ()) == ("baseline", "nothing, as there are no slices")
    assert wrong(Pair(*names[::-1]), names) is None
    assert silence(two) == ""
    assert silence(None) == "no lift: these decisions were made without slices"
    alone = replace(two, shares=np.tile([1.0, 0.0], (10, 1)), part=np.zeros(10, int))
    assert silence(alone) == "no lift: a single slice has all of these decisions"
    assert silence(alone, Pair(names[1])) == f"no lift: {names[1]} has no share of these decisions"
    apart = np.where(np.arange(10)[:, None] < 5, [[1.0, 0.0]], [[0.0, 1.0]])
    never = f"no lift: there is no time at which both {names[0]} and {names[1]} decided"
    assert silence(replace(two, shares=apart, part=(np.arange(10) >= 5).astype(int))) == never


def test_what_a_slice_earned_is_what_its_lift_says_of_it() -> None:
    """Both means of a lift, capped; with shares that never move the plain mean but for what was foreseen."""
    whole = traffic(6000, kinds=(Kind("buy", cap=1.0),))
    large = replace(whole, rewards=whole.rewards * np.where(np.arange(6000) % 100 == 0, 400.0, 1.0)[:, None])
    found, (first, second) = lift_of(large), earned_of(large)
    assert found is not None
    assert (first.value, second.value) == (found.effect.mean, found.effect.baseline)
    assert (first.slice, first.decisions, second.decisions) == (0, *np.bincount(large.part).tolist())
    for each in (first, second):
        assert each.low is not None
        assert each.low < large.capped()[large.part == each.slice].mean() < (each.high or 0)
    unsliced = replace(large, shares=np.zeros((6000, 2)))
    (only,) = earned_of(unsliced)
    assert (only.slice, only.decisions) == (-1, 6000)
    assert only.value == pytest.approx(large.capped().mean(), rel=1e-12)
    assert earned_of(large.take(np.arange(6000) < 50))[0][3:] == (None, None)


def test_what_is_foreseen_of_a_decision_knows_nothing_of_its_reward_nor_of_later_ones() -> None:
    """Rewards from any row on may be anything: what was foreseen up to that row's block stays, bit by bit."""
    rng = np.random.default_rng(2)
    x, r = np.column_stack([np.ones(3000), rng.standard_normal((3000, 2))]), rng.standard_normal((3000, 1))
    user = rng.integers(0, 500, 3000)
    user = users_of(user + 1)
    f = foreseen(x, r, user)
    for row in (100, 700, 2000):
        other = r.copy()
        other[row:] = 1e6
        assert np.array_equal(foreseen(x, other, user)[: row + 1], f[: row + 1])
    assert np.allclose(foreseen(x[:1500], r[:1500], users_of(user[:1500] + 1)), f[:1500], rtol=1e-12)


def test_a_model_narrows_what_it_foresees_and_leaves_alone_what_it_does_not() -> None:
    """A reward that the context says leaves a tenth of the width; one that it does not say, the whole of it."""
    rng = np.random.default_rng(3)
    base = traffic(8000, user=np.arange(8000), lift=0.0)
    x = np.column_stack([np.ones(8000), rng.standard_normal((8000, 2))])
    said = replace(base, rewards=(x[:, 1] + 0.1 * rng.standard_normal(8000))[:, None], x=x)
    halves = [_half(each) for each in (said, replace(said, x=None), replace(base, x=x), base)]
    assert halves[0] < 0.25 * halves[1]  # the first blocks are foreseen by nothing
    assert halves[2] == pytest.approx(halves[3], rel=0.01)


def test_what_would_widen_the_difference_is_left_out() -> None:
    """Of each reward for itself, by users: a forecast that adds up over a user's decisions does no good."""
    r = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    f, alone = 0.9 * r * np.array([1.0, -1.0]), np.arange(4)
    assert np.array_equal(useful(f, r, alone), np.column_stack([f[:, 0], np.zeros(4)]))
    late = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    assert np.array_equal(useful(r + late, r, alone // 2), np.zeros((4, 2)))


def _half(each: Traffic) -> float:
    found = lift_of(each)
    assert found is not None
    assert found.effect.low is not None
    assert found.effect.high is not None
    return (found.effect.high - found.effect.low) / 2


def test_the_sequence_is_as_published_and_narrowest_where_it_is_tuned() -> None:
    """The half-width of Waudby-Smith et al., by their formula with rho^2 = 8.78 / 40,000 (alpha .05)."""
    v = (5.991465 + 1.790336 + 1) / 40_000 * 10_000
    assert multiplier(10_000) == pytest.approx(np.sqrt(2 * (v + 1) / v * np.log(np.sqrt(v + 1) / 0.05)), rel=1e-6)
    assert multiplier(40_000) == pytest.approx(3.035, abs=1e-3)
    assert min(range(1000, 200_000, 1000), key=multiplier) in range(30_000, 60_000)


def test_more_decisions_are_those_at_which_the_lift_would_be_clear() -> None:
    """With four fifths of probability, at the size seen; none where it would take a hundred times as many."""
    added = more(40_000, 0.5, 0.25)
    assert added is not None
    n = 40_000 + added
    assert 0.5 / (0.25 * np.sqrt(40_000 / n)) == pytest.approx(multiplier(n) + 0.8416, rel=1e-3)
    assert more(40_000, 0.001, 0.25) is None
    assert more(40_000, 0.0, 0.25) is None


def test_the_relative_lift_has_ends_only_beside_a_baseline_above_0() -> None:
    """Fieller: each end q has (m0 - q m1)^2 = b^2 var(m0 - q m1)."""
    found = means(np.eye(2)[np.arange(400) % 2], np.arange(400) % 7 + 1.0, np.zeros(400), np.arange(400))
    ends = relative(found, 3.0)
    assert ends is not None
    for q in (ends[1] + 1, ends[2] + 1):  # type: ignore[operator]
        c = np.array([1.0, -q])
        assert (c @ found.value) ** 2 == pytest.approx(9 * c @ found.covariance @ c)
    assert relative(found, 1000.0) is None


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_slices_that_lose_users_raise_the_alarm_and_sound_ones_do_not(share: float) -> None:
    """A quarter of one slice's users is gone; shares that move are each counted for themselves."""
    rng = np.random.default_rng(4)
    n = 40_000
    held = np.where(np.arange(n) < n // 2, share, share / 2)
    part, shares = (rng.random(n) < held).astype(int), np.column_stack([1 - held, held])
    assert imbalance(part, shares, np.arange(n)) is None
    kept = (part == 0) | (rng.random(n) < 0.75)
    found = imbalance(part[kept], shares[kept], np.arange(kept.sum()))
    assert found is not None
    assert found.slice == 1
    assert found.users < found.expected
    assert imbalance(np.ones(5, int), np.tile([1.0, 0.0], (5, 1)), np.arange(5)) is not None
