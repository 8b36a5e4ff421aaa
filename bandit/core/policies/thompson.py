"""Each arm as often as it is the best of estimates drawn at random, and what is drawn from is known exactly."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from bandit.arrays import Matrix
from bandit.core.policies.largest import largest
from bandit.core.policies.rule import Exploring, shared
from bandit.core.ridge.estimates import Estimates


class Thompson(Exploring, tag="thompson", frozen=True, forbid_unknown_fields=True):
    """Thompson sampling: the probability that an arm's draw is the largest, mixed with an even choice.

        p_a = (1 - explore) P(N(mean_a, (scale spread_a)^2) is the largest of all) + explore / |eligible|

    Nothing is sampled: the probability is an integral (`largest`). Arms whose spread is 0 and whose means tie share
    evenly. Thompson (1933); Agrawal and Goyal (2013), https://arxiv.org/abs/1209.3352, with sigma_a for their v.

    Attributes:
        scale: How many times their standard deviations estimates are spread, 0 to 1,000,000; default 0.5
            (docs/decisions/0037).
    """

    scale: Annotated[float, Meta(ge=0, le=1e6)] = 0.5

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        mean, sd = estimates.mean, self.scale * estimates.spread
        sure = np.where(sd == 0, mean, -np.inf)
        top = sure.max(axis=1, keepdims=True)
        tied = (sure > -np.inf) & (sure >= estimates.threshold(top))
        return shared(_largest(np.where(tied, top, mean), sd, estimates), estimates, self.explore)


def _largest(mean: Matrix, sd: Matrix, estimates: Estimates) -> Matrix:
    """`largest` of all arms; those that have seen nothing are equal, and go as one that stands for so many."""
    cold = estimates.derived.alike
    if np.count_nonzero(cold) < 2:
        return largest(mean, sd)
    seen, fresh = np.flatnonzero(~cold), np.flatnonzero(cold)
    among = mean[:, fresh] > -np.inf
    count = among.sum(axis=1, keepdims=True)
    one = mean[:, fresh].max(axis=1, keepdims=True)
    found = largest(
        np.concatenate([mean[:, seen], one], axis=1),
        np.concatenate([sd[:, seen], sd[:, fresh[:1]]], axis=1),
        np.concatenate([np.ones((len(mean), len(seen))), count], axis=1),
    )
    result = np.zeros(mean.shape)
    result[:, seen] = found[:, :-1]
    result[:, fresh] = among * (found[:, -1:] / np.maximum(count, 1))
    return result
