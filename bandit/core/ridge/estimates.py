"""Which arms are best in a context, as float64 decides it. Notation of `linear`; K scored arms, N contexts.

    P    (K, p)     packed upper triangles of G, off-diagonals doubled, p = d (d + 1) / 2
    phi  (N, p)     packed outer product of x: width^2 of every arm is phi P'
    W    (K, d, d)  inverse of the Cholesky factor of A + Lambda: G = W'W, width = |W x|, never negative

phi P' is quick and may cancel; |W x| is exact and slow. A sum of t products that are not zero, added in whatever order
BLAS likes, is off by at most (t + 2) u |x|'|G||x| / (1 - (t + 2) u), with u of P's type (Higham 2002, section 3.1; two
for rounding P and phi). In float64 G = W'W is itself off by d u |W|'|W| and |W x|^2 by (2 d + 2) u |x|'|W|'|W||x|; as
|G| <= |W|'|W|, all of it is at most

    error = c sum_i x_i^2 reach_i      c = 1.05 (t + 3 d + 4) u, reach = |W|'|W| 1 in float64
                                       c = 1.05 (t + 2) u,       reach = |G| 1     in float32

Where it is nothing beside a tie, widths are taken as they are. |sqrt(a) - sqrt(b)| = |a - b| / (sqrt(a) + sqrt(b)) is
at most error / width, however small width^2 is, and width >= |x| / sqrt(trace(A + Lambda)), the largest eigenvalue
being at most the trace. So a score is off by at most

    alpha sigma_a |x| doubt_a          doubt_a = c max reach_a sqrt(trace(A_a + Lambda))

and under alpha "auto", where mean + R (q - p) rises by at most .65 R z_a for each width (its slope in z is steepest at
p = 0, z^2 = 1/3: 2 z / (1 + z^2)^2 = .6495), by at most .65 R z_a |x| doubt_a. And error / width^2 is at most
doubt_a sqrt(trace(A_a + Lambda)): below 1 none comes out negative.
Else the error bounds each score from both sides, and only arms that it leaves open are scored again from W. Under
"auto" most arms are left out before that: with h = 1 - 2 p it is z h + sqrt(1 + z^2 - h^2) <= 1 + z^2 (Cauchy and
Schwarz), so q - p <= z / 2, and only arms whose mean + R z / 2 reaches the best can be it; and q, where (q - p)^2 = z^2
q (1 - q), reaches t just where p + z sqrt(t (1 - t)) does. Arms that have seen nothing share G = Lambda^-1: their width
is one number a context, without error, and their P is not read.
"""

from __future__ import annotations

import copy
import math
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.ridge.linear import wilson
from bandit.core.ridge.packed import packed_products, product
from bandit.core.sums import ONE

Arms = slice | Int  # all of them, or indices
Alpha = float | Literal["auto"]  # so many sigma_a width are added to the mean, or Wilson's bound is taken

TIE = 1e-5  # of sigma_pool + |largest score|: closer scores are a tie
NOTHING = 1e-3  # of TIE sigma_pool: scores that are off by less decide as they are
SURE_SIGN = 0.5  # of width^2: an error up to that makes no square negative
# The error bound is not loose: 350 of its 2,082 u were seen (d 64, G near rank one, OpenBLAS), and 1,400 times the
# plausible 16 u max diag G |x|^2. 5 % more for the denominator (3 % at D_MAX) and for keeping it in float32.
MARGIN = 1.05
SURELY = 1.0001  # times a sum of d terms in float32, all positive: at least the sum
STEEP = 0.65  # R z_a: Wilson's bound rises no faster with the width
EVERY = slice(None)
FEW = 4  # arms copied from P cost so much more than arms read in place
HANDFUL = 2**15  # elements of W: so few are read sooner than P with its error
MANY = 2**14  # pairs of context and arm: fewer are scored before the few are found
PART = 8  # and all are where more than one in so many may be the best
MOSTLY = 4 / 3  # of arms, so many times those that have seen something: with fewer of them, many are equal
WORTHWHILE = 2**18  # elements of P: fewer are read before the few are found
GATHER = 2**21  # elements of W copied at once where many arms are scored again
DENSE = 4  # pairs of context and arm are scored together from where one in so many is wanted


class Factors(NamedTuple):
    """What scores need of each arm; only the last does not need a factorisation."""

    W: Matrix  # (K, d, d)
    P: Matrix  # (K, p) float64 of few arms, float32 of many
    reach: Matrix  # (K, d)
    terms: Matrix  # (K,) how many elements of P are not zero
    doubt: Vector  # (K,)
    trace: Vector  # (K,) of A + Lambda
    blank: Matrix  # (K, 2) of an arm that has seen nothing, G of the intercept and of the other features, or below 0
    # what it is pooled with; else 0
    GsB: Matrix  # (K, 1 + m, d) G s, then G B_k of each kind


class Derived(NamedTuple):
    """What depends on all arms at once, or on the weights; made anew at each refresh and never changed."""

    mu: float
    mu_kinds: Vector  # (m,) pooled mean reward of each kind
    sigma: Vector  # (K,)
    pool: float  # sigma_pool
    z2: Vector  # (K,) alpha_t^2 phi_a
    alpha: float  # alpha_t
    low: float  # lo
    span: float  # R
    rise: Vector  # (K,) R alpha_t sqrt(phi_a) / 2: so much for each width, Wilson's bound is at most above the mean
    given: bool  # whether sigma is a number that the document gives
    theta: Matrix  # (K, d)
    thetas: Matrix  # (K, m, d) of each kind, G B_k + mu_k h; theta is their sum by the weights
    prior: Vector  # (d,) diagonal of Lambda^-1
    cold: Mask  # (K,) arms whose G is Lambda^-1
    alike: Mask  # (K,) arms that have seen nothing and are estimated alike: these, or where arms are pooled others
    seen: int  # how many are not
    doubt: float  # the largest sigma_a |x| doubt_a, for the largest x on the grid
    raised: float  # the largest .65 R z_a |x| doubt_a
    relative: float  # the largest error / width^2 that there can be
    impressions: float  # of all arms

    def taken(self, alpha: Alpha) -> Alpha:
        """How much uncertainty counts: with noise given, "auto" is alpha_t times sigma_a width."""
        return self.alpha if self.given and alpha == "auto" else alpha


class Estimates:
    """Estimates of every scored arm for each of N contexts: what a policy turns into probabilities.

    mean      (N, K)  x'theta; -inf where the arm is not eligible
    spread    (N, K)  sigma_a width, accurate to the type of P (`best` is exact)
    eligible  (N, K)  or (1, K)
    everyone          whether all arms are eligible in every context
    """

    def __init__(
        self, factors: Factors, derived: Derived, x: NDArray[np.int16], eligible: Mask, everyone: bool
    ) -> None:
        self.X = x.astype(np.float64)
        self.X *= 1.0 / ONE
        self.factors, self.derived, self.eligible, self.everyone = factors, derived, eligible, everyone
        self.mean: Matrix = self.X.dot(derived.theta.T)
        if not everyone:
            self.mean = np.where(eligible, self.mean, -np.inf)

    @cached_property
    def most(self) -> Matrix:
        """(N, K) at least |x|'|G||x|, so at least width^2."""
        result: Matrix = (self.X**2).astype(self.factors.P.dtype, copy=False).dot(self.factors.reach.T)
        return result

    @cached_property
    def prior2(self) -> Matrix:
        """(N, 1) width^2 of arms that have seen nothing."""
        result: Matrix = (self.X * self.X).dot(self.derived.prior)[:, None]
        return result

    @cached_property
    def active(self) -> Int:
        """(N, 1) how many elements of phi are not zero."""
        active = np.count_nonzero(self.X, axis=1)[:, None]
        result: Int = active * (active + 1) // 2
        return result

    @cached_property
    def width2(self) -> Matrix:
        """(N, K) width^2 in the type of P, which may be negative where it cancels; (N, 1) where no arm has seen
        anything.
        """
        return self._width2(EVERY) if self.derived.seen else self.prior2

    @cached_property
    def error(self) -> Matrix:
        """(N, K): how far `width2` may be from width^2."""
        return self._error(EVERY)

    @property
    def wide(self) -> Matrix:
        """(N, K) width, accurate to the type of P (`best` is exact)."""
        result: Matrix = np.broadcast_to(np.sqrt(np.maximum(self.width2, 0)), self.mean.shape)
        return result

    @property
    def spread(self) -> Matrix:
        """sigma_a width of each context and arm."""
        return self.derived.sigma * self.wide

    def width(self, contexts: Int, arms: Int) -> Vector:
        """The width of arm arms[i] for context contexts[i], from the factor: the same whatever other arms there are."""
        y = (self.factors.W[arms] @ self.X[contexts][:, :, None])[:, :, 0]
        result: Vector = np.sqrt(np.einsum("ni,ni->n", y, y))
        return result

    def one_width(self, context: int, arm: int) -> float:
        """The same of one arm for one context."""
        y = self.factors.W[arm].dot(self.X[context])
        return math.sqrt(y.dot(y))

    def threshold(self, best: Any) -> Any:
        """The least score that ties with the largest score `best`: of one context, or of each."""
        return best - TIE * (self.derived.pool + abs(best))

    def clear(self, alpha: Alpha) -> bool:
        """Whether rounding changes no score by more than is nothing beside a tie, and makes no square negative."""
        derived = self.derived
        off = derived.raised if alpha == "auto" else alpha * derived.doubt
        return not derived.seen or (off <= NOTHING * TIE * derived.pool and derived.relative <= SURE_SIGN)

    def bounds(self, alpha: Alpha, arms: Arms = EVERY, best: bool = False) -> tuple[Matrix, Matrix]:
        """(least, largest) that the scores of these arms can be, given the error of `width2`.

        Where only the `best` are asked for, others may have -inf.
        """
        whole = arms is EVERY
        width2, error = (self.width2, self.error) if whole else (self._width2(arms), self._error(arms))
        mean, width2 = self.mean[:, arms], np.maximum(width2, 0)
        if best and alpha == "auto" and (found := self._pruned(arms, mean, width2, error)):
            return found[0], found[1]
        low, high = np.maximum(width2 - error, 0, dtype=np.float64), np.add(width2, error, dtype=np.float64)
        return scored(self.derived, alpha, arms, mean, low), scored(self.derived, alpha, arms, mean, high)

    def best(self, alpha: Alpha = 0.0) -> Mask:
        """(N, K): the arms whose score is the largest or tied with it, as float64 decides it."""
        if self.clear(alpha):
            found = self._pruned(EVERY, self.mean, self.width2) if alpha == "auto" else None
            score = found[0] if found else self._scores(alpha)
            top = score.item(score.argmax()) if len(score) == 1 else score.max(axis=1, keepdims=True)
            clear: Mask = score >= self.threshold(top)
            return clear
        arms = self._promising(alpha)
        if not isinstance(arms, slice) and len(arms) * self.X.shape[1] ** 2 <= HANDFUL:
            return self._best_of(arms, alpha)
        low, high = self.bounds(alpha, arms, best=True)
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

    def _best_of(self, arms: Int, alpha: Alpha) -> Mask:
        """(1, K): the best of a few arms, all others being worse, for one context."""
        if len(arms) > 1:
            y = self.factors.W[arms].dot(self.X[0])
            score = scored(self.derived, alpha, arms, self.mean[0].take(arms), np.einsum("kd,kd->k", y, y))
            arms = arms[score >= self.threshold(score.max())]
        result: Mask = np.zeros(self.mean.shape, bool)
        result[0, arms] = True
        return result

    def leading(self, alpha: Alpha, k: Int) -> Matrix:
        """(N, K): the score in float64 of every arm that can be among the k[i] best; of the others that or -inf."""
        if self.clear(alpha):
            return self._scores(alpha)
        low, high = self.bounds(alpha)
        rank = low.shape[1] - k
        kth = np.partition(low, np.unique(rank), axis=1)[np.arange(len(low)), rank]
        possibly: Mask = (high >= self.threshold(kth)[:, None]) & (high > -np.inf)
        return self._exact(np.arange(len(low)), possibly, alpha)

    def only(self, contexts: Int, left: Mask | None = None) -> Estimates:
        """The estimates of these contexts, shape (n,), where only the arms `left` may be shown, shape (n, K)."""
        found = copy.copy(self)
        for name in {"width2", "error", "most", "prior2", "active"} & self.__dict__.keys():
            found.__dict__[name] = self.__dict__[name][contexts]
        found.X, found.mean = self.X[contexts], self.mean[contexts]
        found.eligible = self.eligible if len(self.eligible) == 1 else self.eligible[contexts]
        if left is not None:
            found.eligible, found.everyone, found.mean = left, False, np.where(left, found.mean, -np.inf)
        return found

    def _scores(self, alpha: Alpha) -> Matrix:
        """Scores with widths as they are: where that is `clear`."""
        if alpha == "auto":
            raised: Matrix = scored(self.derived, alpha, EVERY, self.mean, self.width2)
            return raised
        sigma = self.derived.sigma
        score: Matrix = np.sqrt(self.width2, dtype=np.float64) * (sigma if alpha == 1.0 else alpha * sigma)
        score += self.mean
        return score

    def _pruned(self, arms: Arms, mean: Matrix, width2: Matrix, error: Matrix | None = None) -> list[Matrix] | None:
        """[least, largest] that Wilson's bounds of these arms can be, -inf where they cannot be the best; without an
        error one of them. None: where too many arms can be, or it would not pay to look.
        """
        derived, K = self.derived, mean.shape[1]
        low, span, z2 = derived.low, derived.span, derived.z2[arms]
        if width2.size < MANY or MOSTLY * derived.seen < len(derived.cold):
            return None

        def bound(at: Int, sign: int) -> Vector:
            square = width2.take(at)
            if error is not None:
                square = np.maximum(square + sign * error.take(at), 0)
            raised: Vector = wilson(mean.take(at), square * z2.take(at % K), low, span)
            return raised

        over = np.sqrt(width2 if error is None else width2 + error, dtype=np.float64)
        over *= derived.rise[arms]
        ceiling = mean + over
        lead = ceiling.argmax(axis=1) + np.arange(0, mean.size, K)
        reach = self.threshold(bound(lead, -1))[:, None]
        reaching: Mask = ceiling >= reach
        if PART * np.count_nonzero(reaching) > mean.size:
            t = np.minimum(np.maximum((reach - low) / span, 0.0), 1.0)
            over *= 2 * np.sqrt(t * (1 - t))
            over += np.maximum(mean, low, out=ceiling)
            reaching &= over >= reach
            if PART * np.count_nonzero(reaching) > mean.size:
                return None
        reaching.put(lead, True)
        at = np.flatnonzero(reaching)
        bounds = [np.full(mean.shape, -np.inf) for _ in range(1 if error is None else 2)]
        for sign, each in zip((-1, 1), bounds, strict=False):
            each.put(at, bound(at, sign))
        return bounds

    def _promising(self, alpha: Alpha) -> Arms:
        """Arms among which the best are: for one context, reading P costs more than finding the few that can be."""
        derived = self.derived
        if len(self.X) > 1 or self.factors.P.size < WORTHWHILE:
            return EVERY
        mean, most = self.mean[0], self.most[0] * SURELY
        if derived.seen < len(most):
            most = np.where(derived.cold, self.prior2[0], most)
        auto = alpha == "auto"
        high = scored(derived, alpha, EVERY, mean, most) if not auto else mean + (rise := derived.rise * np.sqrt(most))
        leader = int(high.argmax())
        score = scored(derived, alpha, leader, mean.item(leader), self.one_width(0, leader) ** 2)
        few = (high >= (reach := self.threshold(score))).nonzero()[0]
        if auto and len(few) > 1:
            t = min(max((reach - derived.low) / derived.span, 0.0), 1.0)
            high = rise.take(few)
            high *= 2 * math.sqrt(t * (1 - t))
            high += np.maximum(mean.take(few), derived.low)
            few = few[high >= reach]
        read = len(few) if derived.seen == len(most) else len(few) - np.count_nonzero(derived.cold[few])
        return few if FEW * read < derived.seen else EVERY

    def _width2(self, arms: Arms) -> Matrix:
        derived, P = self.derived, self.factors.P
        phi = packed_products(self.X if P.dtype == np.float64 else self.X.astype(np.float32))
        if derived.seen == len(P):
            return product(phi, P if arms is EVERY else P[arms])
        cold = derived.cold[arms]
        result: Matrix = np.repeat(self.prior2, len(cold), axis=1)
        if arms is EVERY and FEW * derived.seen >= len(P):
            np.copyto(result, product(phi, P), where=~cold)
        elif len(seen := np.flatnonzero(~cold)):
            result[:, seen] = product(phi, P[seen if isinstance(arms, slice) else arms[seen]])
        return result

    def _error(self, arms: Arms) -> Matrix:
        unit, more = rounding(self.factors.P, self.X.shape[1])
        terms = np.minimum(self.active, self.factors.terms[arms])
        result: Matrix = unit * (terms + more) * self.most[:, arms]
        if self.derived.seen < len(self.factors.P):
            result *= ~self.derived.cold[arms]
        return result

    def _exact(self, contexts: Int, arms: Mask, alpha: Alpha) -> Matrix:
        """Scores of the marked arms of these contexts, in float64; -inf of the others."""
        derived, cold = self.derived, self.derived.cold
        score = np.full(arms.shape, -np.inf)
        if derived.seen < len(cold):
            unseen = scored(derived, alpha, EVERY, self.mean[contexts], self.prior2[contexts])
            np.copyto(score, unseen, where=arms & cold)
            arms = arms & ~cold
        rows, columns = np.nonzero(arms)
        some = np.flatnonzero(arms.any(axis=0))
        d, n = self.X.shape[1], len(contexts)
        if DENSE * len(rows) > len(some) * n:  # each factor read once, for all contexts
            size = max(1, GATHER // (d * max(d, n)))
            for part in (some[at : at + size] for at in range(0, len(some), size)):
                y = self.factors.W[part] @ self.X[contexts].T
                found = scored(derived, alpha, part, self.mean[contexts[:, None], part], np.einsum("kdn,kdn->nk", y, y))
                score[:, part] = np.where(arms[:, part], found, score[:, part])
            return score
        size = max(1, GATHER // d**2)
        for row, arm in ((rows[at : at + size], columns[at : at + size]) for at in range(0, len(rows), size)):
            context = contexts[row]
            score[row, arm] = scored(derived, alpha, arm, self.mean[context, arm], self.width(context, arm) ** 2)
        return score


def scored(derived: Derived, alpha: Alpha, arms: Any, mean: Any, width2: Any) -> Any:
    """The scores of these arms from x'theta and width^2."""
    if alpha == "auto":
        return wilson(mean, width2 * derived.z2[arms], derived.low, derived.span)
    return mean + alpha * derived.sigma[arms] * np.sqrt(width2)


def rounding(P: NDArray[Any], d: int) -> tuple[float, int]:
    """(1.05 u, what is added to the number of terms) in the bound of the error, for the type of P."""
    if P.dtype == np.float64:
        return MARGIN * 2.0**-53, 3 * d + 4
    return MARGIN * 2.0**-24, 2
