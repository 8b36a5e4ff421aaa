"""What all rewards speak for, found a few arms at a time while decisions and learning go on: lambda, and where arms are
pooled what they have in common.

The evidence is that of `linear`, of the arms that were shown, or of so many of them spread evenly over the catalogue.
It is looked at after 30 impressions, 1.3 times as many, and so on, so a day's traffic costs a handful of looks. What it
finds is a way of reading the sums, not a part of them: two servers may read them differently until both looked again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix, Vector
from bandit.core.ridge.linear import Common, evidence, penalty, prior_noise, unlimbed
from bandit.core.ridge.scoring import Scorer, inverses
from bandit.core.sums import ONE, Sums

FIRST = 30  # impressions before the first look
GROWN = 1.3  # times as many before each other one
SAMPLE = 256  # arms that a look is at
CLEAR = 1e-6  # more evidence than by rounding, where contexts say nothing of one lambda or another


class Reading(NamedTuple):
    """How the sums should be read."""

    lam: float
    common: Common | None


class Evidence:
    """Looks at the evidence in a model's sums, where there is something to find."""

    def __init__(self) -> None:
        self._level = -1  # how many looks were due
        self._arms: Int = np.zeros(0, np.int64)
        self._at = 0

    @property
    def looking(self) -> bool:
        """Whether arms are left to look at."""
        return self._at < len(self._arms)

    def grow(self, scorer: Scorer, sums: Sums, impressions: int) -> None:
        """Begin to look, where that is due."""
        ridge = scorer.ridge
        moves = ridge.lam is None and scorer.d > 1  # lambda is of other columns than the intercept
        if not (moves or ridge.pooled) or self.looking or impressions < FIRST:
            return
        if (level := int(math.log(impressions / FIRST, GROWN))) > self._level:
            shown, self._level = np.flatnonzero(sums.n), level
            self._begin(shown[np.linspace(0, len(shown) - 1, min(len(shown), SAMPLE)).astype(np.int64)], scorer)
            self._mu = sums.B[:, :, 0].sum(axis=0, dtype=np.float64) * (ridge.units / ONE) / (impressions + 1.0)

    def _begin(self, arms: Int, scorer: Scorer) -> None:
        self._arms, self._at = arms, 0
        self._earned = np.zeros((3, len(arms)))  # q, b[e] and n of each
        pooled, size = scorer.ridge.pooled, len(scorer.ridge.grid)
        self._pools = [_Pool(scorer.d, len(scorer.ridge.units), scorer.v) if pooled else None for _ in range(size)]
        self._volume, self._Q = np.zeros(size), np.zeros(size)

    def step(self, scorer: Scorer, sums: Sums, size: int) -> Reading | None:
        """Look at so many arms more, if any are left; how to read the sums, where these were the last."""
        if not self.looking:
            return None
        ridge = scorer.ridge
        part = slice(self._at, self._at + max(1, size // len(ridge.grid)))
        arms, w, units, mu = self._arms[part], ridge.weights, ridge.units, float(self._mu @ ridge.weights)
        A, n = sums.A[arms] / float(ONE**2), sums.n[arms].astype(np.float64)
        B = sums.B[arms] * (units / ONE)[:, None]
        b, q = B[:, :, 0] @ w, np.einsum("kij,i,j->k", unlimbed(sums.R[arms]), *[w * units] * 2)
        c = B - self._mu[:, None] * A[:, :1]
        for at, lam in enumerate(ridge.grid):
            Lambda = scorer.penalty(lam)
            W = inverses(A, Lambda)
            y = W @ c.swapaxes(1, 2)  # (k, d, m)
            self._Q[at] += np.maximum(0.0, q - 2 * mu * b + mu**2 * n - ((y @ w) ** 2).sum(axis=1)).sum()
            self._volume[at] += len(arms) * np.log(Lambda).sum() + 2 * np.log(np.einsum("kdd->kd", W)).sum()
            if pool := self._pools[at]:
                pool.add(W * Lambda, y, Lambda)
        self._earned[:, part] = q, b, n
        self._at += len(arms)
        return None if self.looking else self._found(scorer)

    def _found(self, scorer: Scorer) -> Reading:
        """The reading with the largest evidence; the lambda in use, where no other has clearly more."""
        ridge, (q, b, n) = scorer.ridge, self._earned
        s1, best, found = prior_noise(q, b, n, ridge.s0), -math.inf, Reading(scorer.chosen, None)
        for lam, pool, volume, Q in zip(ridge.grid, self._pools, self._volume.tolist(), self._Q.tolist(), strict=True):
            common = pool.common() if pool else None
            if pool and common:
                volume += pool.volume + 2 * np.log(common.root.diagonal()).sum()
                Q = max(0.0, Q - float(((common.root @ (ridge.weights @ pool.r)) ** 2).sum()))
            told = float(evidence(volume, Q, float(n.sum()), s1)) + (CLEAR if lam == scorer.chosen else 0.0)
            if told > best:
                best, found = told, Reading(lam, common)
        self._pools = []
        return found


class _Pool:
    """A0 and r of `linear` under one lambda, of the arms so far."""

    def __init__(self, d: int, m: int, v: float) -> None:
        prior = penalty(d, 1.0, v)
        self.A0, self.r, self.volume = np.diag(prior), np.zeros((m, d)), float(np.log(prior).sum())

    def add(self, U: Matrix, y: Matrix, Lambda: Vector) -> None:
        """Add arms with U = W Lambda, (k, d, d), and y = W (B - mu s)', (k, d, m)."""
        flat = U.reshape(-1, U.shape[2])
        self.A0 += np.diag(len(U) * Lambda) - flat.T @ flat
        self.r += y.reshape(-1, y.shape[2]).T @ flat

    def common(self) -> Common:
        """What they have in common."""
        root = inverses(self.A0[None], np.zeros(len(self.A0)))[0]
        return Common(self.r @ (root.T @ root), root)
