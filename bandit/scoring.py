"""The fast path of `bandit.linear`: every arm's score by one matrix product. Notation as there, K arms, N contexts.

    P    (K, p)     packed upper triangles of G, off-diagonals doubled, float32, p = d (d + 1) / 2
    phi  (N, p)     packed outer product of x: width^2 of every arm is phi P'
    W    (K, d, d)  inverse of the Cholesky factor of A + Lambda: G = W'W, width = |W x|, never negative

float32 finds the contenders, float64 decides: where A is large and lambda small, width^2 cancels in float32, so each
arm carries a bound of that error, and arms that could be best within it are scored again from W.

What depends on the weights, on mu or on the noise is kept apart from what needs a factorisation: with h = e - G s,
theta = G b + mu h, and b'G b, b'G s and s'G s are bilinear in the rows of B, so new weights need no factor.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.linear import Matrix, Ridge, Vector, noise_scales, penalty, unlimbed
from bandit.sums import ONE, Int, Sums, triangle

Mask = NDArray[np.bool_]

TIE = 1e-5  # of s0 + |largest score|: closer scores are a tie
ULPS = 8 * float(np.finfo(np.float32).eps)  # of max diag G times |x|^2: the error of width^2 in float32


class Rows(NamedTuple):
    """What is computed from some arms' sums, one row an arm; only `P`, `W` and `peak` need a factorisation."""

    W: Matrix  # (K, d, d)
    P: NDArray[np.float32]  # (K, p)
    peak: Vector  # (K,) largest diagonal element of G
    GB: Matrix  # (K, m, d)
    Gs: Matrix  # (K, d)
    BGB: Matrix  # (K, m, m)
    BGs: Matrix  # (K, m)
    sGs: Vector  # (K,)  # noqa: N815 - s'G s
    R: Matrix  # (K, m, m)
    B0: Matrix  # (K, m) B's intercept column: each kind's total reward
    n: Vector  # (K,)


class Derived(NamedTuple):
    """What depends on all arms at once, or on the weights; made anew at each refresh and never changed."""

    mu: float
    mu_kinds: Vector  # (m,) pooled mean reward of each kind
    sigma: Vector  # (K,)
    theta: Matrix  # (K, d)
    s0: float


class Scorer:
    """Scoring data of K arms. One thread refreshes; `install` and reading must not overlap (the caller's lock)."""

    def __init__(self, K: int, m: int, d: int, ridge: Ridge) -> None:
        self.ridge, self.d, self.v = ridge, d, 1.0
        self.rows = self._cold(K, m)
        self.derived = self.derive()

    def _cold(self, K: int, m: int) -> Rows:
        """Rows of K arms that have seen nothing: G is the inverse of Lambda."""
        d, zeros = self.d, np.zeros
        diagonal = 1 / penalty(d, self.ridge.lam, self.v)
        P = np.diag(diagonal)[triangle(d)].astype(np.float32)
        W = np.broadcast_to(np.diag(np.sqrt(diagonal)), (K, d, d)).copy()
        return Rows(
            W, np.broadcast_to(P, (K, len(P))).copy(), np.full(K, diagonal.max()), zeros((K, m, d)), zeros((K, d)),
            zeros((K, m, m)), zeros((K, m)), zeros(K), zeros((K, m, m)), zeros((K, m)), zeros(K),
        )  # fmt: skip

    def grow(self, K: int, m: int) -> None:
        """Make room for new arms and kinds, which have seen nothing; the weights must already be the new ones."""
        larger, old = self._cold(K, m), self.rows
        k = len(old.n)
        for name in Rows._fields:
            source = getattr(old, name)
            getattr(larger, name)[tuple(slice(0, size) for size in (k, *source.shape[1:]))] = source
        self.rows = larger
        self.derived = self.derive()

    def compute(self, sums: Sums, arms: Int, factor: bool) -> Rows:
        """The rows of these arms by their sums; with `factor` False only what changes when B and R alone changed."""
        if factor:
            W, P, peak = self._factor(sums.A[arms] / float(ONE**2))
        else:
            W, P, peak = self.rows.W[arms], self.rows.P[arms], self.rows.peak[arms]
        units = self.ridge.units
        B = sums.B[arms] * (units / ONE)[:, None]
        s = sums.A[arms, :, 0] / float(ONE**2)
        WB, Ws = B @ W.swapaxes(1, 2), np.einsum("kij,kj->ki", W, s)
        GB, Gs = WB @ W, np.einsum("ki,kij->kj", Ws, W)
        R = unlimbed(sums.R[arms]) * np.outer(units, units)
        BGs = np.einsum("kmi,ki->km", WB, Ws)
        return Rows(
            W, P, peak, GB, Gs, WB @ WB.swapaxes(1, 2), BGs, np.einsum("ki,ki->k", Ws, Ws), R, B[:, :, 0],
            sums.n[arms].astype(np.float64),
        )  # fmt: skip

    def _factor(self, A: Matrix) -> tuple[Matrix, NDArray[np.float32], Vector]:
        """(W, P, peak) of (K, d, d) matrices A."""
        Lambda = penalty(self.d, self.ridge.lam, self.v)
        W = np.tril(np.linalg.inv(_cholesky(A, Lambda)))
        G = W.swapaxes(1, 2) @ W
        rows, columns = triangle(self.d)
        P = G[:, rows, columns].astype(np.float32)
        P[:, rows != columns] *= 2
        return W, P, np.einsum("kii->ki", G).max(axis=1)

    def install(self, arms: Int, rows: Rows, factor: bool) -> None:
        """Put computed rows in place."""
        for name in Rows._fields if factor else Rows._fields[3:]:
            getattr(self.rows, name)[arms] = getattr(rows, name)

    def derive(self) -> Derived:
        """What depends on all arms, computed anew: mu, the noise scales and every theta."""
        rows, ridge = self.rows, self.ridge
        w, n = ridge.weights, rows.n
        mu_kinds = rows.B0.sum(axis=0) / (n.sum() + 1.0)
        mu = float(mu_kinds @ w)
        bGb = np.einsum("kij,i,j->k", rows.BGB, w, w)
        q = np.einsum("kij,i,j->k", rows.R, w, w)
        cGc = bGb - 2 * mu * (rows.BGs @ w) + mu**2 * rows.sGs
        Q = np.maximum(0.0, q - 2 * mu * (rows.B0 @ w) + mu**2 * n - cGc)
        theta = np.einsum("kmd,m->kd", rows.GB, w) - mu * rows.Gs
        theta[:, 0] += mu
        return Derived(mu, mu_kinds, noise_scales(Q, n, ridge), theta, ridge.s0)

    def estimate(self, x: NDArray[np.int16], eligible: Mask) -> Estimates:
        """Estimates of every arm for N contexts: x (N, d) on the grid, eligible (N, K) or (1, K)."""
        return Estimates(self.rows, self.derived, x, eligible)

    def kinds(self, X: Matrix, arms: Int) -> Matrix:
        """x'theta_k of each kind, shape (N, m), for context i and arm arms[i]: theta_k = G B_k + mu_k h."""
        GB, Gs = self.rows.GB[arms], self.rows.Gs[arms]
        h = X[:, 0] - np.einsum("nd,nd->n", Gs, X)
        result: Matrix = np.einsum("nmd,nd->nm", GB, X) + np.outer(h, self.derived.mu_kinds)
        return result


class Estimates:
    """Estimates of every arm (K of them) for each of N contexts: what a policy turns into probabilities.

    mean      (N, K)  x'theta; -inf where the arm is not eligible
    spread    (N, K)  sigma_a width, accurate to float32 (`best` is exact)
    eligible  (N, K)  or (1, K)
    """

    def __init__(self, rows: Rows, derived: Derived, x: NDArray[np.int16], eligible: Mask) -> None:
        self.X = x / float(ONE)
        self.rows, self.derived, self.eligible = rows, derived, eligible
        self.mean = np.where(eligible, self.X @ derived.theta.T, -np.inf)
        X32 = self.X.astype(np.float32)
        i, j = triangle(X32.shape[1])
        self.width2 = (X32[:, i] * X32[:, j]) @ rows.P.T
        self.error = np.outer(np.einsum("nd,nd->n", self.X, self.X) * ULPS, rows.peak)

    @property
    def spread(self) -> Matrix:
        """sigma_a width of each context and arm."""
        result: Matrix = self.derived.sigma * np.sqrt(np.maximum(self.width2, 0))
        return result

    def width(self, contexts: Int, arms: Int) -> Vector:
        """The width of arm arms[i] for context contexts[i], in float64 from the factor."""
        y = np.einsum("pij,pj->pi", self.rows.W[arms], self.X[contexts])
        result: Vector = np.sqrt(np.einsum("pi,pi->p", y, y))
        return result

    def threshold(self, best: Vector) -> Vector:
        """The least score that ties with the largest score `best`."""
        return best - TIE * (self.derived.s0 + np.abs(best))

    def bounds(self, alpha: float) -> tuple[Matrix, Matrix]:
        """(least, largest) that mean + alpha spread can be, given the error of float32."""
        scale, width2 = alpha * self.derived.sigma, np.maximum(self.width2, 0)
        low = self.mean + scale * np.sqrt(np.maximum(width2 - self.error, 0))
        return low, self.mean + scale * np.sqrt(width2 + self.error)

    def best(self, alpha: float = 0.0) -> Mask:
        """(N, K): the arms whose mean + alpha spread is the largest or tied with it, as float64 decides it."""
        low, high = self.bounds(alpha)
        surely: Mask = low >= self.threshold(high.max(axis=1))[:, None]
        possibly = high >= self.threshold(low.max(axis=1))[:, None]
        unsure = np.flatnonzero((surely != possibly).any(axis=1))
        if len(unsure):
            score = self._exact(unsure, possibly[unsure], alpha)
            surely[unsure] = score >= self.threshold(score.max(axis=1))[:, None]
        return surely

    def leading(self, alpha: float, k: int) -> Matrix:
        """(N, K): mean + alpha spread in float64 of every arm that can be among the k best; -inf of the others."""
        low, high = self.bounds(alpha)
        kth = np.partition(low, low.shape[1] - k, axis=1)[:, -k]
        possibly: Mask = (high >= self.threshold(kth)[:, None]) & (high > -np.inf)
        return self._exact(np.arange(len(low)), possibly, alpha)

    def _exact(self, contexts: Int, arms: Mask, alpha: float) -> Matrix:
        """Scores of the marked arms of these contexts, in float64 from the factor; -inf of the others."""
        score = np.full(arms.shape, -np.inf)
        row, arm = np.nonzero(arms)
        context = contexts[row]
        score[row, arm] = self.mean[context, arm] + alpha * self.derived.sigma[arm] * self.width(context, arm)
        return score


def _cholesky(A: Matrix, Lambda: Vector) -> Matrix:
    """Cholesky factors of A + Lambda; where rounding has lost Lambda beside A, of A + the least that A can resolve."""
    d = np.arange(A.shape[-1])
    M = A.copy()
    M[:, d, d] += Lambda
    try:
        L: Matrix = np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        L = np.stack([_resolved(matrix) for matrix in M])
    return L


def _resolved(M: Matrix) -> Matrix:
    try:
        L: Matrix = np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        L = np.linalg.cholesky(M + np.eye(len(M)) * (1e-14 * len(M) * M.diagonal().max()))
    return L
