"""Sample-ratio alarm of slices: does each have as many users as its share says? If not, no difference can be trusted.

    n_k   users whose first decision was by slice k, while shares were p     n  all of them     c  `PRIOR` users

    E = prod over the sets of shares that were in force of
        Gamma(c) / Gamma(c + n) prod_k Gamma(c p_k + n_k) / Gamma(c p_k) p_k^-n_k             alarm where E >= 1 / SURE

E is how much better a Dirichlet around the shares foresaw the users than the shares themselves. While the hash gives
what the shares say it is a martingale that starts at 1, so that it ever comes to 1 / `SURE` has probability `SURE` at
most, however often it is looked at.

Lindon and Malek (2022), "Anytime-valid inference for multinomial count data", NeurIPS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bandit.arrays import Int, Matrix
from simulator.ope.checks.sample_ratio import SURE

PRIOR = 200.0  # users that the Dirichlet is worth: a tenth more or less in a share of .1 is what it looks for


class Imbalance(NamedTuple):
    """A slice that did not get the users that its share says.

    Attributes:
        slice: its index.
        users: how many it has.
        expected: how many its shares say.
    """

    slice: int
    users: int
    expected: float


def imbalance(part: Int, shares: Matrix, user: Int) -> Imbalance | None:
    """The slice furthest off, where chance does not explain it: users are counted at their first decision."""
    first = np.unique(user, return_index=True)[1]
    part, shares = part[first], shares[first]
    kinds, group = np.unique(shares, axis=0, return_inverse=True)
    counts = np.zeros(kinds.shape)
    np.add.at(counts, (group.reshape(-1), part), 1.0)
    evidence = [_evidence(counts[k].tolist(), kinds[k].tolist()) for k in range(len(kinds))]
    if sum(evidence) < -math.log(SURE):
        return None
    expected = counts.sum(axis=1) @ kinds
    seen = counts.sum(axis=0)
    worst = int(np.argmax(np.abs(seen - expected) / np.sqrt(np.maximum(expected, 1e-9))))
    return Imbalance(worst, int(seen[worst]), float(expected[worst]))


def _evidence(counts: Sequence[float], shares: Sequence[float]) -> float:
    """ln E of the users under one set of shares."""
    n = sum(counts)
    found = math.lgamma(PRIOR) - math.lgamma(PRIOR + n)
    for count, p in zip(counts, shares, strict=True):
        if p <= 0 and count:
            return math.inf
        if p > 0:
            found += math.lgamma(PRIOR * p + count) - math.lgamma(PRIOR * p) - count * math.log(p)
    return found
