"""Reward models that are fitted from sums over rows, so that the rows need not be in memory: see models.py for what
they predict.

    A = sum s x x'    b = sum s r x    g = sum s x    of each arm and fold; sum s r and sum s of each fold

    ridge   theta_a = mu e + (A + lambda I)^-1 (b - mu g),  mu = sum s r / (sum s + 1)
    mean    theta_a = (b + a) / (g + c), without a context

The rows of an arm with no more of them than features take less room than A, and less time: they are kept until then.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.models import ARM_REWARD, ARM_ROWS, LAMBDA, ridge, solved

Kind = Literal["ridge", "mean"]
Place = tuple[int, int]  # fold and arm


class Rows(NamedTuple):
    """Some rows of one arm: contexts, shape (n, d), rewards and weights, shape (n,)."""

    X: Matrix
    r: Vector
    s: Vector

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """All of them, one after the other."""
        X, r, s = zip(*parts, strict=True)
        return cls(np.concatenate(X), np.concatenate(r), np.concatenate(s))

    def square(self) -> Matrix:
        """A of these rows, shape (d, d)."""
        return np.asarray(self.X.T @ (self.s[:, None] * self.X))


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
        self.folds, self.d = folds, d if kind == "ridge" else 1
        self.A: dict[Place, Matrix] = {}
        self.kept: defaultdict[Place, list[Rows]] = defaultdict(list)
        self.b, self.g = np.zeros((2, folds, arms, self.d))
        self.earned, self.seen = np.zeros((2, folds))

    def add(self, log: Log, s: Vector, fold: Int) -> None:
        """Some rows with their weights and folds."""
        X, key = self._context(log), fold * self.K + log.arm
        order = np.argsort(key, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if len(key) else []:
            at, part = (int(fold[rows[0]]), int(log.arm[rows[0]])), Rows(X[rows], log.reward[rows], s[rows])
            self.b[at] += (part.s * part.r) @ part.X
            self.g[at] += part.s @ part.X
            if self.kind == "ridge":
                self._square(at, part)
        self.earned += np.bincount(fold, s * log.reward, len(self.earned))
        self.seen += np.bincount(fold, s, len(self.seen))

    def _square(self, at: Place, part: Rows) -> None:
        """Keep the rows, or add them to A where there are more than features."""
        if at in self.A:
            self.A[at] += part.square()
            return
        kept = self.kept[at]
        kept.append(part)
        if sum(len(each.r) for each in kept) > self.d:
            self.A[at] = Rows.joined(self.kept.pop(at)).square()

    def fit(self, without: int | None = None) -> Matrix:
        """theta of every arm, shape (K, d), from all folds or all but one."""
        folds = [k for k in range(self.folds) if k != without]
        b, g, earned, seen = (each[folds].sum(axis=0) / self.scale for each in (self.b, self.g, self.earned, self.seen))
        if self.kind == "mean":
            return np.asarray((b + ARM_REWARD) / (g + ARM_ROWS))
        mu = earned / (seen + 1)
        theta = np.array([self._theta([(k, a) for k in folds], b[a] - mu * g[a], mu) for a in range(self.K)])
        theta[:, 0] += mu
        return theta

    def _theta(self, places: list[Place], right: Vector, mu: float) -> Vector:
        """What one arm adds to mu e, from its sums or, if they are few, its rows; `right`: b - mu g."""
        parts = [part for at in places for part in self.kept.get(at, ())]
        full = [self.A[at] for at in places if at in self.A]
        if not full and not parts:
            return np.zeros(self.d)
        if not full:
            X, r, s = Rows.joined(parts)
            return ridge(X, r - mu, s / self.scale, LAMBDA)
        A = sum(full[1:], full[0]) + sum(part.square() for part in parts)
        return solved(A / self.scale + LAMBDA * np.eye(self.d), right)

    def predict(self, theta: Matrix, log: Log) -> Matrix:
        """q of every row and arm, shape (n, K)."""
        return self._context(log) @ theta.T

    def _context(self, log: Log) -> Matrix:
        return np.ones((len(log), 1)) if self.kind == "mean" or log.context is None else log.context
