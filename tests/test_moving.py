"""Sequences for a mean that moves: against a plain loop, and how often they leave the mean out, whatever it does."""

import math

import numpy as np
import pytest

from simulator.estimators import Estimate
from simulator.intervals import Band, betting_pair, betting_running
from simulator.moving import moving, moving_lift, moving_lower, moving_value, sequence_of
from tests.logs import Array

N = 1500


def slow_lower(X: Array, a: float) -> list[float]:
    """The bound after each row, as the formula is written."""
    bounds = []
    for n in range(1, len(X) + 1):
        V, total = 0.0, 0.0
        for i in range(n):
            guess = 0.5 if i == 0 else min(1.0, total / i)
            V += (X[i] - guess) ** 2
            total += X[i]
        lines = []
        for k in range(1, 15):
            slope, share = 2.0**-k, 2 / ((k + 1) * (k + 2))
            lines.append((math.log(1 / (a * share)) + (-math.log(1 - slope) - slope) * V) / (slope * n))
        bounds.append(max(0.0, total / n - min(lines)))
    return bounds


def test_the_bound_is_the_formula() -> None:
    """Row by row, with values far above 1."""
    X = np.random.default_rng(0).gamma(0.2, 5, 60)
    assert moving_lower(X, 0.05) == pytest.approx(slow_lower(X, 0.05), rel=1e-12)


def test_its_shares_stay_below_one() -> None:
    """The sum over all slopes of what may go wrong is no more than `a`."""
    assert sum(2 / ((k + 1) * (k + 2)) for k in range(1, 15)) < 1


def test_values_below_zero_are_refused() -> None:
    """A bet on what may fall without end would be no bound."""
    with pytest.raises(ValueError, match=r"at least 0; got -0\.5"):
        moving_lower(np.array([1.0, -0.5]), 0.05)


def missed(band: Band, truth: Array) -> bool:
    """Whether the mean was left out after any row."""
    return bool(((truth < band.low) | (truth > band.high)).any())


def running(values: Array) -> Array:
    """The mean after each row."""
    result: Array = np.cumsum(values) / np.arange(1, len(values) + 1)
    return result


@pytest.mark.parametrize("rate", [np.linspace(0.1, 0.5, N), np.linspace(0.5, 0.1, N), np.full(N, 0.3)])
def test_a_mean_that_rises_or_falls_is_held_at_every_look(rate: Array) -> None:
    """Looked at after every row of 200 logs: missed in 5 % at most (and 4 standard errors of that)."""
    rng = np.random.default_rng(1)
    bands = [moving_value(np.ones(N), (rng.random(N) < rate).astype(float), bound=1.0) for _ in range(200)]
    assert sum(missed(band, running(rate)) for band in bands) <= 200 * 0.05 + 4 * math.sqrt(200 * 0.05 * 0.95)
    widths = [float(band.high[-1] - band.low[-1]) for band in bands]
    assert max(widths) < 0.15  # and it says something


def test_betting_leaves_a_mean_that_moves_out() -> None:
    """Why there is another sequence: the same rising rate, and every one of 20 logs is missed."""
    rng, rate = np.random.default_rng(1), np.linspace(0.1, 0.5, N)
    assert all(missed(betting_running((rng.random(N) < rate).astype(float)), running(rate)) for _ in range(20))


def logged(rng: np.random.Generator, explore: float) -> tuple[Array, Array, Array, Array]:
    """A log of ten arms: the greedy one changes half way. w of the even choice, rewards, its values, those shown."""
    K, best = 10, np.where(np.arange(N) < N // 2, 0, 1)
    rate = np.where(np.arange(K) == 0, 0.6, np.where(np.arange(K) == 1, 0.3, 0.1))
    arm = np.where(rng.random(N) < explore, rng.integers(K, size=N), best)
    mu = np.where(arm == best, 1 - explore + explore / K, explore / K)
    reward = (rng.random(N) < rate[arm]).astype(float)
    even = np.full(N, rate.mean())
    return 1 / K / mu, reward, even, (1 - explore) * rate[best] + explore * rate.mean()


@pytest.mark.parametrize("bound", [5.0, math.inf])
def test_values_and_lifts_of_a_target_are_held_at_every_look(bound: float) -> None:
    """Weights up to 5, a logging policy whose value halves: neither the value nor the lift is missed too often."""
    rng = np.random.default_rng(2)
    values = lifts = 0
    for _ in range(150):
        w, reward, even, shown = logged(rng, 0.2)
        values += missed(moving_value(w, reward, bound=bound), running(even))
        lifts += missed(moving_lift(w, reward, bound=bound), running(even - shown))
    limit = 150 * 0.05 + 4 * math.sqrt(150 * 0.05 * 0.95)
    assert values <= limit
    assert lifts <= limit


def test_a_lift_that_is_there_is_seen() -> None:
    """The even choice earns far less than what was shown: the sequence says so."""
    w, reward, even, shown = logged(np.random.default_rng(3), 0.5)
    band = moving_lift(w, reward, bound=2.0)
    assert band.low[-1] < (even - shown).mean() < band.high[-1] < 0


def test_the_bound_of_the_weights_makes_it_narrower_where_rewards_are_rare() -> None:
    """Without it the upper end comes from the rewards that were missed alone."""
    w, reward, _, _ = logged(np.random.default_rng(4), 0.2)
    rare = reward * (np.arange(N) % 8 == 0)
    with_it, without = moving_value(w, rare, bound=5.0), moving_value(w, rare)
    assert with_it.high[-1] < without.high[-1]


def test_which_sequence_it_is_depends_on_whether_the_value_moves() -> None:
    """Betting where it stays; else this one, of the rows that count."""
    w, reward, _, _ = logged(np.random.default_rng(5), 0.2)
    counts = (np.random.default_rng(6).random(N) < 0.5).astype(float)
    gains, losses = (Estimate((w * r * counts)[None], counts[None]) for r in (reward, 1 - reward))
    assert sequence_of(gains, losses, 0.1, 5.0) == betting_pair(gains, losses, 0.1, 5.0)
    band = moving_value(w[counts > 0], reward[counts > 0], 0.1, 5.0)
    assert sequence_of(gains, losses, 0.1, 5.0, moves=True) == (band.low[-1], band.high[-1])


def test_both_sides_share_alpha() -> None:
    """The ends are the bounds at half of it, and at a quarter where two stand in for one."""
    X = np.random.default_rng(7).random(300)
    found = moving(X, 1 - X, 0.1)
    assert found.low == pytest.approx(moving_lower(X, 0.05))
    assert found.high == pytest.approx(1 - moving_lower(1 - X, 0.05))
    bounded = moving(X, 1 - X, 0.1, 4.0)
    two = 1 - moving_lower(1 - X, 0.025), 4 * (1 - moving_lower(1 - X / 4, 0.025))
    assert bounded.high == pytest.approx(np.minimum(*two))
