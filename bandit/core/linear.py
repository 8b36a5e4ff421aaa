"""Ridge regression from an arm's sums, stated plainly: the oracle of every fast path.

    A   (d, d)  sum of x x' over impressions       B  (m, d)  sum of r_k x          R  (m, m)  sum of r_k r_l
    n   scalar  impressions                        w  (m,)    weights of the kinds  e  (d,)    the intercept

    b = B'w      q = w'R w      s = A e      mu = sum_a b_a[e] / (sum_a n_a + 1)               pooled mean reward
    Lambda = diag(lambda for the intercept, lambda v, ..., lambda v)
    v      = max(1, mean squared norm of x without the intercept), rounded to a power of sqrt 2
    G = (A + Lambda)^-1     c = b - mu s     theta = mu e + G c     width = sqrt(x' G x)
    Q = max(0, q - 2 mu b[e] + mu^2 n - c' G c)
    T = sum_a (q_a - mu b_a[e])                                squares about mu of every reward and of one more of 0
    s1 = min(s0, max(3 sqrt(T / (sum_a n_a + 1)), T / max(sqrt(T), sum_a |b_a[e]|)))     s0 where T = 0
    sigma_pool^2 = (n0 s1^2 + sum_a Q_a) / (n0 + sum_a n_a)
    sigma_a^2    = max(sigma_pool^2, (n0 s1^2 + Q_a) / (n0 + n_a))
    tied: score >= max - 1e-5 (sigma_pool + |max|)

s1 is half the range, but no more than rewards make likely (docs/decisions/0008): three standard deviations of them, or
their mean size where most are 0, as of clicks. The one more of 0 lets s1 fade slowly where all rewards are alike.
Q is the sum of squared one-step prediction errors, each over 1 + width^2: it needs no degrees of freedom, so it is safe
where n < d. The upper confidence bound is x'theta + alpha sigma_a width. Li et al. (2010), Algorithm 1,
https://arxiv.org/abs/1003.0146, is the case mu = 0, v = 1, sigma = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from bandit.core.sums import LIMB, ONE, Sums

N0 = 5.0  # how many imagined events the prior noise s1 is worth
SPREADS = 3.0  # standard deviations of rewards in half a range that fits them
LOOSE = 100.0  # times the mean size of rewards: a range beyond it gets a warning


@dataclass(frozen=True)
class Ridge:
    """What of an experiment decides how sums are read; every part of it can be changed live."""

    weights: Vector  # (m,) of the reward kinds
    units: Vector  # (m,) reward of one unit of credit
    lam: float = 1.0  # ridge, > 0
    noise: float | None = None  # None: estimated ("auto"); a number takes the place of every sigma_a
    s0: float = 0.5  # half the range of w'r


class Real(NamedTuple):
    """One arm's sums in the units of features and rewards."""

    A: Matrix
    B: Matrix
    R: Matrix
    n: float


class Estimate(NamedTuple):
    """One arm's estimates."""

    theta: Vector  # (d,)
    G: Matrix  # (d, d)
    sigma: float
    pool: float  # sigma_pool, the same of every arm


def real(sums: Sums, arm: int, units: Vector) -> Real:
    """An arm's integer sums in the units of features and rewards."""
    R = unlimbed(sums.R[arm]) * np.outer(units, units)
    return Real(sums.A[arm] / ONE**2, sums.B[arm] * (units / ONE)[:, None], R, float(sums.n[arm]))


def unlimbed(R: Int) -> Matrix:
    """The 128-bit sums of R as floats; a low limb near the top counts down from the next high one, so -1 is exact."""
    carry = R[..., 1] >> (LIMB - 1)
    low, high = R[..., 1] - (carry << LIMB), R[..., 0] + carry
    result: Matrix = low + high * float(2**LIMB)
    return result


def pooled_mean(arms: Sequence[Real], w: Vector) -> float:
    """The mean reward mu over all arms' impressions, with one more impression of reward 0."""
    return sum(float(w @ arm.B[:, 0]) for arm in arms) / (sum(arm.n for arm in arms) + 1.0)


def feature_scale(arms: Sequence[Real]) -> float:
    """v: the mean squared norm of x without the intercept, at least 1, rounded to a power of sqrt 2."""
    n = sum(arm.n for arm in arms)
    norm = sum(float(np.trace(arm.A) - arm.A[0, 0]) for arm in arms) / n if n else 1.0
    return rounded_scale(norm)


def rounded_scale(norm: float) -> float:
    """`norm`, at least 1, rounded to a power of sqrt 2: so it rarely changes, and with it every arm's factor."""
    return math.sqrt(2.0 ** round(2 * math.log2(max(1.0, norm))))


def penalty(d: int, lam: float, v: float) -> Vector:
    """The diagonal of Lambda: lambda for the intercept, lambda v for the other features."""
    return np.concatenate([[lam], np.full(d - 1, lam * v)])


def estimates(arms: Sequence[Real], ridge: Ridge, *, mu: float | None = None, v: float | None = None) -> list[Estimate]:
    """Every arm's theta, G and sigma, by the formulae at the head of this file.

    Args:
        arms: the sums of all arms of the experiment, paused and retired ones included (they count in mu, v, sigma).
        ridge: how to read them.
        mu: put in place of the pooled mean (0 in Li et al.).
        v: put in place of the feature scale (1 in Li et al.).
    """
    w = ridge.weights
    mu = pooled_mean(arms, w) if mu is None else mu
    Lambda = np.diag(penalty(arms[0].A.shape[0], ridge.lam, feature_scale(arms) if v is None else v))
    thetas, Gs, Q = [], [], []
    for A, B, R, n in arms:
        b = B.T @ w
        c = b - mu * A[:, 0]
        G: Matrix = np.linalg.inv(A + Lambda)
        theta = G @ c
        theta[0] += mu
        Q.append(max(0.0, float(w @ R @ w - 2 * mu * b[0] + mu**2 * n - c @ G @ c)))
        thetas.append(theta)
        Gs.append(G)
    q, b, n = np.array([(w @ arm.R @ w, w @ arm.B[:, 0], arm.n) for arm in arms]).T
    sigmas, pool = noise_scales(np.array(Q), n, ridge, prior_noise(q, b, n, ridge.s0))
    return [Estimate(theta, G, sigma, pool) for theta, G, sigma in zip(thetas, Gs, sigmas.tolist(), strict=True)]


def prior_noise(q: Vector, b: Vector, n: Vector, s0: float) -> float:
    """s1, from q, b[e] and n of each arm, shape (K,): s0 where no reward came."""
    count = float(n.sum()) + 1.0
    T = float(q.sum()) - float(b.sum()) ** 2 / count
    if T <= 0:
        return s0
    return min(s0, max(SPREADS * math.sqrt(T / count), T / max(math.sqrt(T), float(np.abs(b).sum()))))


def noise_scales(Q: Vector, n: Vector, ridge: Ridge, s1: float) -> tuple[Vector, float]:
    """(sigma of each arm, sigma_pool): no arm's below the pooled one, so that no arm is starved by a lucky start.

    Args:
        Q: of each arm, shape (K,).
        n: impressions of each arm, shape (K,).
        ridge: how sums are read; its noise, if it is a number, is every arm's sigma.
        s1: prior noise.
    """
    prior = N0 * s1**2
    pooled = float((prior + Q.sum()) / (N0 + n.sum()))
    own: Vector = np.sqrt(np.maximum(pooled, (prior + Q) / (N0 + n)))
    return own if ridge.noise is None else np.full(len(n), ridge.noise), math.sqrt(pooled)


def loose_range(square: float, mean: float, low: float, high: float) -> float | None:
    """The mean size of rewards where the range from low to high is over a hundred times as wide; else None.

        size = square / |mean|

    Each reward counts by its size, so zeros do not count and no reward is smaller than all the rest is large: size is
    at least the plain mean of those that are not 0, and at most the largest of them.

    Args:
        square: mean of r^2, in squares of reward units; r less the kind's default, where that is not 0.
        mean: mean of r, or of |r| where it is known: with rewards of both signs the size is then not overstated.
        low: least possible reward.
        high: largest possible reward.
    """
    size = square / abs(mean) if mean else 0.0
    return size if 0 < size < (high - low) / LOOSE else None


def width(x: Vector, G: Matrix) -> float:
    """sqrt(x' G x)."""
    return math.sqrt(max(0.0, float(x @ G @ x)))
