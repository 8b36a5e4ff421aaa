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

Under `alpha: auto` the bound knows what rewards can be, and how far they are from what their range allows
(docs/decisions/0035):

    lo, hi = max(low, c - 3 s1), min(high, c + 3 s1)    R = hi - lo     c = mu, cut to the range [low, high] of w'r
    V_a   = max(0, n_a u t + (t - u) D1 - D2)     u = mu - lo, t = hi - mu: the sum of (m - lo)(hi - m) over the arm's
            D1 = s'G c, D2 = c'G A G c                        contexts, m = x'theta: the most that variances can sum to
    phi   = mean over the arms of (2 Vb + Q_a) / (2 Vb + V_a)      Vb = sum_a V_a / sum_a n_a; 1 before any impression
    phi_a = (50 Vb phi + Q_a) / (50 Vb + V_a)                      which part of it is seen
    alpha_t = max(1, 2 (4 K d / (4 K d + sum_a n_a))^(1/4))
    z = alpha_t sqrt(phi_a) width, p = (m - lo) / R cut to [0, 1]
    bound = m + R (q - p),   q = (p + z^2 / 2 + z sqrt(p (1 - p) + z^2 / 4)) / (1 + z^2)        (Wilson 1927)

Under `lambda: auto` Lambda = diag(1, lambda v, ..., lambda v) with the lambda of 1/16, 1/8, ..., 4 that maximises

    sum_{n_a > 0} (ln det Lambda - ln det(A_a + Lambda)) / 2
        - (N + n0) / 2 ln((sum_a Q_a + .005 s1^2) / (N + n0))                N = sum_a n_a

Under `prior: pooled` arms are drawn to coefficients that they have in common, by as much as arms are seen to have them
in common (Li et al. 2010, Algorithm 2, with z = x):

    D0 = diag(1, v, ..., v)     A0 = D0 + sum_a (Lambda - Lambda G_a Lambda)     C = A0^-1
    beta_k = C sum_a Lambda G_a (B_ka - mu_k s_a)         of each kind; mu_k its pooled mean, beta = sum_k w_k beta_k
    c = b - mu s - A beta     theta = mu e + beta + G c   width = sqrt(x' (G + G Lambda C Lambda G) x)
    Q = max(0, q - 2 mu b[e] + mu^2 n - 2 beta'(b - mu s) + beta'A beta - c' G c)

and the evidence for lambda, of 1/16 to 64, is that of all arms together: with r = sum_a Lambda G_a (b_a - mu s_a) and
Q_a as without pooling, it has sum_a Q_a - r'C r, and (ln det D0 - ln det A0) / 2 more. beta and C are of the sums when
lambda was last looked for.

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
from typing import Any, NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from bandit.core.sums import LIMB, ONE, Sums

N0 = 5.0  # how many imagined events the prior noise s1 is worth
FIRM = 2.0  # how many the first guess of phi, 1, is worth in each arm
N1 = 50.0  # how many the phi of all arms is worth beside an arm's own
ENDS = 3.0  # times s1: rewards are not thought to lie farther from their mean
START, LEAST = 2.0, 1.0  # alpha_t at first, and in the end
LEARNING = 4.0  # impressions of each coefficient after which alpha_t begins to fall
GRID = tuple(2.0**k for k in range(-4, 3))  # of lambda
POOLED_GRID = tuple(2.0**k for k in range(-4, 7))  # where arms have more in common than a mean, none is drawn too far
FAINT = 1e-9  # of R^2: the least variance that a reward is thought to have room for
SURE = 0.005  # of s1^2, so that no evidence is infinite
SPREADS = 3.0  # standard deviations of rewards in half a range that fits them
LOOSE = 100.0  # times the mean size of rewards: a range beyond it gets a warning


@dataclass(frozen=True)
class Ridge:
    """What of an experiment decides how sums are read; every part of it can be changed live."""

    weights: Vector  # (m,) of the reward kinds
    units: Vector  # (m,) reward of one unit of credit
    lam: float | None = 1.0  # ridge, > 0; None: by evidence ("auto")
    noise: float | None = None  # None: estimated ("auto"); a number takes the place of every sigma_a
    low: float = 0.0  # the range of w'r
    high: float = 1.0
    pooled: bool = False  # whether arms are drawn to what they have in common

    @property
    def grid(self) -> tuple[float, ...]:
        """The values of lambda to choose from."""
        if self.lam is not None:
            return (self.lam,)
        return POOLED_GRID if self.pooled else GRID

    @property
    def s0(self) -> float:
        """Half the range of w'r, more than 0."""
        return max((self.high - self.low) / 2, 1e-300)


class Real(NamedTuple):
    """One arm's sums in the units of features and rewards."""

    A: Matrix
    B: Matrix
    R: Matrix
    n: float


class Common(NamedTuple):
    """What arms have in common: the mean and covariance of the coefficients that each is drawn to."""

    beta: Matrix  # (m, d) of each kind, beside mu_k e
    root: Matrix  # (d, d) J, J'J = C, in units of the noise's variance


class Estimate(NamedTuple):
    """One arm's estimates."""

    theta: Vector  # (d,)
    G: Matrix  # (d, d); with C's part where arms are pooled
    sigma: float
    pool: float  # sigma_pool, the same of every arm
    z: float  # alpha_t sqrt(phi_a)
    low: float  # lo
    span: float  # R


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


def penalty(d: int, lam: float, v: float, first: float | None = None) -> Vector:
    """The diagonal of Lambda: `first` for the intercept, or else lambda, and lambda v for the other features."""
    return np.concatenate([[lam if first is None else first], np.full(d - 1, lam * v)])


def diagonal(d: int, ridge: Ridge, v: float, lam: float) -> Vector:
    """The diagonal of Lambda, with this lambda where none is given."""
    return penalty(d, lam, v, 1.0) if ridge.lam is None else penalty(d, ridge.lam, v)


def estimates(
    arms: Sequence[Real],
    ridge: Ridge,
    *,
    mu: float | None = None,
    v: float | None = None,
    lam: float | None = None,
    common: Common | None = None,
) -> list[Estimate]:
    """Every arm's theta, G and sigma, by the formulae at the head of this file.

    Args:
        arms: the sums of all arms of the experiment, paused and retired ones included (they count in mu, v, sigma).
        ridge: how to read them.
        mu: put in place of the pooled mean (0 in Li et al.).
        v: put in place of the feature scale (1 in Li et al.).
        lam: put in place of the lambda with the largest evidence, where it is "auto".
        common: put in place of what these sums have in common, where arms are pooled.
    """
    w, d = ridge.weights, arms[0].A.shape[0]
    mu, v = pooled_mean(arms, w) if mu is None else mu, feature_scale(arms) if v is None else v
    lam = lam or best_lambda(arms, ridge)
    Lambda, beta, C = np.diag(diagonal(d, ridge, v, lam)), np.zeros(d), np.zeros((d, d))
    if ridge.pooled:
        common = common or in_common(arms, ridge, lam)
        beta, C = w @ common.beta, common.root.T @ common.root
    thetas, Gs, Q, D1, D2 = [], [], [], [], []
    for A, B, R, count in arms:
        b = B.T @ w
        free = b - mu * A[:, 0]
        c = free - A @ beta
        G: Matrix = np.linalg.inv(A + Lambda)
        delta = beta + G @ c
        square = w @ R @ w - 2 * mu * b[0] + mu**2 * count - 2 * beta @ free + beta @ A @ beta
        Q.append(max(0.0, float(square - c @ G @ c)))
        D1.append(A[:, 0] @ delta)
        D2.append(delta @ A @ delta)
        thetas.append(delta + mu * np.eye(d)[0])
        Gs.append(G + G @ Lambda @ C @ Lambda @ G)
    n, s1 = _prior(arms, ridge)
    sigmas, pool = noise_scales(np.array(Q), n, ridge, s1)
    low, span = ends(mu, s1, ridge)
    z = schedule(len(arms) * d, n.sum()) * np.sqrt(
        dispersion(np.array(Q) / span / span, possible(n, np.array(D1), np.array(D2), mu, low, span), n)
    )
    return [
        Estimate(theta, G, sigma, pool, each, low, span)
        for theta, G, sigma, each in zip(thetas, Gs, sigmas.tolist(), z.tolist(), strict=True)
    ]


def in_common(arms: Sequence[Real], ridge: Ridge, lam: float) -> Common:
    """What the arms have in common under this lambda."""
    A0, r = _pooled(arms, ridge, lam)
    root: Matrix = np.linalg.inv(np.linalg.cholesky(A0))
    return Common(r @ (root.T @ root), root)


def _pooled(arms: Sequence[Real], ridge: Ridge, lam: float) -> tuple[Matrix, Matrix]:
    """(A0, sum of Lambda G (B_k - mu_k s) of each kind)."""
    m, d = arms[0].B.shape
    v, mu = feature_scale(arms), np.array([pooled_mean(arms, kind) for kind in np.eye(m)])
    Lambda = np.diag(diagonal(d, ridge, v, lam))
    A0, r = np.diag(penalty(d, 1.0, v)), np.zeros((m, d))
    for A, B, _, _ in arms:
        LG = Lambda @ np.linalg.inv(A + Lambda)
        A0 += Lambda - LG @ Lambda
        r += (B - np.outer(mu, A[:, 0])) @ LG.T
    return A0, r


def _prior(arms: Sequence[Real], ridge: Ridge) -> tuple[Vector, float]:
    """(impressions of each arm, s1)."""
    w = ridge.weights
    q, b, n = np.array([(w @ arm.R @ w, w @ arm.B[:, 0], arm.n) for arm in arms]).T
    return n, prior_noise(q, b, n, ridge.s0)


def best_lambda(arms: Sequence[Real], ridge: Ridge) -> float:
    """The lambda with the largest evidence of those that there are to choose from."""
    w, d = ridge.weights, arms[0].A.shape[0]
    mu, v, (n, s1) = pooled_mean(arms, w), feature_scale(arms), _prior(arms, ridge)
    found = []
    for lam in ridge.grid:
        Lambda, volume, Q = np.diag(diagonal(d, ridge, v, lam)), 0.0, 0.0
        for A, B, R, count in arms:
            c = B.T @ w - mu * A[:, 0]
            Q += max(0.0, w @ R @ w - 2 * mu * (w @ B[:, 0]) + mu**2 * count - c @ np.linalg.solve(A + Lambda, c))
            volume += np.linalg.slogdet(Lambda)[1] - np.linalg.slogdet(A + Lambda)[1]
        if ridge.pooled:
            A0, r = _pooled(arms, ridge, lam)
            volume += (d - 1) * math.log(v) - np.linalg.slogdet(A0)[1]
            Q = max(0.0, Q - float(w @ r @ np.linalg.solve(A0, w @ r)))
        found.append(evidence(volume, Q, n.sum(), s1))
    return ridge.grid[int(np.argmax(found))]


def evidence(volume: Any, Q: Any, n: float, s1: float) -> Any:
    """The logarithm of how likely the rewards are, but for what does not depend on lambda.

    Args:
        volume: ln det Lambda - ln det(A + Lambda), summed over the arms.
        Q: summed over the arms.
        n: impressions.
        s1: prior noise.
    """
    return volume / 2 - (n + N0) / 2 * np.log((Q / s1 / s1 + SURE) / (n + N0))  # s1^2 may be too small for a float


def ends(mu: float, s1: float, ridge: Ridge) -> tuple[float, float]:
    """(lo, R): where rewards are thought to lie."""
    centre = min(max(mu, ridge.low), ridge.high)
    low = max(ridge.low, centre - ENDS * s1)
    return low, max(min(ridge.high, centre + ENDS * s1) - low, 1e-300)


def possible(n: Vector, D1: Vector, D2: Vector, mu: float, low: float, span: float) -> Vector:
    """V / R^2 of each arm: what the variances of its rewards can at most sum to, in squares of the range."""
    under = (mu - low) / span
    result: Vector = np.maximum(0.0, n * (under * (1 - under)) + (1 - 2 * under) * (D1 / span) - D2 / span / span)
    return result


def dispersion(Q: Vector, V: Vector, n: Vector) -> Vector:
    """phi of each arm, from Q and V, both in squares of the range, and n of each.

    Each arm counts as one in what all have in common: an arm that always earns the same says little of the others.
    """
    if not (count := float(n.sum())):
        return np.ones(len(n))
    each = max(float(V.sum()) / count, FAINT)
    common = float(((FIRM * each + Q) / (FIRM * each + V)).mean())
    result: Vector = (N1 * each * common + Q) / (N1 * each + V)
    return result


def schedule(size: int, n: float) -> float:
    """alpha_t after n impressions of arms with so many coefficients in all; there may be no arms."""
    few = LEARNING * max(size, 1)
    return max(LEAST, START * math.sqrt(math.sqrt(few / (few + n))))


def wilson(mean: Any, z2: Any, low: float, span: float) -> Any:
    """The upper end of Wilson's interval, z standard deviations wide, about a mean reward in [low, low + span].

    With h = 1 - 2 p it is mean + span / 2 (z^2 h + sqrt(z^2 (1 + z^2 - h^2))) / (1 + z^2).

    Args:
        mean: of each arm; a number beyond the range counts as its end, -inf gives -inf.
        z2: z^2, >= 0, of a shape that broadcasts to the mean's.
        low: the least reward.
        span: the largest one less the least.
    """
    half, middle = span / 2, low + span / 2
    if isinstance(mean, float):  # one arm: arrays of one number would take ten times as long
        mean, z2 = float(mean), float(z2)  # NumPy's own numbers are slow
        h = min(max((middle - mean) / half, -1.0), 1.0)
        return mean + half * (z2 * h + math.sqrt(z2 * (1 + z2 - h * h))) / (1 + z2)
    raised = middle - mean
    raised /= half
    np.maximum(raised, -1.0, out=raised)
    np.minimum(raised, 1.0, out=raised)
    more, root = z2 + 1.0, raised * raised
    np.subtract(more, root, out=root)
    root *= z2
    raised *= z2
    raised += np.sqrt(root, out=root)
    raised /= more
    raised *= half
    raised += mean
    return raised


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


def upper(estimate: Estimate, x: Vector, alpha: float | str) -> float:
    """The bound that LinUCB ranks an arm by in context x, with alpha a number or "auto"."""
    mean, spread = float(x @ estimate.theta), width(x, estimate.G)
    if alpha == "auto":
        return float(wilson(mean, (estimate.z * spread) ** 2, estimate.low, estimate.span))
    return mean + float(alpha) * estimate.sigma * spread


def width(x: Vector, G: Matrix) -> float:
    """sqrt(x' G x)."""
    return math.sqrt(max(0.0, float(x @ G @ x)))
