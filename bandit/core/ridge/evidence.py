"""Which lambda the rewards speak for, found a few arms at a time while decisions and learning go on.

The evidence is that of `linear`, of the arms that were shown, or of so many of them spread evenly over the catalogue.
It is looked at after 30 impressions, 1.3 times as many, and so on, so a day's traffic costs a handful of looks. What it
finds is a way of reading the sums, not a part of them: two servers may read them differently until both looked again.
"""

from __future__ import annotations

import math

import numpy as np

from bandit.arrays import Int
from bandit.core.ridge.linear import GRID, evidence, prior_noise, unlimbed
from bandit.core.ridge.scoring import Scorer, cholesky
from bandit.core.sums import ONE, Sums

FIRST = 30  # impressions before the first look
GROWN = 1.3  # times as many before each other one
SAMPLE = 256  # arms that a look is at


class Evidence:
    """Looks at the evidence in a model's sums, where lambda is not given."""

    def __init__(self) -> None:
        self._level, self._mu = -1, 0.0  # how many looks were due, and the mean reward at the last one
        self._begin(np.zeros(0, np.int64))

    def _begin(self, arms: Int) -> None:
        self._arms, self._at = arms, 0
        self._earned = np.zeros((3, len(arms)))  # q, b[e] and n of each
        self._volume, self._Q = np.zeros(len(GRID)), np.zeros(len(GRID))

    @property
    def looking(self) -> bool:
        """Whether arms are left to look at."""
        return self._at < len(self._arms)

    def grow(self, scorer: Scorer, sums: Sums, impressions: int) -> None:
        """Begin to look, where that is due."""
        if scorer.ridge.lam is not None or self.looking or impressions < FIRST:
            return
        if (level := int(math.log(impressions / FIRST, GROWN))) > self._level:
            shown, self._level = np.flatnonzero(sums.n), level
            self._begin(shown[np.linspace(0, len(shown) - 1, min(len(shown), SAMPLE)).astype(np.int64)])
            earned = sums.B[:, :, 0].sum(axis=0, dtype=np.float64) * (scorer.ridge.units / ONE)
            self._mu = float(earned @ scorer.ridge.weights) / (impressions + 1.0)

    def step(self, scorer: Scorer, sums: Sums, size: int) -> float:
        """Look at so many arms more, if any are left; the lambda that the scorer should have then."""
        if not self.looking:
            return scorer.chosen
        part = slice(self._at, self._at + max(1, size // len(GRID)))
        arms, ridge, mu = self._arms[part], scorer.ridge, self._mu
        A, n = sums.A[arms] / float(ONE**2), sums.n[arms].astype(np.float64)
        b = np.einsum("kmd,m->kd", sums.B[arms] * (ridge.units / ONE)[:, None], ridge.weights)
        q = np.einsum("kij,i,j->k", unlimbed(sums.R[arms]), *[ridge.weights * ridge.units] * 2)
        c = b - mu * A[:, 0]
        for at, lam in enumerate(GRID):
            Lambda = scorer.penalty(lam)
            L = cholesky(A, Lambda)
            y = np.linalg.solve(L, c[:, :, None])
            self._Q[at] += np.maximum(0.0, q - 2 * mu * b[:, 0] + mu**2 * n - np.einsum("kdi,kdi->k", y, y)).sum()
            self._volume[at] += len(arms) * np.log(Lambda).sum() - 2 * np.log(np.einsum("kdd->kd", L)).sum()
        self._earned[:, part] = q, b[:, 0], n
        self._at += len(arms)
        if self._at < len(self._arms):
            return scorer.chosen
        q, b, n = self._earned
        found = evidence(self._volume, self._Q, float(n.sum()), prior_noise(q, b, n, ridge.s0))
        return GRID[int(np.argmax(found))]
