"""Reward models that are fitted from sums over rows, so that the rows need not be in memory: see models.py for what
they predict, and for the three ways of choosing the rows that they are fitted on.

    A = sum s x x'    b = sum s r x    g = sum s x    of each arm and split; sum s r and sum s of each split

    ridge   theta_a = mu e + (A + lambda I)^-1 (b - mu g),  mu = sum s r / (sum s + 1)
    mean    theta_a = (b + a) / (g + c), without a context

The rows of an arm with no more of them than features take less room than A, and less time: they are kept until then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.checks.overlap import Basis, ratios, row_weights
from simulator.ope.estimators import importance
from simulator.ope.models import ARM_REWARD, ARM_ROWS, LAMBDA, QFit, needed, prefixes, ridge, solved
from simulator.ope.problem import Modelled, Options, modelled

SPLITS = 5  # of cross-fitting

Kind = Literal["ridge", "mean"]
Cell = tuple[int, int]  # split and arm


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
    """The sums of F splits of the rows (those of cross-fitting) and K arms.

    Args:
        kind: which model.
        splits: F.
        arms: K.
        d: columns of context; the mean has one.
        scale: what row weights are divided by.
    """

    def __init__(self, kind: Kind, splits: int, arms: int, d: int, scale: float = 1.0) -> None:
        self.kind, self.K, self.scale = kind, arms, scale
        self.splits, self.d = splits, d if kind == "ridge" else 1
        self.A: dict[Cell, Matrix] = {}
        self.kept: defaultdict[Cell, list[Rows]] = defaultdict(list)
        self.b, self.g = np.zeros((2, splits, arms, self.d))
        self.earned, self.seen = np.zeros((2, splits))

    def add(self, log: Log, s: Vector, split: Int) -> None:
        """Some rows with their weights and splits."""
        X, key = self._context(log), split * self.K + log.arm
        order = np.argsort(key, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if len(key) else []:
            at, part = (int(split[rows[0]]), int(log.arm[rows[0]])), Rows(X[rows], log.reward[rows], s[rows])
            self.b[at] += (part.s * part.r) @ part.X
            self.g[at] += part.s @ part.X
            if self.kind == "ridge":
                self._square(at, part)
        self.earned += np.bincount(split, s * log.reward, len(self.earned))
        self.seen += np.bincount(split, s, len(self.seen))

    def _square(self, at: Cell, part: Rows) -> None:
        """Keep the rows, or add them to A where there are more than features."""
        if at in self.A:
            self.A[at] += part.square()
            return
        kept = self.kept[at]
        kept.append(part)
        if sum(len(each.r) for each in kept) > self.d:
            self.A[at] = Rows.joined(self.kept.pop(at)).square()

    def fit(self, without: int | None = None) -> Matrix:
        """theta of every arm, shape (K, d), from all splits or all but one."""
        splits = [k for k in range(self.splits) if k != without]
        b, g, earned, seen = (
            each[splits].sum(axis=0) / self.scale for each in (self.b, self.g, self.earned, self.seen)
        )
        if self.kind == "mean":
            return np.asarray((b + ARM_REWARD) / (g + ARM_ROWS))
        mu = earned / (seen + 1)
        theta = np.array([self._theta([(k, a) for k in splits], b[a] - mu * g[a], mu) for a in range(self.K)])
        theta[:, 0] += mu
        return theta

    def _theta(self, cells: list[Cell], right: Vector, mu: float) -> Vector:
        """What one arm adds to mu e, from its sums or, if they are few, its rows; `right`: b - mu g."""
        parts = [part for at in cells for part in self.kept.get(at, ())]
        full = [self.A[at] for at in cells if at in self.A]
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


class Reading(Protocol):
    """What a model has to know of the first reading of a log in pieces."""

    n: int  # rows read so far

    @property
    def basis(self) -> Basis:
        """Where mu is from."""

    def unit(self, log: Log, before: int) -> Int | None:
        """A number for each row's user, where users are known; `before`: how many rows came before these."""


class StreamModel(ABC):
    """The reward model, or the one for MRDR: told of the pieces in the first reading, asked in the second.

    Attributes:
        sums: what it is fitted from.
        mrdr: whether it is the one for MRDR.
    """

    splits = 1  # parts of the log whose sums are kept apart

    def __init__(self, first: Log, options: Options, *, mrdr: bool) -> None:
        self.options, self.mrdr = options, mrdr
        d = 1 if first.context is None else first.context.shape[1]
        self.sums = Additive(options.q, self.splits, first.K, d)
        self.total = 0.0  # of MRDR's weights
        self.predicted: list[Modelled] = []

    def first_reading(self, log: Log, pi: Matrix, read: Reading) -> None:
        """A piece of the first reading, after `read` has taken it."""
        u = self._weights(log, pi)
        self.total += float(u.sum())
        self._sum_up(log, row_weights(log) * u, read)

    def between(self, read: Reading) -> None:
        """After the first reading."""
        self.sums.scale = self.total / read.n if self.mrdr and self.total > 0 else 1.0

    def second_reading(self, log: Log, pi: Matrix, before: int, read: Reading) -> None:
        """A piece of the second reading: rows after `before` others."""
        self._keep(log, pi, self._predict(log, pi, before, read), read)

    @abstractmethod
    def _sum_up(self, log: Log, s: Vector, read: Reading) -> None:
        """Learn from a piece of the first reading, with its weights."""

    @abstractmethod
    def _predict(self, log: Log, pi: Matrix, before: int, read: Reading) -> Matrix:
        """q of every row and arm of a piece, shape (n, K)."""

    def _weights(self, log: Log, pi: Matrix) -> Vector:
        """What a row counts beside its own weight: see `mrdr_weights`, here without its scale."""
        if not self.mrdr:
            return np.ones(len(log))
        p = log.propensity
        weights: Vector = importance(p, pi[np.arange(len(log)), log.arm]) * (1 - p) / p
        return weights

    def _keep(self, log: Log, pi: Matrix, q: Matrix, read: Reading) -> None:
        known = read.basis != "rows"
        w = ratios(pi, np.broadcast_to(1 / log.K, pi.shape) if log.probability is None else log.probability)
        span = self.options.span
        self.predicted.append(modelled(np.clip(q, *span), log.arm, pi, w if known else None, span))

    def result(self) -> Modelled:
        """What the model says of every row."""
        q, v, least, most = zip(*self.predicted, strict=True)
        return Modelled(np.concatenate(q), np.concatenate(v), min(least), max(most))


class _InSample(StreamModel):
    """Fitted on all rows, once they have been read: for comparison with others only."""

    def _sum_up(self, log: Log, s: Vector, read: Reading) -> None:
        self.sums.add(log, s, np.zeros(len(log), np.int64))

    def between(self, read: Reading) -> None:
        """See `StreamModel`."""
        super().between(read)
        self.theta = self.sums.fit()

    def _predict(self, log: Log, pi: Matrix, before: int, read: Reading) -> Matrix:
        return self.sums.predict(self.theta, needed(log))


class _CrossFitted(StreamModel):
    """A row is predicted from the sums of the splits that it is not in; all rows of a user are in one split."""

    splits = SPLITS

    def _sum_up(self, log: Log, s: Vector, read: Reading) -> None:
        self.sums.add(log, s, self._split(log, read.n - len(log), read))

    def between(self, read: Reading) -> None:
        """See `StreamModel`."""
        super().between(read)
        self.thetas = [self.sums.fit(without=k) for k in range(self.splits)]

    def _predict(self, log: Log, pi: Matrix, before: int, read: Reading) -> Matrix:
        split, rows, q = self._split(log, before, read), needed(log), np.zeros(pi.shape)
        for k, theta in enumerate(self.thetas):
            q[split == k] = self.sums.predict(theta, rows.take(split == k))
        return q

    def _split(self, log: Log, before: int, read: Reading) -> Int:
        """The split of each row, from a hash of its user's or its own number."""
        unit = read.unit(log, before)
        keys = before + np.arange(len(log)) if unit is None else unit
        return _mixed(keys + self.options.seed) % self.splits


class _PastOnly(StreamModel):
    """A row is predicted from rows before it: summed up in the second reading, after it has been predicted."""

    def _sum_up(self, log: Log, s: Vector, read: Reading) -> None:
        """Nothing yet."""

    def between(self, read: Reading) -> None:
        """See `StreamModel`."""
        super().between(read)
        self.edges = prefixes(read.n)  # rows before which it is fitted anew
        self.theta = self.sums.fit()

    def _predict(self, log: Log, pi: Matrix, before: int, read: Reading) -> Matrix:
        parts, inside = [], [edge - before for edge in self.edges if before < edge < before + len(log)]
        for start, end in pairwise([0, *inside, len(log)]):
            if before + start in self.edges:
                self.theta = self.sums.fit()
            part = log.take(slice(start, end))
            parts.append(self.sums.predict(self.theta, part))
            weights = row_weights(part) * self._weights(part, pi[start:end])
            self.sums.add(part, weights, np.zeros(len(part), np.int64))
        return np.concatenate(parts)


FITTED: dict[QFit, type[StreamModel]] = {"cross": _CrossFitted, "past": _PastOnly, "in_sample": _InSample}


def _mixed(keys: Int) -> Int:
    """Numbers at least 0 in which every bit of the keys counts: the finaliser of SplitMix64 (Steele et al. 2014)."""
    z = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
