"""The better an arm the likelier, by how far its estimate is behind the best: exploring that needs no uncertainty."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from bandit.arrays import Matrix
from bandit.core.policies.rule import Exploring, shared
from bandit.core.ridge.estimates import Estimates


class InverseGap(Exploring, tag="inverse-gap", frozen=True, forbid_unknown_fields=True):
    """Inverse gap weighting (SquareCB), mixed with an even choice among the eligible arms.

        gamma = gamma_scale sqrt(K n / d)
        p_a   = 1 / (K + gamma (f* - f_a) / span)    of arms that are not best; the best share the rest evenly

    f is the estimate, f* the largest; K counts the eligible arms, n the impressions so far, d the columns. The span is
    the width of rewards: that of their range, or less where the rewards that came are far smaller (`Derived`). Foster
    and Rakhlin (2020), Algorithm 1, https://arxiv.org/abs/2002.04926, where the square loss grows as d ln n.

    Attributes:
        gamma_scale: How soon estimates are trusted: twice as much, and arms behind the best get half as much; 0 to
            1,000,000; default 10.
    """

    gamma_scale: Annotated[float, Meta(ge=0, le=1e6)] = 10.0

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        derived, eligible, mean = estimates.derived, estimates.eligible, estimates.mean
        K = np.count_nonzero(eligible, axis=1)[:, None]
        gamma = self.gamma_scale * np.sqrt(K * derived.impressions / derived.theta.shape[1])
        best = estimates.best()
        behind = np.broadcast_to(eligible, mean.shape) & ~best
        with np.errstate(over="ignore"):
            gap = np.subtract(mean.max(axis=1, keepdims=True), mean, where=behind, out=np.zeros(mean.shape))
            p = behind / (K + gamma * (gap / derived.span))
        rest = (1 - p.sum(axis=1, keepdims=True)) / np.count_nonzero(best, axis=1)[:, None]
        return shared(np.where(best, rest, p), estimates, self.explore)
