"""What two slices earn a decision, and the difference, with the covariance of both by user.

    i, j    user and decision, N users, T decisions                g  slice, 0 the one asked about, 1 the baseline
    p_g     share of slice g at that decision                      w_g = 1[decided by g] / p_g,  W_g = sum w_g
    r, f    reward, and what the past alone foresaw of it (`past`)

    a_g     sum w_g (r - f) / W_g                                  m_g = a_g + mean f
    u_ig    sum_j (w_g (r - f - a_g) / W_g + (f - mean f) / T)     C   = N / (N - 1) sum_i u_i u_i'

A user is in g with probability p_g whoever it is and whenever: so m_g is the mean over all T decisions of what slice g
would have earned in each, whatever moved meanwhile, shares included (no Simpson's paradox), and f, which knows nothing
of the slice or of the reward, takes noise away and adds no bias. `r - f` of one user may depend on each other as they
like. C is of the linearised ratios; to the variance V_g of a slice, of which few users decide, more is added:

    q_g = V_g^2 / sum_i u_ig^4,  how many users decide V_g         V'_g  what it would be if its users were the other's
    C_gg + F / (q_g + F) max(0, V'_g - V_g),   F = `FEW`

Of a small slice the few large purchases may not have come, and then both its mean and its variance are too small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector

FEW = 5.0  # users


class Means(NamedTuple):
    """What two slices earn a decision: m (2,), and C (2, 2)."""

    value: Vector
    covariance: Matrix

    @property
    def difference(self) -> float:
        """m_0 - m_1: the policy less the baseline."""
        return float(self.value[0] - self.value[1])

    @property
    def error(self) -> float:
        """The standard error of the difference."""
        c = self.covariance
        return float(np.sqrt(max(0.0, c[0, 0] - 2 * c[0, 1] + c[1, 1])))


def weights(part: Int, shares: Matrix, pair: tuple[int, int]) -> Matrix:
    """w of both slices, shape (n, 2): 0 where another one decided. In every row both must have a share."""
    columns = [np.where(part == g, 1.0, 0.0) / shares[:, g] for g in pair]
    return np.column_stack(columns)


def means(w: Matrix, reward: Vector, foreseen: Vector, user: Int) -> Means:
    """What both slices earn; `user` numbers the users from 0 on, and each number has a decision."""
    rest, around = reward - foreseen, foreseen - foreseen.mean()
    total = w.sum(axis=0)
    a = rest @ w / total
    own = np.column_stack([np.bincount(user, w[:, g] * (rest - a[g]) / total[g]) for g in (0, 1)]).astype(float)
    u = own + np.bincount(user, around / len(reward))[:, None]
    many = len(u) / max(1, len(u) - 1)
    return Means(a + foreseen.mean(), many * u.T @ u + np.diag(_unseen(w, own, user)))


def _unseen(w: Matrix, own: Matrix, user: Int) -> Vector:
    """What is added to both variances for the few users who decide them: see the head of this file."""
    V, fourth = (own**2).sum(axis=0), (own**4).sum(axis=0)
    q = np.divide(V**2, fourth, out=np.zeros(2), where=fourth > 0)
    users = np.array([np.count_nonzero(np.bincount(user, w[:, g])) for g in (0, 1)])
    rows = (w > 0).sum(axis=0)
    each = V * rows**2 / np.maximum(users, 1)
    other = each[::-1] * users / np.maximum(rows, 1) ** 2
    extra: Vector = FEW / (q + FEW) * np.maximum(0.0, other - V)
    return extra


def relative(found: Means, b: float) -> tuple[float, float | None, float | None] | None:
    """m_0 / m_1 - 1 with the ends of its sequence, by Fieller: every r that m_0 - (1 + r) m_1 = 0 is not refuted for.

        {q : (m_0 - q m_1)^2 <= b^2 (C_00 - 2 q C_01 + q^2 C_11)},   r = q - 1

    None where the baseline is not clearly above 0: the ratio then has no meaning, and the set no ends.
    """
    (x, y), c = found.value.tolist(), found.covariance
    squares, cross, first = y * y - b * b * c[1, 1], x * y - b * b * c[0, 1], x * x - b * b * c[0, 0]
    if y <= 0 or squares <= 0:
        return None
    root = float(np.sqrt(max(0.0, cross * cross - squares * first)))
    return x / y - 1, float((cross - root) / squares - 1), float((cross + root) / squares - 1)
