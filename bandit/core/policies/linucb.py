"""The best arm by its estimate, and what is not known of it, or else an even choice."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from bandit.arrays import Int, Matrix
from bandit.core.estimates import Estimates
from bandit.core.policies.rule import Rule, Size, SlotOf, mixed


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
        return mixed(estimates.best(self.alpha), estimates, self.explore)

    def score(self, mean: Size, spread: Size) -> Size:
        """See `Rule`."""
        return mean + self.alpha * spread

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return estimates.leading(self.alpha, k)

    def rule(self, slot_of: SlotOf) -> Rule:
        """Itself."""
        return self


class EpsilonGreedy(msgspec.Struct, tag="epsilon-greedy", frozen=True, forbid_unknown_fields=True):
    """The largest mean, ties shared evenly, mixed with an even choice among the eligible arms.

    Attributes:
        explore: The share of decisions that is spread evenly over all eligible arms, 0 to 1; default 0.02.
    """

    explore: Annotated[float, Meta(ge=0, le=1)] = 0.02

    def rule(self, slot_of: SlotOf) -> Rule:
        """LinUCB's, with nothing added for uncertainty."""
        return LinUCB(0.0, self.explore)
