"""Reward models that are fitted from sums over rows, so that the rows need not be in memory: see models.py for what
they predict.

    A = sum s x x'    b = sum s r x    g = sum s x    of each arm and fold; sum s r and sum s of each fold

    ridge   theta_a = mu e + (A + lambda I)^-1 (b - mu g),  mu = sum s r / (sum s + 1)
    mean    theta_a = (b + a) / (A + c), without a context
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bandit.linear import Matrix, Vector
from bandit.sums import Int
from simulator.logged import Log
from simulator.models import ARM_REWARD, ARM_ROWS, LAMBDA

Kind = Literal["ridge", "mean"]


class Additive:
    """The sums of F folds and K arms.

    Args:
        kind: which model.
        folds: F.
        arms: K.
        d: columns of context; the mean has one.
        scale: what row weights are divided by.
    """

    def __init__(self, kind: Kind, folds: int, arms: int, d: int, scale: float = 1.0) -> None:
        self.kind, self.K, self.scale = kind, arms, scale
        d = d if kind == "ridge" else 1
        self.A = np.zeros((folds, arms, d, d))
        self.b, self.g = np.zeros((2, folds, arms, d))
        self.earned, self.seen = np.zeros((2, folds))

    def add(self, log: Log, s: Vector, fold: Int) -> None:
        """Some rows with their weights and folds."""
        X, key = self._context(log), fold * self.K + log.arm
        order = np.argsort(key, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if len(key) else []:
            at = fold[rows[0]], log.arm[rows[0]]
            weighted = s[rows, None] * X[rows]
            self.A[at] += X[rows].T @ weighted
            self.b[at] += log.reward[rows] @ weighted
            self.g[at] += weighted.sum(axis=0)
        self.earned += np.bincount(fold, s * log.reward, len(self.earned))
        self.seen += np.bincount(fold, s, len(self.seen))

    def fit(self, without: int | None = None) -> Matrix:
        """theta of every arm, shape (K, d), from all folds or all but one."""
        A, b, g, earned, seen = (
            (each.sum(axis=0) - (0 if without is None else each[without])) / self.scale
            for each in (self.A, self.b, self.g, self.earned, self.seen)
        )
        if self.kind == "mean":
            return np.asarray((b + ARM_REWARD) / (A[:, 0] + ARM_ROWS))
        mu = earned / (seen + 1)
        theta = np.linalg.solve(A + LAMBDA * np.eye(A.shape[1]), (b - mu * g)[..., None])[..., 0]
        theta[:, 0] += mu
        return np.asarray(theta)

    def predict(self, theta: Matrix, log: Log) -> Matrix:
        """q of every row and arm, shape (n, K)."""
        return self._context(log) @ theta.T

    def _context(self, log: Log) -> Matrix:
        return np.ones((len(log), 1)) if self.kind == "mean" or log.context is None else log.context
