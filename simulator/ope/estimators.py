"""What a target policy would have earned, from the log of another policy: estimators as sums over rows.

    r  (n,)  reward of the arm shown           w   (n,)    pi / mu of the arm shown
    s  (n,)  row weight, 1 / share kept        q   (n,)    predicted reward of the arm shown
    mu (n,)  probability it was drawn with     v   (n,)    sum_a pi(a|x) q(x, a)
    pi (n,)  probability of the target

    ips  sum s w r / sum s                     dr      sum s (v + w (r - q)) / sum s
    clipped: min(w, c) in place of w           sndr    sum s v / sum s + sum s w (r - q) / sum s w
    snips  sum s w r / sum s w                 switch  w 1[w <= tau] in place of w
    dm   sum s v / sum s                       dros    lambda w / (w^2 + lambda) in place of w

Every one of them is a sum of at most two ratios of sums over rows, and is kept as that (`Estimate`): so one standard
error, one bootstrap and one way of adding up the rows of a user serve all. With s = 1 and the same q, tau, lambda and c
they are the values of obp (Saito et al. 2021, https://arxiv.org/abs/2008.07146) to 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bandit.arrays import Int, Matrix, Vector

Acceptance = Literal["rejection", "none"]
COINS = 1  # key of replay's stream: a log may have been simulated with the same seed
DELTA = 0.05  # how sure the bound of a bias is, in the choice of lambda


@dataclass(frozen=True, eq=False)
class Estimate:
    """A sum of ratios of sums over rows: value = sum_k (sum_i top[k, i]) / (sum_i bottom[k, i]).

    Attributes:
        top: shape (m, n), one line a ratio.
        bottom: shape (m, n), at least 0.
    """

    top: Matrix
    bottom: Matrix

    @property
    def ratios(self) -> Vector:
        """Each ratio, shape (m,); NaN where nothing stands below the line."""
        top, bottom = self.top.sum(axis=1), self.bottom.sum(axis=1)
        found: Vector = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
        return found

    @property
    def value(self) -> float:
        """The estimate, in reward units; NaN where no row counts."""
        return float(self.ratios.sum())

    def scores(self) -> Vector:
        """How much each row moves the value, shape (n,): sum_k (top - ratio bottom) / sum bottom. They sum to 0."""
        scores: Vector = ((self.top - self.ratios[:, None] * self.bottom) / self.bottom.sum(axis=1)[:, None]).sum(
            axis=0
        )
        return scores

    def grouped(self, unit: Int) -> Estimate:
        """The same value with the rows of one unit (a user) added up: units are then what is independent.

        Args:
            unit: number of each row's unit, shape (n,), from 0 without gaps.
        """
        return Estimate(_add_up(self.top, unit), _add_up(self.bottom, unit))


def _add_up(lines: Matrix, unit: Int) -> Matrix:
    return np.array([by_unit(line, unit) for line in lines])


def by_unit(values: Vector, unit: Int | None) -> Vector:
    """Values, shape (n,), added up for each user; as they are where nobody repeats."""
    return values if unit is None else np.bincount(unit, values).astype(np.float64)


def ratio(top: Vector, bottom: Vector, weight: Vector | None = None) -> Estimate:
    """sum s top / sum s bottom."""
    s = np.ones(len(top)) if weight is None else weight
    return Estimate((s * top)[None, :], (s * bottom)[None, :])


def mean(values: Vector, weight: Vector | None = None) -> Estimate:
    """sum s values / sum s."""
    return ratio(values, np.ones(len(values)), weight)


def importance(propensity: Vector, target: Vector) -> Vector:
    """w = pi / mu of the arms shown, shape (n,).

    Raises:
        ValueError: if a propensity is not in (0, 1] or a target probability not in [0, 1]; the row is named.
    """
    if propensity.shape != target.shape:
        raise ValueError(f"propensity and target must have one shape; got {propensity.shape} and {target.shape}")
    _within(propensity, (propensity > 0) & (propensity <= 1), "propensity", "(0, 1]")
    _within(target, (target >= 0) & (target <= 1 + 1e-9), "target", "[0, 1]")  # a sum of rounded shares may pass 1
    w: Vector = target / propensity
    return w


def _within(values: Vector, fine: np.ndarray, name: str, where: str) -> None:
    if not fine.all():
        row = int(fine.argmin())
        raise ValueError(f"{name} must be in {where}; row {row} has {values[row]}")


def ips(reward: Vector, propensity: Vector, target: Vector, weight: Vector | None = None) -> Estimate:
    """Inverse propensity score: unbiased where propensity > 0 wherever target > 0.

        V = mean(w r),   w = target / propensity

    Args:
        reward: r of the arm shown, shape (n,), in reward units.
        propensity: probability the logging policy gave it, shape (n,), in (0, 1].
        target: probability the target policy gives it, shape (n,), in [0, 1].
        weight: s, 1 / the share of such rows that was kept, shape (n,); None: every row counts once.

    Raises:
        ValueError: if a propensity is not in (0, 1]; the row is named.

    Dudik et al. (2014), https://arxiv.org/abs/1503.02834
    """
    return mean(importance(propensity, target) * reward, weight)


def clipped(
    reward: Vector, propensity: Vector, target: Vector, clip: float = 10.0, weight: Vector | None = None
) -> Estimate:
    """IPS with weights cut at `clip`: V = mean(min(w, c) r). Biased towards 0 by what is cut off.

    Bottou et al. (2013), https://arxiv.org/abs/1209.2355. Arguments as of `ips`.
    """
    return mean(np.minimum(importance(propensity, target), clip) * reward, weight)


def snips(reward: Vector, propensity: Vector, target: Vector, weight: Vector | None = None) -> Estimate:
    """Self-normalised IPS: V = sum w r / sum w. Biased of order 1/n, moves with r when a constant is added to r.

    NaN if every w is 0. Swaminathan and Joachims (2015), "The self-normalized estimator". Arguments as of `ips`.
    """
    w = importance(propensity, target)
    return ratio(w * reward, w, weight)


def expected(target: Matrix, q: Matrix) -> Vector:
    """v = sum_a pi(a|x) q(x, a), shape (n,), from two tables of shape (n, K)."""
    return np.asarray(np.einsum("ij,ij->i", target, q))


def dm(v: Vector, weight: Vector | None = None) -> Estimate:
    """Direct method: V = mean(v), v = sum_a pi q: as good as the model q and no better; its bias is not seen."""
    return mean(v, weight)


def dr(
    reward: Vector, propensity: Vector, target: Vector, q: Vector, v: Vector, weight: Vector | None = None
) -> Estimate:
    """Doubly robust: V = mean(v + w (r - q)). Unbiased if q of a row was fitted without that row (or from the past).

    Args:
        reward: r of the arm shown, shape (n,), in reward units.
        propensity: probability the logging policy gave it, shape (n,), in (0, 1].
        target: probability the target policy gives it, shape (n,), in [0, 1].
        q: predicted reward of the arm shown, shape (n,).
        v: sum_a pi q, shape (n,); see `expected`.
        weight: s, shape (n,), or None.

    obp takes whatever q it is handed; ours is cross-fitted unless the caller says otherwise (see models.py).
    Dudik et al. (2014), https://arxiv.org/abs/1503.02834
    """
    return mean(v + importance(propensity, target) * (reward - q), weight)


def sndr(
    reward: Vector, propensity: Vector, target: Vector, q: Vector, v: Vector, weight: Vector | None = None
) -> Estimate:
    """Self-normalised DR: V = mean(v) + sum w (r - q) / sum w. Arguments as of `dr`."""
    w = importance(propensity, target)
    base, rest = mean(v, weight), ratio(w * (reward - q), w, weight)
    return Estimate(np.vstack([base.top, rest.top]), np.vstack([base.bottom, rest.bottom]))


def switch_dr(
    reward: Vector, propensity: Vector, target: Vector, q: Vector, v: Vector, tau: float, weight: Vector | None = None
) -> Estimate:
    """SWITCH-DR: V = mean(v + w 1[w <= tau] (r - q)): the model alone where weights are large.

    Wang, Agarwal, Dudik (2017), https://arxiv.org/abs/1612.01205. tau: see `choose_tau`. Others as of `dr`.
    """
    w = importance(propensity, target)
    return mean(v + w * (w <= tau) * (reward - q), weight)


def shrunk(w: Vector, lam: float) -> Vector:
    """lambda w / (w^2 + lambda), which never passes sqrt(lambda) / 2; w itself for an infinite lambda."""
    result: Vector = w if np.isinf(lam) else lam * w / (w**2 + lam)
    return result


def dros(
    reward: Vector, propensity: Vector, target: Vector, q: Vector, v: Vector, lam: float, weight: Vector | None = None
) -> Estimate:
    """DR with optimistic shrinkage: V = mean(v + lambda w / (w^2 + lambda) (r - q)).

    Su, Dimakopoulou, Krishnamurthy, Dudik (2020), https://arxiv.org/abs/1907.09623. lambda: see `choose_lambda`.
    """
    return mean(v + shrunk(importance(propensity, target), lam) * (reward - q), weight)


def mrdr_weights(propensity: Vector, target: Vector) -> Vector:
    """Weights with which q is fitted for MRDR: pi (1 - mu) / mu^2 of the arm shown, scaled to a mean of 1. MRDR is
    then `dr` with that q.

    This is obp's `fitting_method="mrdr"`. It is Farajtabar et al. (2018), https://arxiv.org/abs/1802.03493, for a
    deterministic target only: for a stochastic one the paper minimises a quadratic form in which arms are coupled.
    The scaling is ours: it changes nothing but how strong a ridge penalty is.
    """
    u = importance(propensity, target) * (1 - propensity) / propensity
    total = u.sum()
    return u * len(u) / total if total > 0 else u


def replay(
    reward: Vector,
    propensity: Vector,
    target: Vector,
    weight: Vector | None = None,
    *,
    acceptance: Acceptance = "rejection",
    seed: int = 0,
) -> Estimate:
    """Replay: the mean reward of the rows in which the target would have shown the same arm.

        V = sum s m r / sum s m,   m = 1[u < pi c / mu],   u uniform,   c = min mu

    With `acceptance="none"`, m = 1[u < pi]: right on a uniform log only, and what obp does (it takes deterministic
    targets, for which u decides nothing). On another log the arms that were shown often would match too often; a
    match is therefore accepted with c / mu, and what is left is a sample of the target's own decisions. obp answers
    0 where nothing matches, we answer NaN.

    Li, Chu, Langford, Wang (2011), https://arxiv.org/abs/1003.5956. Arguments as of `ips`.
    """
    importance(propensity, target)  # that they are probabilities
    accepted = target * (propensity.min(initial=1.0) / propensity) if acceptance == "rejection" else target
    coins = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(COINS,))).random(len(target))
    m = (coins < accepted).astype(float)
    return ratio(m * reward, m, weight)


def choose_tau(
    reward: Vector,
    propensity: Vector,
    target: Vector,
    q: Vector,
    v: Vector,
    weight: Vector | None = None,
    *,
    ratios: Matrix,
    masses: Matrix,
    span: float,
) -> float:
    """The tau of SWITCH-DR with the least variance + (bound of the bias)^2, as its authors choose it.

        variance = sum_i score_i^2        bound = span mean(sum_a pi 1[pi / mu > tau])

    Candidates are 21 in geometric steps between the 5 % and 95 % quantile of the weights that are not 0, and
    infinity, which is DR and wins ties.

    Args (the others as of `dr`):
        ratios: pi / mu of every arm, shape (n, K); where only the shown arm's is known its w, shape (n, 1).
        masses: pi of every arm, shape (n, K), or again w, shape (n, 1): its mean is the same.
        span: highest less lowest possible reward.

    Wang, Agarwal, Dudik (2017), section 4, https://arxiv.org/abs/1612.01205
    """

    def risk(tau: float) -> float:
        beyond = mean((masses * (ratios > tau)).sum(axis=1), weight).value
        return _variance(switch_dr(reward, propensity, target, q, v, tau, weight)) + (span * beyond) ** 2

    low, high = _spread(importance(propensity, target))
    candidates: list[float] = [math.inf, *np.geomspace(low, high, 21).tolist()]
    return min(candidates, key=risk)


def choose_lambda(
    reward: Vector, propensity: Vector, target: Vector, q: Vector, v: Vector, weight: Vector | None = None
) -> float:
    """The lambda of DRos with the least variance + (bound of the bias)^2, as its authors choose it.

        bound = |mean((w - shrunk w) (r - q))| + sqrt(2 mean(w^2) ln(2 / delta) / n) + 2 max(w) ln(2 / delta) / (3 n)

    Candidates are 30 in geometric steps from .01 (5 % quantile of w)^2 to 100 (95 % quantile)^2, and infinity (DR).

    Su et al. (2020), sections 4 and 6, https://arxiv.org/abs/1907.09623; the bound is obp's. Arguments as of `dr`.
    """
    w, n = importance(propensity, target), len(reward)
    log = np.log(2 / DELTA)
    slack = np.sqrt(2 * (w**2).mean() * log / n) + 2 * w.max() * log / (3 * n)

    def risk(lam: float) -> float:
        bias = abs(mean((w - shrunk(w, lam)) * (reward - q), weight).value) + slack
        return float(_variance(dros(reward, propensity, target, q, v, lam, weight)) + bias**2)

    low, high = _spread(w)
    candidates: list[float] = [math.inf, *np.geomspace(0.01 * low**2, 100 * high**2, 30).tolist()]
    return min(candidates, key=risk)


def _variance(estimate: Estimate) -> float:
    return float((estimate.scores() ** 2).sum())


def _spread(w: Vector) -> Sequence[float]:
    """5 % and 95 % quantile of the weights that are not 0 (1 and 1 if there are none)."""
    positive = w[w > 0]
    spread: list[float] = np.quantile(positive, [0.05, 0.95]).tolist() if len(positive) else [1.0, 1.0]
    return spread
