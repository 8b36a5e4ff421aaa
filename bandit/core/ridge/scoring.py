"""The fast path of `linear`: what every arm's score needs, kept up to date. Notation as there, K arms.

mu and the noise scales are of all K arms, but only S of them are scored: those that can still be shown. What grows with
d^2 is kept of these alone, each in its slot among them, so arms that were retired cost a few numbers each. `estimates`
says what the factors are for, and proves how far the quick scores may be off.

What depends on the weights, on mu or on the noise is kept apart from what needs a factorisation: with h = e - G s,
theta = G b + mu h, and b'G b, b'G s and s'G s are bilinear in the rows of B, so new weights need no factor. Where arms
are pooled, c = b - mu s - A beta is that of rewards less x'beta, so the same holds of B - A beta; and W'W is of both
terms of width^2, W = L' V with V'V = G, N = J Lambda V', L L' = I + N'N.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.ridge.estimates import STEEP, Derived, Estimates, Factors, rounding
from bandit.core.ridge.linear import (
    Common,
    Ridge,
    diagonal,
    dispersion,
    ends,
    noise_scales,
    possible,
    prior_noise,
    schedule,
    unlimbed,
)
from bandit.core.sums import ONE, X_MAX, Sums, triangle

SMALL = 2**18  # elements of P: so many are read as float64 at no cost that matters
SIDE = 16  # of triangles that are inverted whole
BLOCK = 64  # arms whose P is made at once where its type changes
KINDRED = "BGB", "BGs", "TAT", "TAt", "sT", "E", "E0", "R", "B0"  # moments that a kind has
KNOWN = len(Factors._fields) - 1  # the factors that feedback alone does not change


class Moments(NamedTuple):
    """What mu and the noise scales need of each arm, whether it is scored or not; B here is B - A beta."""

    BGB: Matrix  # (K, m, m)
    BGs: Matrix  # (K, m)
    sGs: Vector  # (K,)  # noqa: N815 - s'G s
    TAT: Matrix  # (K, m, m) with T = beta + G B of each kind, t = G s: T'A T
    TAt: Matrix  # (K, m)
    tAt: Vector  # (K,)  # noqa: N815
    sT: Matrix  # (K, m)  # noqa: N815
    E: Matrix  # (K, m, m) sum of rewards less x'beta, each with each
    E0: Matrix  # (K, m) their sum
    R: Matrix  # (K, m, m)
    B0: Matrix  # (K, m) each kind's total reward
    n: Vector  # (K,)


class Scales(NamedTuple):
    """What uncertainty is measured with; one row an arm."""

    sigma: Vector  # (K,)
    pool: float
    z2: Vector  # (K,) alpha_t^2 phi_a
    alpha: float  # alpha_t
    low: float
    span: float


class Rows(NamedTuple):
    """What is computed from some arms' sums, one row an arm; of all arms, the factors of the scored ones only."""

    factors: Factors
    moments: Moments


class Scorer:
    """Scoring data of K arms. One thread refreshes; `install` and reading must not overlap (the caller's lock).

    Args:
        K: arms, m: kinds of reward, d: features.
        ridge: how sums are read.
        scored: which arms are scored, ascending; None: all.
        v: the scale of the penalty.
        lam: the penalty where it is chosen by evidence.
        common: what arms are drawn to; None: nothing but the mean reward.
    """

    def __init__(
        self, K: int, m: int, d: int, ridge: Ridge, scored: Int | None = None, v: float = 1.0, lam: float = 1.0,
        common: Common | None = None,
    ) -> None:  # fmt: skip
        self.ridge, self.d, self.v, self.chosen, self.common = ridge, d, v, lam, common
        self.scored: Int = np.arange(K) if scored is None else scored
        self.slot: Int = np.full(K, -1)  # each arm's index among the scored; -1: it is not scored
        self.slot[self.scored] = np.arange(len(self.scored))
        self._kind: Any = np.float64 if len(self.scored) * (d * (d + 1) // 2) <= SMALL else np.float32
        self.rows = self._cold(K, m)
        self.derived = self.derive()

    def _cold(self, K: int, m: int) -> Rows:
        """Rows of K arms that have seen nothing."""
        one = self.compute(Sums.zeros(1, m, self.d), np.zeros(1, np.int64), factor=True)
        factors = Factors._make(np.repeat(part, len(self.scored), axis=0) for part in one.factors)
        return Rows(factors, Moments._make(np.repeat(part, K, axis=0) for part in one.moments))

    def penalty(self, lam: float | None = None) -> Vector:
        """The diagonal of Lambda, with this lambda where it is chosen by evidence."""
        return diagonal(self.d, self.ridge, self.v, lam or self.chosen)

    def _prior(self) -> tuple[Vector, float]:
        """(diagonal of the inverse of Lambda, trace of Lambda)."""
        Lambda = self.penalty()
        return 1 / Lambda, float(Lambda.sum())

    def grown(self, K: int, m: int, ridge: Ridge, scored: Int | None = None) -> Scorer:
        """The same with room for new arms and kinds, which have seen nothing, scoring these arms, or all.

        Arms that were not scored before have to be installed.
        """
        common = self.common
        if common:
            common = common._replace(beta=np.pad(common.beta, [(0, m - len(common.beta)), (0, 0)]))
        new, before = Scorer(K, m, self.d, ridge, scored, self.v, self.chosen, common), self.slot
        stay = new.scored[new.scored < len(before)]
        stay = stay[before[stay] >= 0]
        for target, source in zip(new.rows.factors, self.rows.factors, strict=True):
            _put(target, new.slot[stay], source[before[stay]])
        for target, source in zip(new.rows.moments, self.rows.moments, strict=True):
            _put(target, np.arange(len(source)), source)
        if new.rows.factors.P.dtype != self.rows.factors.P.dtype:
            new._repack(new.slot[stay])
        new.derived = new.derive()
        return new

    def _repack(self, slots: Int) -> None:
        """Make P anew, in its own type, from W."""
        factors = self.rows.factors
        for part in (slots[at : at + BLOCK] for at in range(0, len(slots), BLOCK)):
            made = _packed(factors.W[part], factors.trace[part], factors.P.dtype)
            for target, source in zip(factors[1:], made, strict=False):
                _put(target, part, source)

    def compute(self, sums: Sums, arms: Int, factor: bool) -> Rows:
        """The rows of these arms by their sums; with `factor` False, of scored arms only what B and R alone change,
        where nothing is pooled.
        """
        units = self.ridge.units
        B = sums.B[arms] * (units / ONE)[:, None]
        if factor:
            A = sums.A[arms] / float(ONE**2)
            V = inverses(A, self.penalty())
            known = self._known(A, V)
        else:
            known = [part[self.slot[arms]] for part in self.rows.factors[:KNOWN]]
            V = known[0]
        s = sums.A[arms, None, :, 0] / float(ONE**2)
        sB, R, n = np.concatenate([s, B], axis=1), unlimbed(sums.R[arms]) * np.outer(units, units), sums.n[arms] * 1.0
        less, E = sB, R
        if self.common:
            beta = np.concatenate([np.zeros((1, self.d)), self.common.beta])
            Abeta = beta @ A
            less, each = sB - Abeta, beta[1:] @ B.swapaxes(1, 2)
            E = R - each - each.swapaxes(1, 2) + (Abeta @ beta.T)[:, 1:, 1:]
        VsB = less @ V.swapaxes(1, 2)
        GsB = VsB @ V
        AT = sB - GsB * self.penalty()
        if self.common:
            GsB += beta
        both = (VsB @ VsB.swapaxes(1, 2), GsB @ AT.swapaxes(1, 2))
        squares = (part for each in both for part in (each[:, 1:, 1:], each[:, 1:, 0], each[:, 0, 0]))
        sT = (GsB[:, 1:] @ s.swapaxes(1, 2))[:, :, 0]
        moments = Moments._make([*squares, sT, E, less[:, 1:, 0], R, B[:, :, 0], n])
        return Rows(Factors._make([*known, GsB]), moments)

    def _known(self, A: Matrix, V: Matrix) -> list[Any]:
        """The factors of arms with these A, and V'V the inverse of A + Lambda, that feedback alone does not change."""
        _, trace = self._prior()
        own = np.einsum("kii->k", A)
        if self.common:
            N = (self.common.root * self.penalty()) @ V.swapaxes(1, 2)
            V = cholesky(N.swapaxes(1, 2) @ N, np.ones(self.d)).swapaxes(1, 2) @ V
        return [V, *_packed(V, own + trace, self._kind), (own == 0)[:, None] * self._mark()]

    def _mark(self) -> Vector:
        """(2,) `blank` of arms that have seen nothing, as arms are estimated now: of G, or where they are pooled two
        numbers below 0, others for another prior.
        """
        prior, trace = self._prior()
        if not self.common:
            return prior[[0, -1]]
        return np.array([-trace, -sum(float(np.abs(part).sum()) for part in self.common)])

    def install(self, arms: Int, rows: Rows, factor: bool) -> None:
        """Put computed rows in place: the factors of arms that are scored, the moments of all."""
        mine = np.flatnonzero(self.slot[arms] >= 0)
        slots = self.slot[arms[mine]]
        known = 0 if factor else KNOWN
        for target, source in zip(self.rows.factors[known:], rows.factors[known:], strict=True):
            _put(target, slots, source[mine])
        for target, source in zip(self.rows.moments, rows.moments, strict=True):
            _put(target, arms, source)
        if factor:
            self.derived = self._restated(slots)

    def _restated(self, slots: Int) -> Derived:
        """What is derived, as it must be read until it is derived anew, after other factors came to these slots."""
        before, cold = self.derived, self.derived.cold.copy()
        cold[slots] = self._unseen(before.prior[[0, -1]], slots)
        doubts = self._doubts(before.sigma, before.z2, before.span, slots)
        doubt, raised, relative = map(max, zip((before.doubt, before.raised, before.relative), doubts, strict=True))
        seen = int(np.count_nonzero(~cold))
        alike = before.alike.copy()
        alike[slots] = cold[slots]
        return before._replace(cold=cold, alike=alike, seen=seen, doubt=doubt, raised=raised, relative=relative)

    def _unseen(self, mark: Vector, slots: Int | slice = slice(None)) -> Mask:
        """Which of these arms have seen nothing, and are estimated as `mark` says."""
        result: Mask = (self.rows.factors.blank[slots] == mark).all(axis=1)
        return result

    def _doubts(
        self, sigma: Vector, z2: Vector, span: float, slots: Int | slice = slice(None)
    ) -> tuple[float, float, float]:
        """How far sigma_a times the width of these arms, what "auto" adds, and their width^2 in parts of itself may be
        off for any x.
        """
        doubt, trace = self.rows.factors.doubt[slots], self.rows.factors.trace[slots]
        largest = float((sigma[slots] * doubt).max(initial=0.0))
        steepest = STEEP * span * math.sqrt(float((z2[slots] * doubt**2).max(initial=0.0)))
        x = (X_MAX + 1) / ONE * math.sqrt(self.d)
        return largest * x, steepest * x, float((doubt * np.sqrt(trace)).max(initial=0.0))

    def derive(self, ridge: Ridge | None = None) -> Derived:
        """What depends on all arms, computed anew: mu, the noise scales and every scored arm's theta, by other weights
        than its own where they are given.
        """
        (factors, moments), ridge = self.rows, ridge or self.ridge
        w, n = ridge.weights, moments.n
        mu_kinds = moments.B0.sum(axis=0) / (n.sum() + 1.0)
        mu = float(mu_kinds @ w)
        scales = self._scales(
            ridge, mu, lambda part: part @ w if part.ndim == 2 else np.einsum("kij,i,j->k", part, w, w)
        )
        thetas = factors.GsB[:, 1:] - factors.GsB[:, :1] * mu_kinds[:, None]
        thetas[:, :, 0] += mu_kinds
        theta: Matrix = thetas[:, 0] if len(w) == 1 and w[0] == 1 else np.einsum("kmd,m->kd", thetas, w)
        scales = scales._replace(sigma=scales.sigma[self.scored], z2=scales.z2[self.scored])
        prior, _ = self._prior()
        cold, alike = self._unseen(prior[[0, -1]]), self._unseen(self._mark())
        seen = int(np.count_nonzero(~cold))
        rise = scales.span / 2 * np.sqrt(scales.z2)
        return Derived(
            mu, mu_kinds, *scales, rise, ridge.noise is not None, theta, thetas, prior, cold, alike, seen,
            *self._doubts(scales.sigma, scales.z2, scales.span), float(n.sum()),
        )  # fmt: skip

    def sigma_of(self, kind: int, ridge: Ridge) -> Vector:
        """The noise scale of every scored arm where this kind counts 1 and all others 0, whatever the ridge's weights
        are: as `derive` has it, without all the rest.
        """
        n = self.rows.moments.n
        mu = float(self.rows.moments.B0[:, kind].sum() / (n.sum() + 1.0))
        own = self._scales(ridge, mu, lambda part: part[:, kind, kind] if part.ndim == 3 else part[:, kind])
        return own.sigma[self.scored]

    def _scales(self, ridge: Ridge, mu: float, weighed: Callable[[Matrix], Vector]) -> Scales:
        """The scales of all K arms; `weighed` makes one kind of the kinds of a moment."""
        moments = self.rows.moments
        n, sGs, tAt = moments.n, moments.sGs, moments.tAt
        bGb, bGs, TAT, TAt, sT, e, e0, q, b = (weighed(getattr(moments, name)) for name in KINDRED)
        Q = np.maximum(0.0, e - 2 * mu * e0 + mu**2 * n - (bGb - 2 * mu * bGs + mu**2 * sGs))
        s1 = prior_noise(q, b, n, ridge.s0)
        sigma, pool = noise_scales(Q, n, ridge, s1)
        low, span = ends(mu, s1, ridge)
        V = possible(n, sT - mu * sGs, TAT - 2 * mu * TAt + mu**2 * tAt, mu, low, span)
        alpha = schedule(len(n) * self.d, float(n.sum()))
        return Scales(sigma, pool, alpha**2 * dispersion(Q / span / span, V, n), alpha, low, span)

    def estimate(self, x: NDArray[np.int16], eligible: Mask, everyone: bool | None = None) -> Estimates:
        """Estimates of every scored arm for N contexts.

        Args:
            x: on the grid, shape (N, d).
            eligible: shape (N, K) or (1, K); of the S scored arms alone where `everyone` is given.
            everyone: whether all scored arms are eligible, where that is known.
        """
        if everyone is None:
            eligible = self.own(eligible)
            everyone = bool(eligible.all())
        return Estimates(self.rows.factors, self.derived, x, eligible, everyone)

    def own(self, eligible: Mask) -> Mask:
        """A mask of all arms as one of the scored ones."""
        return eligible if len(self.scored) == len(self.slot) else eligible[:, self.scored]

    def whole(self, values: Matrix) -> Matrix:
        """(N, S) values of the scored arms among those of all K, 0 for the others."""
        if len(self.scored) == len(self.slot):
            return values
        result = np.zeros((len(values), len(self.slot)))
        result[:, self.scored] = values
        return result

    def kinds(self, X: Matrix, slots: Int) -> Matrix:
        """x'theta_k of each kind, shape (N, m), for context i and the scored arm slots[i]."""
        result: Matrix = (self.derived.thetas[slots] @ X[:, :, None])[:, :, 0]
        return result


def _put(target: NDArray[Any], at: Int, source: NDArray[Any]) -> None:
    """Put rows where they belong; if they have fewer kinds than there are now, the other kinds stay as they are."""
    own: tuple[Int | slice, ...] = (at, *(slice(0, size) for size in source.shape[1:]))
    target[own] = source


@cache
def _upper(d: int) -> tuple[Int, Vector]:
    """(where in d^2 numbers the upper triangle is, how many times each of them counts)."""
    rows, columns = triangle(d)
    return rows * d + columns, np.where(rows == columns, 1.0, 2.0)


def _packed(W: Matrix, traces: Vector, kind: np.dtype[Any]) -> tuple[Matrix, Matrix, Matrix, Vector, Vector]:
    """(P, reach, terms, doubt, trace) of (K, d, d) factors W, P in that type; `traces`, (K,), are of A + Lambda."""
    G: Matrix = W.swapaxes(1, 2) @ W
    d = G.shape[1]
    places, times = _upper(d)
    P = G.reshape(len(G), -1).take(places, axis=1)
    P *= times  # by 1 or 2, so nothing is rounded
    P = P.astype(kind, copy=False)
    terms = np.count_nonzero(P, axis=1)
    if kind == np.float64:
        size = np.abs(W)
        reach = (size.sum(axis=2)[:, None] @ size)[:, 0]
    else:
        reach = np.abs(G).sum(axis=2).astype(kind)
    unit, more = rounding(P, d)
    doubt = unit * (terms + more) * reach.max(axis=1).astype(np.float64) * np.sqrt(traces)
    return P, reach, terms.astype(kind), doubt, traces


@cache
def _lower(size: int) -> Matrix:
    """Ones on and below the diagonal."""
    result: Matrix = np.tri(size)
    return result


def _invert(L: Matrix, W: Matrix) -> None:
    """Put the inverses of lower triangles L (K, d, d) in W, which is zero: by halves, as `inv` takes no notice of what
    is zero and treats every matrix by itself. [[P, 0], [Q, R]]^-1 = [[P^-1, 0], [-R^-1 Q P^-1, R^-1]].
    """
    half = L.shape[1] // 2
    if half <= SIDE // 2:
        np.multiply(np.linalg.inv(L), _lower(L.shape[1]), out=W)
        return
    one, other = slice(0, half), slice(half, None)
    _invert(L[:, one, one], W[:, one, one])
    _invert(L[:, other, other], W[:, other, other])
    np.negative(W[:, other, other] @ (L[:, other, one] @ W[:, one, one]), out=W[:, other, one])


def inverses(A: Matrix, Lambda: Vector) -> Matrix:
    """The inverses of the Cholesky factors of (K, d, d) matrices A + Lambda."""
    L = cholesky(A, Lambda)
    W: Matrix = np.zeros_like(L)
    _invert(L, W)
    return W


def cholesky(A: Matrix, Lambda: Vector) -> Matrix:
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
