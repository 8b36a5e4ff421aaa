"""Lists of k arms: what another policy's lists would have earned.

    p_j, pi_j  (n, k)  conditional propensity of the arm at position j, given the arms above it: logging, target policy
    m_j, e_j   (n, k)  marginal probability of that arm at position j, averaged over the arms above it: likewise
    r_j        (n, k)  reward at position j             w_j = pi_j / p_j             W_j = w_1 ... w_j (W_0 = 1)

    standard                W_k sum_j r_j           rewards may depend on the whole list
    independent             sum_j e_j / m_j r_j     reward at j depends on the arm at j alone
    reward interaction      sum_j W_j r_j           reward at j depends on the arms down to j (a reader who scans)
    cascade DR              sum_j W_j (r_j - Q_j) + W_{j-1} sum_a pi_j(a) Q_j(a)         likewise; Q_j: position j on

Values are per list. The more a line assumes of rewards, the smaller its weights. An epsilon-greedy list has one coin
for the whole list; with g the greedy order its probabilities are
    marginal of a at j      (1 - eps) 1[g_j = a] + eps / K
    of the first j arms     (1 - eps) 1[they are g_1 ... g_j] + eps (K - j)! / K!
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from simulator.logs.contexts import LogError
from simulator.logs.log import Log
from simulator.ope.checks.overlap import numbered
from simulator.ope.estimators import Estimate, importance, mean


@dataclass(frozen=True, eq=False)
class Lists:
    """n lists of at most k positions; an empty position has arm -1, reward 0 and probability 1.

    Attributes:
        log: the row of each list's first position, n rows.
        arm: (n, k).
        reward: (n, k), in reward units.
        conditional: (n, k), conditional propensity: of the arm, given those above it.
        marginal: (n, k), marginal probability: of the arm at its position, averaged over those above it.
        rows: (n, k), row of the log that each position is; -1 for an empty one.
    """

    log: Log
    arm: Int
    reward: Matrix
    conditional: Matrix
    marginal: Matrix
    rows: Int

    @classmethod
    def of(cls, log: Log) -> Lists:
        """The lists of a log.

        Raises:
            LogError: nothing says which rows are positions of one list, or a position is there twice or missing.
        """
        if log.position is None or log.decision_id is None:
            raise LogError("expected rows with a position and the id of their decision, got none: no lists")
        _, which = np.unique(log.decision_id, return_inverse=True)
        unit = numbered(which)
        unit = np.arange(len(log)) if unit is None else unit
        n, k = int(unit.max(initial=-1)) + 1, int(log.position.max(initial=0)) + 1
        rows = np.full((n, k), -1, np.int64)
        rows[unit, log.position] = np.arange(len(log))
        there = rows >= 0
        gaps = (there != (np.arange(k) < there.sum(axis=1)[:, None])).any(axis=1)
        if there.sum() < len(log) or gaps.any():
            bad = log.decision_id[unit == int(gaps.argmax())][0] if gaps.any() else "one of them"
            raise LogError(
                f"expected each position of a list once, from the first on; got others (decision {str(bad)!r})"
            )

        def placed(values: Vector | Int, empty: float) -> Matrix:
            found: Matrix = np.where(there, values[rows], empty)
            return found

        conditional = log.propensity if log.conditional is None else log.conditional
        return cls(
            log.take(rows[:, 0]), placed(log.arm, -1).astype(np.int64), placed(log.reward, 0.0),
            placed(conditional, 1.0), placed(log.propensity, 1.0), rows,
        )  # fmt: skip

    @property
    def there(self) -> Mask:
        """Which positions are filled, (n, k)."""
        return self.rows >= 0


def prefix_weights(conditional: Matrix, target: Matrix) -> Matrix:
    """W_j = prod_{i <= j} pi_i / p_i, shape (n, k); infinite or NaN where a long list's is too large for a float.

    Args:
        conditional: p_j, shape (n, k), in (0, 1].
        target: pi_j, shape (n, k), in [0, 1].

    Raises:
        ValueError: if a propensity is not in (0, 1]; the position in the flattened table is named.
    """
    w = importance(conditional.ravel(), target.ravel()).reshape(conditional.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.cumprod(w, axis=1))


def given_above(prefix: Matrix) -> Matrix:
    """p_j from the probabilities of the first j arms, shape (n, k): each over the one before it; 0 after a 0."""
    before = np.column_stack([np.ones(len(prefix)), prefix[:, :-1]])
    return np.asarray(np.divide(prefix, before, out=np.zeros(prefix.shape), where=before > 0))


def standard(reward: Matrix, conditional: Matrix, target: Matrix, weight: Vector | None = None) -> Estimate:
    """Whole-list IPS: V = mean(W_k sum_j r_j). Unbiased whatever rewards depend on; the largest variance of all.

    Args:
        reward: r_j, shape (n, k), in reward units.
        conditional: p_j, shape (n, k), in (0, 1]: the conditional propensity.
        target: pi_j, shape (n, k), in [0, 1]: conditional likewise.
        weight: row weight of each list, shape (n,), or None.

    Raises:
        ValueError: if a propensity is not in (0, 1].

    McInerney et al. (2020), section 2, https://arxiv.org/abs/2007.12986
    """
    return mean(prefix_weights(conditional, target)[:, -1] * reward.sum(axis=1), weight)


def independent(reward: Matrix, marginal: Matrix, target: Matrix, weight: Vector | None = None) -> Estimate:
    """Independent IPS: V = mean(sum_j e_j / m_j r_j). Unbiased if the reward at a position depends on its own arm only.

    Args (the others as of `standard`):
        marginal: m_j, shape (n, k), in (0, 1]: the marginal probability.
        target: e_j, shape (n, k), in [0, 1], likewise.

    Li et al. (2018), "Offline evaluation of ranking policies with click models", https://arxiv.org/abs/1804.10488
    """
    w = importance(marginal.ravel(), target.ravel()).reshape(marginal.shape)
    return mean((w * reward).sum(axis=1), weight)


def reward_interaction(reward: Matrix, conditional: Matrix, target: Matrix, weight: Vector | None = None) -> Estimate:
    """Reward-interaction IPS: V = mean(sum_j W_j r_j). Unbiased if a reward depends on the arms down to its own only.

    McInerney et al. (2020), https://arxiv.org/abs/2007.12986. Arguments as of `standard`.
    """
    return mean((prefix_weights(conditional, target) * reward).sum(axis=1), weight)


def cascade_dr(
    reward: Matrix,
    arm: Int,
    conditional: Matrix,
    target: Matrix,
    choices: Matrix,
    Q: Matrix,
    weight: Vector | None = None,
) -> Estimate:
    """Cascade doubly robust: V = mean(sum_j W_j (r_j - Q_j(a_j)) + W_{j-1} sum_a pi_j(a) Q_j(a)).

    Unbiased like reward-interaction IPS, whatever Q is (fitted without the list itself); the better Q, the less it
    varies. With Q = 0 it is reward-interaction IPS, with k = 1 it is DR.

    Args (the others as of `standard`):
        arm: the arms shown, shape (n, k).
        choices: pi_j(a) of every arm given the arms above, shape (n, k, K); each line sums to 1.
        Q: expected reward of positions j to k if arm a stands at j under the arms above, shape (n, k, K).

    Kiyohara et al. (2022), https://arxiv.org/abs/2202.01562
    """
    W = prefix_weights(conditional, target)
    before = np.column_stack([np.ones(len(W)), W[:, :-1]])
    shown = np.take_along_axis(Q, arm[:, :, None], axis=2)[:, :, 0]
    return mean((W * (reward - shown) + before * (choices * Q).sum(axis=2)).sum(axis=1), weight)
