"""Balance check: a context cannot know which arm will be shown, beyond what the logged probabilities say.

    e_i(a)  1[a_i = a] - mu_i(a), or 1[a_i = a] / p_i - 1 where only p is known       x_ij  column j of the context

    D_aj = sum_i s_i e_i(a) (x_ij - mean x_j)     V_aj  its variance     b  the largest |s e (x - mean)| that can be
    broken where |D| > b L / 3 + sqrt(b^2 L^2 / 9 + 2 V L),   L = ln(2 K d / .001)

A column that was written after the decision (the price of what was shown, the time spent on it) is predicted by the
arm: a reward model that sees it explains the arm's effect away, and doubly robust values are false with narrow
intervals. As in the sample-ratio check the inequality is Freedman's: a sound log is called broken with probability
.001 at most; where users repeat, V is as many times as large as by users' sums of e it is. Where only the shown arm's p
is known, and not always the same for an arm as in an A/B test, V is from the rows and an arm may not always have been
eligible: then it is a warning.
"""

from __future__ import annotations

import math

import numpy as np

from bandit.arrays import Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.checks.overlap import freedman, row_weights

SURE = 1e-3  # probability of calling a sound log broken, all arms and columns together
ROUNDED = 1e-3  # how far the arms' propensities may be from adding up to 1
CELLS = 2**22  # arms x columns beyond which nothing is checked: 100 MiB


class Balance:
    """The check of a log that may come in pieces."""

    def __init__(self) -> None:
        self._sums: Matrix | None = None  # of each arm and column, see `add`
        self._x: Matrix = np.zeros((2, 0))  # sum x, largest |x|
        self.rows, self.most = 0, 0.0
        self.known = True  # the probability of every arm in every row
        self.columns: tuple[str, ...] = ()
        self.arms: tuple[str, ...] = ()

    def add(self, log: Log, mu: Matrix | None) -> None:
        """Count some rows; `mu` is (n, K), or None where only the shown arm's propensity is known."""
        X = log.context
        if X is None or log.K * X.shape[1] > CELLS:
            return
        mu = _constant(log) if mu is None else mu
        self.known = self.known and mu is not None
        s, shown = row_weights(log), np.zeros((len(log), log.K))
        at = np.arange(len(log)), log.arm
        shown[at] = 1.0 if mu is not None else 1 / log.propensity
        e, V = (shown - mu, mu * (1 - mu)) if mu is not None else (shown - 1, shown * np.maximum(shown - 1, 0))
        e, V = s[:, None] * e, s[:, None] ** 2 * V
        if log.weight is not None:
            V = np.maximum(V, e**2)  # rows were kept by what came of them
        more = np.array([e.T @ X, V.T @ X**2, V.T @ X])
        flat = np.array([e.sum(axis=0), V.sum(axis=0)])
        if self._sums is None:
            self._sums, self._flat = np.zeros_like(more), np.zeros_like(flat)
            self._x = np.zeros((2, X.shape[1]))
        self._sums, self._flat = self._sums + more, self._flat + flat
        self._x = np.array([self._x[0] + X.sum(axis=0), np.maximum(self._x[1], np.abs(X).max(axis=0, initial=0.0))])
        self.rows, self.most = self.rows + len(log), max(self.most, float(np.abs(e).max(initial=0.0)))
        self.columns, self.arms = log.columns or tuple(map(str, range(X.shape[1]))), log.arms

    def worst(self, times: float = 1.0, bulk: float = 1.0) -> str | None:
        """The column that is furthest from what chance explains, in words; None for a sound log.

        Args:
            times: how many times as large V is because users repeat.
            bulk: how many rows of one user's e may add up.
        """
        if self._sums is None or not self.rows:
            return None
        mean, largest = self._x[0] / self.rows, self._x[1]
        (total, V), (D, V2, V1) = self._flat, self._sums
        D = D - total[:, None] * mean
        V = times * np.maximum(V2 - 2 * mean * V1 + mean**2 * V[:, None], 0.0)
        b = bulk * self.most * (largest + np.abs(mean))
        z, limit = _judged(D, V, b)
        a, j = np.unravel_index(int(np.argmax(np.abs(z) / limit)), z.shape)
        if not abs(z[a, j]) > limit[a, j]:
            return None
        who = f"context column {self.columns[j]!r} differs by the arm shown"
        told = f"most for {self.arms[a]!r} (z {z[a, j]:.1f}, limit {limit[a, j]:.1f})"
        why = "either it is known only after the decision (leave it out), or arms were not drawn as logged"
        return f"{who}, {told}: {why}"


def _judged(D: Matrix, V: Matrix, b: Vector) -> tuple[Matrix, Matrix]:
    """z and its limit."""
    L = math.log(2 * D.size / SURE)
    sd = np.sqrt(np.maximum(V, 1e-12 * np.maximum(b, 1e-100) ** 2))
    return D / sd, freedman(b, sd**2, L) / sd


def _constant(log: Log) -> Matrix | None:
    """mu of an A/B test, which logs the propensity of the arm shown, always the same for an arm."""
    p = np.zeros(log.K)
    p[log.arm] = log.propensity
    if np.array_equal(p[log.arm], log.propensity) and abs(p.sum() - 1) <= ROUNDED:
        return np.broadcast_to(p, (len(log), log.K))
    return None
