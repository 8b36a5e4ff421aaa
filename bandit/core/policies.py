"""Policies turn estimates into probabilities; they draw nothing, keep nothing, and know nothing of logs or stores.

A policy is a frozen msgspec struct: its tag is the `type` in an experiment's document, its fields are the parameters,
with their limits. To add one: write the struct with the methods of `Rule`, and name it in `Policy`.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.estimates import Estimates

Size = TypeVar("Size", float, Vector)


class Rule(Protocol):
    """What the engine asks of a policy."""

    @property
    def explore(self) -> float:
        """The probability that the coin falls on exploring evenly; 0 makes a log that can evaluate nothing."""

    def probabilities(self, estimates: Estimates) -> Matrix:
        """(N, K): each arm's probability of being shown first; rows sum to 1, ineligible arms have exactly 0."""

    def score(self, mean: Size, spread: Size) -> Size:
        """What an arm is ranked by, from x'theta and sigma_a width; for people to read."""

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """(N, K): the scores by which a list of k[i] is ordered when it does not explore; -inf of arms below it."""


class LinUCB(msgspec.Struct, tag="linucb", frozen=True, forbid_unknown_fields=True):
    """The largest mean + alpha spread, ties shared evenly, mixed with an even choice among the eligible arms.

        p_a = (1 - explore) 1[a in best] / |best| + explore / |eligible|

    Li et al. (2010), Algorithm 1, https://arxiv.org/abs/1003.0146, with a floor on every propensity.

    Attributes:
        alpha: How many standard deviations of uncertainty are added to an arm's estimate, 0 to 1,000,000; default 1.
        explore: The share of decisions that is spread evenly over all eligible arms, 0 to 1; default 0.02.
    """

    alpha: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    explore: Annotated[float, Meta(ge=0, le=1)] = 0.02

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        best, eligible = estimates.best(self.alpha), estimates.eligible
        greedy = (1 - self.explore) / _count(best)
        if estimates.everyone:
            even = self.explore / best.shape[1]
            whole: Matrix = np.empty(best.shape)
            whole.fill(even)
            np.copyto(whole, greedy + even, where=best)
            return whole
        result: Matrix = best * greedy + eligible * (self.explore / _count(eligible))
        return result

    def score(self, mean: Size, spread: Size) -> Size:
        """See `Rule`."""
        return mean + self.alpha * spread

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return estimates.leading(self.alpha, k)


def _count(arms: Mask) -> Any:
    """How many arms of each row, shape (N, 1); of a single row a number."""
    return np.count_nonzero(arms) if len(arms) == 1 else np.count_nonzero(arms, axis=1)[:, None]


# A union once there are several: `LinUCB | Other`. `Rule` fits only what shows the best by mean + alpha spread and else
# chooses evenly; any other shape also changes `estimates`, `draw_list` of `draw`, and `engine`.
Policy = LinUCB
