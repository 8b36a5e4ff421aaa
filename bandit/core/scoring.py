"""The fast path of `linear`: every arm's score by one matrix product. Notation as there, K arms, N contexts.

mu and the noise scales are of all K arms, but only S of them are scored: those that can still be shown. What grows with
d^2 is kept of these alone, each in its slot among them, so arms that were retired cost a few numbers each.

    P    (S, p)     packed upper triangles of G, off-diagonals doubled, float32, p = d (d + 1) / 2
    phi  (N, p)     packed outer product of x: width^2 of every arm is phi P'
    W    (S, d, d)  inverse of the Cholesky factor of A + Lambda: G = W'W, width = |W x|, never negative

float32 finds the contenders, float64 decides: where A is large and lambda small, width^2 cancels in float32, so its
error is bounded, and arms that could be best within the bound are scored again from W. A sum of t products that are not
zero, added in whatever order BLAS likes, is off by at most (t + 2) u |x|'|G||x| / (1 - (t + 2) u), with u = 2^-24
(Higham 2002, section 3.1; two of them for rounding P and phi), and |x|'|G||x| <= sum_i x_i^2 sum_j |G_ij|. That last
bound is one of width^2 too: for a single context among many arms it leaves a few, and only their rows of P are read.

What depends on the weights, on mu or on the noise is kept apart from what needs a factorisation: with h = e - G s,
theta = G b + mu h, and b'G b, b'G s and s'G s are bilinear in the rows of B, so new weights need no factor.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.linear import Ridge, noise_scales, penalty, prior_noise, unlimbed
from bandit.core.sums import ONE, Sums, triangle

Float32 = NDArray[np.float32]
Arms = slice | Int  # all of them, or indices

TIE = 1e-5  # of sigma_pool + |largest score|: closer scores are a tie
# The error bound is not loose: 350 of its 2,082 u were seen (d 64, G near rank one, OpenBLAS), and 1,400 times the
# plausible 16 u max diag G |x|^2. 5 % more for the denominator (3 % at D_MAX) and for keeping it in float32.
ROUNDING = 1.05 * 2.0**-24
SURELY = 1.0001  # times a sum of d terms in float32, all positive: at least the sum
EVERY = slice(None)
FEW = 4  # arms copied from P cost so much more than arms read in place
WORTHWHILE = 2**18  # elements of P: fewer are read before the few are found
GATHER = 2**21  # elements of W copied at once where many arms are scored again
DENSE = 4  # pairs of context and arm are scored together from where one in so many is wanted


class Factors(NamedTuple):
    """What scores need of each arm; only the first four need a factorisation."""

    W: Matrix  # (S, d, d)
    P: Float32  # (S, p)
    reach: Float32  # (S, d) sum_j |G_ij|
    terms: Float32  # (S,) how many elements of P are not zero
    GB: Matrix  # (S, m, d)
    Gs: Matrix  # (S, d)


class Moments(NamedTuple):
    """What mu and the noise scales need of each arm, whether it is scored or not."""

    BGB: Matrix  # (K, m, m)
    BGs: Matrix  # (K, m)
    sGs: Vector  # (K,)  # noqa: N815 - s'G s
    R: Matrix  # (K, m, m)
    B0: Matrix  # (K, m) B's intercept column: each kind's total reward
    n: Vector  # (K,)


class Rows(NamedTuple):
    """What is computed from some arms' sums, one row an arm; of all arms, the factors of the scored ones only."""

    factors: Factors
    moments: Moments


class Derived(NamedTuple):
    """What depends on all arms at once, or on the weights; made anew at each refresh and never changed."""

    mu: float
    mu_kinds: Vector  # (m,) pooled mean reward of each kind
    sigma: Vector  # (S,)
    pool: float  # sigma_pool
    theta: Matrix  # (S, d)


class Scorer:
    """Scoring data of K arms. One thread refreshes; `install` and reading must not overlap (the caller's lock).

    Args:
        K: arms, m: kinds of reward, d: features.
        ridge: how sums are read.
        scored: which arms are scored, ascending; None: all.
        v: the scale of the penalty.
    """

    def __init__(self, K: int, m: int, d: int, ridge: Ridge, scored: Int | None = None, v: float = 1.0) -> None:
        self.ridge, self.d, self.v = ridge, d, v
        self.scored: Int = np.arange(K) if scored is None else scored
        self.slot: Int = np.full(K, -1)  # each arm's index among the scored; -1: it is not scored
        self.slot[self.scored] = np.arange(len(self.scored))
        self.rows = self._cold(K, m)
        self.derived = self.derive()

    def _cold(self, K: int, m: int) -> Rows:
        """Rows of K arms that have seen nothing: G is the inverse of Lambda."""
        d, S, zeros = self.d, len(self.scored), np.zeros
        diagonal = 1 / penalty(d, self.ridge.lam, self.v)
        one = _packed(np.diag(diagonal)[None])
        W = np.broadcast_to(np.diag(np.sqrt(diagonal)), (S, d, d)).copy()
        P, reach, terms = (np.broadcast_to(part, (S, *part.shape[1:])).copy() for part in one)
        moments = zeros((K, m, m)), zeros((K, m)), zeros(K), zeros((K, m, m)), zeros((K, m)), zeros(K)
        return Rows(Factors(W, P, reach, terms, zeros((S, m, d)), zeros((S, d))), Moments(*moments))

    def grown(self, K: int, m: int, ridge: Ridge, scored: Int | None = None) -> Scorer:
        """The same with room for new arms and kinds, which have seen nothing, scoring these arms, or all.

        Arms that were not scored before have to be installed.
        """
        new, before = Scorer(K, m, self.d, ridge, scored, self.v), self.slot
        stay = new.scored[new.scored < len(before)]
        stay = stay[before[stay] >= 0]
        for target, source in zip(new.rows.factors, self.rows.factors, strict=True):
            _put(target, new.slot[stay], source[before[stay]])
        for target, source in zip(new.rows.moments, self.rows.moments, strict=True):
            _put(target, np.arange(len(source)), source)
        new.derived = new.derive()
        return new

    def compute(self, sums: Sums, arms: Int, factor: bool) -> Rows:
        """The rows of these arms by their sums; with `factor` False, of scored arms only what B and R alone change."""
        if factor:
            W = self._factor(sums.A[arms] / float(ONE**2))
            P, reach, terms = _packed(W.swapaxes(1, 2) @ W)
        else:
            W, P, reach, terms = (part[self.slot[arms]] for part in self.rows.factors[:4])
        units = self.ridge.units
        B = sums.B[arms] * (units / ONE)[:, None]
        s = sums.A[arms, :, 0] / float(ONE**2)
        WB, Ws = B @ W.swapaxes(1, 2), np.einsum("kij,kj->ki", W, s)
        GB, Gs = WB @ W, np.einsum("ki,kij->kj", Ws, W)
        R = unlimbed(sums.R[arms]) * np.outer(units, units)
        BGs = np.einsum("kmi,ki->km", WB, Ws)
        sGs, n = np.einsum("ki,ki->k", Ws, Ws), sums.n[arms].astype(np.float64)
        moments = Moments(WB @ WB.swapaxes(1, 2), BGs, sGs, R, B[:, :, 0], n)
        return Rows(Factors(W, P, reach, terms, GB, Gs), moments)

    def _factor(self, A: Matrix) -> Matrix:
        """W of (K, d, d) matrices A."""
        W: Matrix = np.tril(np.linalg.inv(_cholesky(A, penalty(self.d, self.ridge.lam, self.v))))
        return W

    def install(self, arms: Int, rows: Rows, factor: bool) -> None:
        """Put computed rows in place: the factors of arms that are scored, the moments of all."""
        mine = np.flatnonzero(self.slot[arms] >= 0)
        known = 0 if factor else 4
        for target, source in zip(self.rows.factors[known:], rows.factors[known:], strict=True):
            _put(target, self.slot[arms[mine]], source[mine])
        for target, source in zip(self.rows.moments, rows.moments, strict=True):
            _put(target, arms, source)

    def derive(self, ridge: Ridge | None = None) -> Derived:
        """What depends on all arms, computed anew: mu, the noise scales and every scored arm's theta, by other weights
        than its own where they are given.
        """
        (factors, moments), ridge = self.rows, ridge or self.ridge
        w, n = ridge.weights, moments.n
        mu_kinds = moments.B0.sum(axis=0) / (n.sum() + 1.0)
        mu = float(mu_kinds @ w)
        bGb = np.einsum("kij,i,j->k", moments.BGB, w, w)
        q = np.einsum("kij,i,j->k", moments.R, w, w)
        cGc = bGb - 2 * mu * (moments.BGs @ w) + mu**2 * moments.sGs
        b = moments.B0 @ w
        Q = np.maximum(0.0, q - 2 * mu * b + mu**2 * n - cGc)
        sigma, pool = noise_scales(Q, n, ridge, prior_noise(q, b, n, ridge.s0))
        theta = np.einsum("kmd,m->kd", factors.GB, w) - mu * factors.Gs
        theta[:, 0] += mu
        return Derived(mu, mu_kinds, sigma[self.scored], pool, theta)

    def estimate(self, x: NDArray[np.int16], eligible: Mask) -> Estimates:
        """Estimates of every scored arm for N contexts: x (N, d) on the grid, eligible (N, K) or (1, K)."""
        own = eligible if len(self.scored) == len(self.slot) else eligible[:, self.scored]
        return Estimates(self.rows.factors, self.derived, x, own)

    def whole(self, values: Matrix) -> Matrix:
        """(N, S) values of the scored arms among those of all K, 0 for the others."""
        if len(self.scored) == len(self.slot):
            return values
        result = np.zeros((len(values), len(self.slot)))
        result[:, self.scored] = values
        return result

    def kinds(self, X: Matrix, slots: Int) -> Matrix:
        """x'theta_k of each kind, shape (N, m), for context i and the scored arm slots[i]: theta_k = G B_k + mu_k h."""
        GB, Gs = self.rows.factors.GB[slots], self.rows.factors.Gs[slots]
        h = X[:, 0] - (Gs * X).sum(axis=1)
        result: Matrix = (GB @ X[:, :, None])[:, :, 0] + h[:, None] * self.derived.mu_kinds
        return result


class Estimates:
    """Estimates of every scored arm (K of them here) for each of N contexts: what a policy turns into probabilities.

    mean      (N, K)  x'theta; -inf where the arm is not eligible
    spread    (N, K)  sigma_a width, accurate to float32 (`best` is exact)
    eligible  (N, K)  or (1, K)
    """

    def __init__(self, factors: Factors, derived: Derived, x: NDArray[np.int16], eligible: Mask) -> None:
        self.X = x / float(ONE)
        self.factors, self.derived, self.eligible = factors, derived, eligible
        self.mean = np.where(eligible, self.X @ derived.theta.T, -np.inf)
        X32 = self.X.astype(np.float32)
        i, j = triangle(X32.shape[1])
        self.phi: Float32 = X32.take(i, axis=1) * X32.take(j, axis=1)
        self.most = _product(X32**2, factors.reach.T)  # (N, K) at least |x|'|G||x|, so at least width^2
        active = (X32 != 0).sum(axis=1)
        self.active = (active * (active + 1) // 2)[:, None]  # (N, 1) how many elements of phi are not zero

    @cached_property
    def width2(self) -> Float32:
        """(N, K) width^2 in float32, which may be negative where it cancels."""
        return self._width2(EVERY)

    @cached_property
    def error(self) -> Matrix:
        """(N, K): how far `width2` may be from width^2."""
        return self._error(EVERY)

    @property
    def spread(self) -> Matrix:
        """sigma_a width of each context and arm."""
        result: Matrix = self.derived.sigma * np.sqrt(np.maximum(self.width2, 0))
        return result

    def width(self, contexts: Int, arms: Int) -> Vector:
        """The width of arm arms[i] for context contexts[i], in float64 from the factor."""
        y = self.factors.W[arms] @ self.X[contexts][:, :, None]
        result: Vector = np.sqrt((y * y).sum(axis=(1, 2)))
        return result

    def threshold(self, best: Vector) -> Vector:
        """The least score that ties with the largest score `best`."""
        return best - TIE * (self.derived.pool + np.abs(best))

    def bounds(self, alpha: float, arms: Arms = EVERY) -> tuple[Matrix, Matrix]:
        """(least, largest) that mean + alpha spread of these arms can be, given the error of float32."""
        whole = arms is EVERY
        width2, error = (self.width2, self.error) if whole else (self._width2(arms), self._error(arms))
        mean, scale, width2 = self.mean[:, arms], alpha * self.derived.sigma[arms], np.maximum(width2, 0)
        return mean + scale * np.sqrt(np.maximum(width2 - error, 0)), mean + scale * np.sqrt(width2 + error)

    def best(self, alpha: float = 0.0) -> Mask:
        """(N, K): the arms whose mean + alpha spread is the largest or tied with it, as float64 decides it."""
        arms = self._promising(alpha)
        low, high = self.bounds(alpha, arms)
        possibly = high >= self.threshold(low.max(axis=1))[:, None]
        result: Mask = possibly
        if arms is not EVERY:
            result = np.zeros(self.mean.shape, bool)
            result[:, arms] = possibly
        several = possibly.sum(axis=1) > 1
        if several.any():
            surely = low >= self.threshold(high.max(axis=1))[:, None]
            unsure = np.flatnonzero(several & (surely != possibly).any(axis=1))
            score = self._exact(unsure, result[unsure], alpha)
            result[unsure] = score >= self.threshold(score.max(axis=1))[:, None]
        return result

    def leading(self, alpha: float, k: Int) -> Matrix:
        """(N, K): mean + alpha spread in float64 of every arm that can be among the k[i] best; -inf of the others."""
        low, high = self.bounds(alpha)
        rank = low.shape[1] - k
        kth = np.partition(low, np.unique(rank), axis=1)[np.arange(len(low)), rank]
        possibly: Mask = (high >= self.threshold(kth)[:, None]) & (high > -np.inf)
        return self._exact(np.arange(len(low)), possibly, alpha)

    def only(self, contexts: Int) -> Estimates:
        """The estimates of these contexts, shape (n,)."""
        found = copy.copy(self)
        for name in {"width2", "error"} & self.__dict__.keys():
            found.__dict__[name] = self.__dict__[name][contexts]
        found.X, found.mean, found.phi = self.X[contexts], self.mean[contexts], self.phi[contexts]
        found.most, found.active = self.most[contexts], self.active[contexts]
        found.eligible = self.eligible if len(self.eligible) == 1 else self.eligible[contexts]
        return found

    def _promising(self, alpha: float) -> Arms:
        """Arms among which the best are: for one context, reading P costs more than finding the few that can be."""
        if len(self.X) > 1 or self.factors.P.size < WORTHWHILE:
            return EVERY
        mean, scale = self.mean[0], alpha * self.derived.sigma
        high = mean + scale * np.sqrt(self.most[0] * SURELY)
        leader = high.argmax(keepdims=True)
        score = mean[leader] + scale[leader] * self.width(np.zeros(1, np.int64), leader)
        few = np.flatnonzero(high >= self.threshold(score))
        return few if FEW * len(few) < len(high) else EVERY

    def _width2(self, arms: Arms) -> Float32:
        return _product(self.phi, self.factors.P[arms].T)

    def _error(self, arms: Arms) -> Matrix:
        terms = np.minimum(self.active, self.factors.terms[arms])
        result: Matrix = ROUNDING * (terms + 2) * self.most[:, arms]
        return result

    def _exact(self, contexts: Int, arms: Mask, alpha: float) -> Matrix:
        """Scores of the marked arms of these contexts, in float64 from the factor; -inf of the others."""
        score = np.full(arms.shape, -np.inf)
        rows, columns = np.nonzero(arms)
        some = np.flatnonzero(arms.any(axis=0))
        d, n = self.X.shape[1], len(contexts)
        if DENSE * len(rows) > len(some) * n:  # each factor read once, for all contexts
            size = max(1, GATHER // (d * max(d, n)))
            for part in (some[at : at + size] for at in range(0, len(some), size)):
                y = self.factors.W[part] @ self.X[contexts].T
                width = np.sqrt(np.einsum("kdn,kdn->nk", y, y))
                score[:, part] = self.mean[contexts[:, None], part] + alpha * self.derived.sigma[part] * width
            score[~arms] = -np.inf
            return score
        size = max(1, GATHER // d**2)
        for row, arm in ((rows[at : at + size], columns[at : at + size]) for at in range(0, len(rows), size)):
            context = contexts[row]
            score[row, arm] = self.mean[context, arm] + alpha * self.derived.sigma[arm] * self.width(context, arm)
        return score


def _put(target: NDArray[Any], at: Int, source: NDArray[Any]) -> None:
    """Put rows where they belong; if they have fewer kinds than there are now, the other kinds stay as they are."""
    own: tuple[Int | slice, ...] = (at, *(slice(0, size) for size in source.shape[1:]))
    target[own] = source


def _product(one: Float32, other: Float32) -> Float32:
    """Their matrix product. A BLAS kernel may read past the end of a small matrix and report an invalid value that is
    in no result: finite numbers of this size have none.
    """
    with np.errstate(invalid="ignore"):
        result: Float32 = one @ other
    return result


def _packed(G: Matrix) -> tuple[Float32, Float32, Float32]:
    """(P, reach, terms) of (K, d, d) matrices G."""
    rows, columns = triangle(G.shape[1])
    P = G[:, rows, columns].astype(np.float32)
    P[:, rows != columns] *= 2
    terms = np.count_nonzero(P, axis=1).astype(np.float32)
    return P, np.abs(G).sum(axis=2).astype(np.float32), terms


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
