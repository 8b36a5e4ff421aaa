"""Sequences for a mean that drifts: against a plain loop, and how often they leave the mean out, whatever it does."""

import math
from itertools import product

import numpy as np
import pytest
from logs import Array

from simulator.ope.drifting import drifting, drifting_lower, sequence_of
from simulator.ope.intervals import Band, Bet, Stakes, betting_running, bounded, weighted

N, LONG = 300, 1500


def slow_lower(bets: list[Bet], t: Array, a: float) -> list[float]:
    """The bound after each row, as the formula is written."""
    bounds = []
    for n in range(1, len(t) + 1):
        lines = []
        for bet in bets:
            b = 2.0 ** math.ceil(math.log2((bet.floor + 1) * max(t)))
            V, total, count = 0.0, 0.0, 0.0
            for i in range(n):
                guess = 0.5 if i == 0 else max(-1.0, min(1.0, total / count))
                V += (bet.X[i] - guess * t[i]) ** 2
                total, count = total + bet.X[i], count + t[i]
            for k in range(16):
                slope, share = 0.8 * 2.0**-k / b, 1 / ((k + 1) * (k + 2) * len(bets))
                lines.append((slope, share, total, (-math.log(1 - slope * b) - slope * b) / b**2 * V))

        def wealth(M: float, lines: list[tuple[float, float, float, float]] = lines) -> float:
            return sum(share * math.exp(min(700, slope * (total - M) - spent)) for slope, share, total, spent in lines)

        low, high = -1e5, max(total for _, _, total, _ in lines)
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if wealth(middle) >= 1 / a else (low, middle)
        bounds.append(low / count)
    return bounds


def test_the_bound_is_the_formula() -> None:
    """Row by row, with values far above 1, of users of several rows, and of two bets, one with a floor."""
    rng = np.random.default_rng(0)
    X, t = rng.gamma(0.2, 5, 40), rng.integers(1, 4, 40).astype(float)
    for bets, counts in (([Bet(X)], np.ones(40)), ([Bet(X * t)], t), ([Bet(X), Bet(X - 0.7, 0.7)], np.ones(40))):
        assert drifting_lower(bets, counts, 0.05) == pytest.approx(slow_lower(bets, counts, 0.05), rel=1e-9)
        last = drifting_lower(bets, counts, 0.05, slice(-1, None))
        assert last == pytest.approx(slow_lower(bets, counts, 0.05)[-1:], rel=1e-9)


def test_its_shares_stay_below_one() -> None:
    """The sum over all slopes of what may go wrong is no more than `a`."""
    assert sum(1 / ((k + 1) * (k + 2)) for k in range(16)) < 1


def test_values_below_their_floor_are_refused() -> None:
    """A bet on what may fall without end would be no bound."""
    with pytest.raises(ValueError, match=r"at least 0; got -0\.5"):
        drifting_lower([Bet(np.array([1.0, -0.5]))], np.ones(2), 0.05)


def missed(band: Band, truth: Array) -> bool:
    """Whether the mean was left out after any row."""
    return bool(((truth < band.low) | (truth > band.high)).any())


@pytest.mark.parametrize("t", [np.ones(8), np.array([1.0, 2, 1, 4, 1, 1, 2, 1])])
def test_any_row_may_miss_in_as_many_logs_as_allowed_at_most(t: Array) -> None:
    """The exact probability, over all 256 logs of eight rows or users, that any of eight intervals is false."""
    missing = {"rises": np.linspace(0.1, 0.9, 8), "falls": np.linspace(0.9, 0.1, 8), "jumps": np.repeat([0.0, 1.0], 4),
               "stays": np.full(8, 0.5)}  # fmt: skip
    total = dict.fromkeys(missing, 0.0)
    for log in product((0.0, 1.0), repeat=8):
        X = np.array(log)
        band = drifting(Stakes([Bet(t * X)], [Bet(t * (1 - X))], t), 0.8)
        for name, rate in missing.items():
            truth = np.cumsum(t * rate) / np.cumsum(t)
            total[name] += float(np.where(X > 0, rate, 1 - rate).prod()) * missed(band, truth)
    assert max(total.values()) <= 0.8
    assert max(total.values()) > 0  # it says something: the test can fail


def running(values: Array) -> Array:
    """The mean after each row."""
    result: Array = np.cumsum(values) / np.arange(1, len(values) + 1)
    return result


@pytest.mark.parametrize("rate", [np.linspace(0.1, 0.5, N), np.linspace(0.5, 0.1, N), np.full(N, 0.3)])
def test_a_mean_that_rises_or_falls_is_held_at_every_look(rate: Array) -> None:
    """Looked at after every row of 200 logs: missed in 5 % at most (and 4 standard errors of that)."""
    rng = np.random.default_rng(1)
    bands = [drifting(bounded((rng.random(N) < rate).astype(float))) for _ in range(200)]
    assert sum(missed(band, running(rate)) for band in bands) <= 200 * 0.05 + 4 * math.sqrt(200 * 0.05 * 0.95)
    widths = [float(band.high[-1] - band.low[-1]) for band in bands]
    assert max(widths) < 0.35  # and it says something


def test_betting_leaves_a_mean_that_moves_out() -> None:
    """Why there is another sequence: the same rising rate, and every one of 20 logs is missed."""
    rng, rate = np.random.default_rng(1), np.linspace(0.1, 0.5, LONG)
    assert all(
        missed(betting_running(bounded((rng.random(LONG) < rate).astype(float))), running(rate)) for _ in range(20)
    )


def logged(rng: np.random.Generator, explore: float, n: int = N) -> tuple[Array, Array, Array, Array]:
    """A log of ten arms: the greedy one changes half way. w of the even choice, rewards, its values, those shown."""
    K, best = 10, np.where(np.arange(n) < n // 2, 0, 1)
    rate = np.where(np.arange(K) == 0, 0.6, np.where(np.arange(K) == 1, 0.3, 0.1))
    arm = np.where(rng.random(n) < explore, rng.integers(K, size=n), best)
    mu = np.where(arm == best, 1 - explore + explore / K, explore / K)
    reward = (rng.random(n) < rate[arm]).astype(float)
    even = np.full(n, rate.mean())
    return 1 / K / mu, reward, even, (1 - explore) * rate[best] + explore * rate.mean()


def of_lift(w: Array, reward: Array) -> Stakes:
    """What bets on the mean of (w - 1) r."""
    return Stakes([Bet((w - 1) * reward, 1.0)], [Bet((w - 1) * (1 - reward), 1.0)], np.ones(len(w)), 0.0, -1.0)


@pytest.mark.parametrize("bound", [5.0, math.inf])
def test_values_and_lifts_of_a_target_are_held_at_every_look(bound: float) -> None:
    """Weights up to 5, a logging policy whose value halves: neither the value nor the lift is missed too often."""
    rng = np.random.default_rng(2)
    values = lifts = 0
    for _ in range(150):
        w, reward, even, shown = logged(rng, 0.2)
        values += missed(drifting(weighted(w, reward, bound)), running(even))
        lifts += missed(drifting(of_lift(w, reward)), running(even - shown))
    limit = 150 * 0.05 + 4 * math.sqrt(150 * 0.05 * 0.95)
    assert values <= limit
    assert lifts <= limit


def test_a_lift_that_is_there_is_seen() -> None:
    """The even choice earns far less than what was shown: the sequence says so."""
    w, reward, even, shown = logged(np.random.default_rng(3), 0.5, LONG)
    band = drifting(of_lift(w, reward))
    assert band.low[-1] < (even - shown).mean() < band.high[-1] < 0


def test_the_bound_of_the_weights_makes_it_narrower_where_rewards_are_rare() -> None:
    """Without it the upper end comes from the rewards that were missed alone."""
    w, reward, _, _ = logged(np.random.default_rng(4), 0.2, LONG)
    rare = reward * (np.arange(LONG) % 8 == 0)
    with_it, without = drifting(weighted(w, rare, 5.0)), drifting(weighted(w, rare))
    assert with_it.high[-1] < without.high[-1]


def test_which_sequence_it_is_depends_on_whether_the_value_moves() -> None:
    """Betting where it stays; else this one."""
    w, reward, _, _ = logged(np.random.default_rng(5), 0.2)
    stakes = weighted(w, reward, 5.0)
    assert sequence_of(stakes, 0.1, drifts=False) == stakes.betting(0.1)
    band = drifting(stakes, 0.1)
    assert sequence_of(stakes, 0.1) == pytest.approx((band.low[-1], band.high[-1]), abs=1e-12)


def test_both_sides_share_alpha() -> None:
    """The ends are the bounds at half of it."""
    X = np.random.default_rng(7).random(300)
    found = drifting(bounded(X), 0.1)
    assert found.low == pytest.approx(np.maximum(drifting_lower([Bet(X)], np.ones(300), 0.05), 0))
    assert found.high == pytest.approx(np.minimum(1 - drifting_lower([Bet(1 - X)], np.ones(300), 0.05), 1))
