"""Intervals against textbook formulae, plain loops, and the exact probability of a miss over all possible logs."""

import math
from itertools import product

import numpy as np
import pytest
from logs import Array

from simulator.ope import estimators as of
from simulator.ope.drifting import drifting
from simulator.ope.estimators import Estimate, mean
from simulator.ope.intervals import (
    Band,
    Bet,
    Interval,
    Stakes,
    betting_running,
    bootstrap,
    bounded,
    lower,
    normal,
    standard_error,
    upper_error,
    weighted,
)


def plain_normal(estimate: Estimate, alpha: float = 0.05) -> Interval:
    """Around an estimate, with the standard error of its rows."""
    return normal(estimate.value, standard_error(estimate), alpha)


def weighted_rows(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Weights of a log with .1 explored over ten arms, target uniform, and 0-1 rewards."""
    rng = np.random.default_rng(seed)
    greedy = rng.random(n) < 0.91
    return np.where(greedy, 0.1 / 0.91, 10.0), (rng.random(n) < np.where(greedy, 0.6, 0.3)).astype(float)


def slow_lower(X: Array, t: Array, a: float) -> float:
    """The lower bound by a plain loop over a fine grid of candidates: each bet as Waudby-Smith and Ramdas write it."""
    best = 0.0
    for m in np.linspace(0, 1.6, 801)[1:]:
        capital, seen, mu, total_t, squares = 1.0, 0.0, 0.5, 0.0, 0.25
        for i, (x, count) in enumerate(zip(X, t, strict=True), start=1):
            lam = math.sqrt(2 * math.log(1 / a) / (squares / i * i * math.log(1 + i)))
            capital *= 1 + min(lam, 0.25 / m) * (x - m * count)
            if capital >= 1 / a:
                best = m
                break
            seen, total_t = seen + x, total_t + count
            mu = (0.5 + seen) / (1 + total_t)
            squares += (x - mu * count) ** 2
    return best


def test_the_normal_interval_of_a_mean_is_the_textbooks() -> None:
    """mean -+ 1.96 s / sqrt(n), s with n - 1."""
    values = np.random.default_rng(0).gamma(2, 1, 50)
    half = 1.959963984540054 * values.std(ddof=1) / math.sqrt(50)
    assert plain_normal(mean(values)) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-12)
    assert plain_normal(mean(values), 0.2).low == pytest.approx(
        values.mean() - half * 1.2815515655446004 / 1.959963984540054
    )


def test_the_standard_error_of_ratios_agrees_with_leaving_out_each_row() -> None:
    """SNIPS and SNDR against the jackknife, which knows nothing of derivatives."""
    w, r = weighted_rows(800)
    q = np.full(800, 0.4)
    for each in (
        of.snips(r, np.minimum(1 / w, 1), np.minimum(w, 1)),
        of.sndr(r, np.minimum(1 / w, 1), np.minimum(w, 1), q, q),
    ):
        left = [Estimate(np.delete(each.top, i, 1), np.delete(each.bottom, i, 1)).value for i in range(800)]
        jackknife = math.sqrt(799 * np.var(left))
        assert standard_error(each) == pytest.approx(jackknife, rel=0.01)


def test_rows_copied_within_a_user_add_no_certainty() -> None:
    """Every row three times, added up by user: the interval of once each; as rows it would be 1.7 times smaller."""
    values = np.random.default_rng(0).random(40)
    thrice = mean(np.repeat(values, 3))
    users = thrice.grouped(np.repeat(np.arange(40), 3))
    assert plain_normal(users) == pytest.approx(plain_normal(mean(values)), rel=1e-12)
    assert standard_error(mean(values)) / standard_error(thrice) == pytest.approx(math.sqrt(3 * 119 / 117), rel=1e-12)


def test_the_upper_standard_error_adds_that_of_the_variance() -> None:
    """k clicks of weight 1 among very many rows: variance k / n^2 and its own standard error sqrt(k) / n^2."""
    values = np.append(np.ones(9), np.zeros(10**6 - 9))
    assert upper_error(mean(values)) == pytest.approx(math.sqrt(9 + 3) / 10**6, rel=1e-4)
    many = np.repeat([0.0, 1.0], 50_000)
    assert upper_error(mean(many)) == pytest.approx(standard_error(mean(many)), rel=2e-3)


def test_one_row_has_no_standard_error() -> None:
    """Nothing is known of the spread of one."""
    assert standard_error(mean(np.array([1.0]))) == math.inf


def test_the_bootstrap_is_the_binomials_own_quantiles() -> None:
    """Resampling 30 ones of 100 rows is drawing from Binomial(100, .3): quantiles .21 and .39, seeded."""
    values = np.repeat([1.0, 0.0], [30, 70])
    low, high = bootstrap(mean(values), seed=1, resamples=20_000)
    assert (low, high) == pytest.approx((0.21, 0.39), abs=0.0101)
    assert bootstrap(mean(values), seed=1, resamples=20_000) == (low, high)


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_rows() -> None:
    """Plain, self-normalised and two-ratio estimates; chunks of rows make no difference."""
    w, r = weighted_rows(3000)
    p, t = np.where(w > 1, 0.01, 0.91), np.full(3000, 0.1)
    for each in (of.ips(r, p, t), of.snips(r, p, t), of.sndr(r, p, t, np.full(3000, 0.3), np.full(3000, 0.3))):
        drawn, plain = bootstrap(each, seed=2), plain_normal(each)
        assert drawn.high - drawn.low == pytest.approx(plain.high - plain.low, rel=0.12)
        assert drawn.low < each.value < drawn.high


def test_the_bootstrap_leaves_out_resamples_without_weight() -> None:
    """One match in four rows: a third of the resamples have none, and the value is never NaN."""
    rows = np.array([1.0, 0, 0, 0]), np.full(4, 0.5), np.array([1.0, 0, 0, 0])
    assert bootstrap(of.snips(*rows)) == (1.0, 1.0)


def miss(band: Band, truth: float) -> bool:
    """Whether a sequence ever excluded the truth."""
    return bool((band.low > truth + 1e-12).any() or (band.high < truth - 1e-12).any())


def test_sequences_of_bounded_values_miss_at_any_time_less_than_they_may() -> None:
    """The exact probability, over all 256 logs of eight rows, that any of the eight intervals excludes the truth."""
    missed = dict.fromkeys((0.15, 0.5, 0.8), 0.0)
    for log in product((0.0, 1.0), repeat=8):
        values = np.array(log)
        band, ones = betting_running(bounded(values), 0.5, 64), int(values.sum())
        for p in missed:
            missed[p] += p**ones * (1 - p) ** (8 - ones) * miss(band, p)
    assert max(missed.values()) <= 0.5
    assert min(missed.values()) > 0.01  # it does bet: the test can fail


@pytest.mark.parametrize("bound", [math.inf, 4.0])
def test_sequences_of_weighted_values_miss_at_any_time_less_than_they_may(bound: float) -> None:
    """All 3^5 logs: w r of 4 (p .1), 0 with weight 4 (.1) or weight .25 with reward 1 (.8); the mean weight is 1."""
    kinds = ((4.0, 1.0, 0.1), (4.0, 0.0, 0.1), (0.25, 1.0, 0.8))
    truth = sum(w * r * p for w, r, p in kinds)
    missed = 0.0
    for log in product(kinds, repeat=5):
        w, r, p = (np.array(each) for each in zip(*log, strict=True))
        missed += float(p.prod()) * miss(betting_running(weighted(w, r, bound), 0.6, 16), truth)
    assert 0.001 < missed <= 0.6


def test_the_lower_bound_is_that_of_a_plain_loop() -> None:
    """Bounded, weighted and clustered values against every candidate tried one by one, to the grid's step."""
    rng = np.random.default_rng(0)
    w, r = weighted_rows(120)
    users = rng.integers(1, 4, 80).astype(float)
    for X, t in (((rng.random(60) < 0.7) * 1.0, np.ones(60)), (w * r, np.ones(120)), (users * rng.random(80), users)):
        T = t.max()
        assert lower([Bet(X)], t, 0.025) == pytest.approx(slow_lower(X / T, t / T, 0.025), abs=0.0021)
        assert lower([Bet(X)], t, 0.025) > 0.05


def test_the_running_bounds_end_where_the_final_ones_are() -> None:
    """Rounded outwards by a part in 256 of each bound, never inwards; they only ever shrink."""
    w, r = weighted_rows(1500)
    for bound in (math.inf, 10.0):
        band, last = betting_running(weighted(w, r, bound)), weighted(w, r, bound).betting(0.05)
        assert last.low * (1 - 1 / 256) <= band.low[-1] <= last.low + 1e-12
        assert last.high - 1e-12 <= band.high[-1] <= last.high + max(1, bound if bound < 99 else 1) / 256
        assert (np.diff(band.low) >= 0).all()
        assert (np.diff(band.high) <= 0).all()
    assert band.low[0] == 0
    assert band.high[0] == 1


def test_the_running_bound_after_some_rows_is_the_final_one_of_these_rows() -> None:
    """No row is used before it came."""
    w, r = weighted_rows(600)
    band = betting_running(weighted(w, r), steps=2048)
    for k in (50, 300):
        now = weighted(w[:k], r[:k]).betting(0.05)
        assert band.low[k - 1] == pytest.approx(now.low, abs=1e-3)
        assert band.high[k - 1] == pytest.approx(now.high, abs=1e-3)


def test_betting_is_symmetric() -> None:
    """The interval of 1 - X is 1 - the interval of X."""
    values = np.random.default_rng(0).beta(2, 5, 200)
    there, back = (bounded(each).betting(0.05) for each in (values, 1 - values))
    assert (1 - back.high, 1 - back.low) == pytest.approx(there, abs=1e-12)


def test_a_bound_of_the_weights_helps_where_rewards_are_rare() -> None:
    """Rewards at half a per cent: without a bound the upper end is some ten times the rate, with it some three."""
    rng = np.random.default_rng(0)
    w, _ = weighted_rows(20_000)
    r = (rng.random(20_000) < 0.005).astype(float)
    free, narrow = weighted(w, r).betting(0.05), weighted(w, r, 10.0).betting(0.05)
    assert free.low == narrow.low
    assert narrow.high < 0.015 < 0.03 < free.high


def test_weighted_units_count_for_what_they_hold() -> None:
    """A user of three rows is three rows at once: with the same ratio everywhere the bound approaches it."""
    t = np.random.default_rng(0).integers(1, 4, 3000).astype(float)
    low, high = Stakes([Bet(0.3 * t)], [Bet(0.7 * t)], t).betting(0.05)
    assert 0.25 < low < 0.3 < high < 0.35


def test_sequences_refuse_values_outside_their_range() -> None:
    """They would promise what they cannot keep."""
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]; got 0.5 to 1.5"):
        bounded(np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="at least 0; got -1"):
        lower([Bet(np.array([-1.0]))], np.ones(1), 0.05)


def test_nothing_seen_says_nothing() -> None:
    """No rows: from 0 to 1."""
    assert bounded(np.zeros(0)).betting(0.05) == (0.0, 1.0)
    assert len(betting_running(bounded(np.zeros(0))).low) == 0


def test_two_bets_on_one_mean_keep_what_either_wins() -> None:
    """About as good as the better at half of alpha (bets are a little larger then): w r, and w r + .5 (1 - w)."""
    w, r = weighted_rows(3000)
    bets = Bet(w * r), Bet(w * r + 0.5 * (1 - w), 4.5)
    halved = [lower([bet], np.ones(3000), 0.0125) for bet in bets]
    assert halved[0] != pytest.approx(halved[1], abs=1e-3)
    assert lower(bets, np.ones(3000), 0.025) >= max(halved) - 1e-3


def test_values_below_their_floor_are_refused() -> None:
    """A bet could lose more than it has."""
    with pytest.raises(ValueError, match=r"at least -0\.5; got -0\.7"):
        lower([Bet(np.array([0.2, -0.7]), 0.5)], np.ones(2), 0.05)


@pytest.mark.parametrize("drifts", [False, True])
def test_stakes_with_a_floor_miss_at_any_time_less_than_they_may(drifts: bool) -> None:
    """All 3^5 logs of weighted rewards, bet on as w r and as .5 + w (r - .5): the truth is left out in half at most."""
    kinds = ((4.0, 1.0, 0.1), (4.0, 0.0, 0.1), (0.25, 1.0, 0.8))
    truth = sum(w * r * p for w, r, p in kinds)
    missed = 0.0
    for log in product(kinds, repeat=5):
        w, r, p = (np.array(each) for each in zip(*log, strict=True))
        X = 0.5 + w * (r - 0.5)
        stakes = Stakes([Bet(w * r), Bet(X, 1.5)], [Bet(w * (1 - r)), Bet(1 - X, 1.5)], np.ones(5))
        band = drifting(stakes, 0.5) if drifts else betting_running(stakes, 0.5, 16)
        missed += float(p.prod()) * miss(band, truth)
    assert missed <= 0.5
