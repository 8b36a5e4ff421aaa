"""The best arm by its estimate, and what is not known of it, or else an even choice."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from bandit.arrays import Int, Matrix
from bandit.core.policies.rule import Exploring, Rule, SlotOf, mixed
from bandit.core.ridge.estimates import Derived, Estimates, scored


class LinUCB(Exploring, tag="linucb", frozen=True, forbid_unknown_fields=True):
    """The largest upper bound, ties shared evenly, mixed with an even choice among the eligible arms.

        p_a = (1 - explore) 1[a in best] / |best| + explore / |eligible|

    Li et al. (2010), Algorithm 1, https://arxiv.org/abs/1003.0146, with a floor on every propensity.

    Attributes:
        alpha: How many standard deviations of uncertainty are added to an arm's estimate, 0 to 1,000,000; "auto", the
            default, takes a bound that knows the range of rewards and needs fewer of them as it learns.
    """

    alpha: Literal["auto"] | Annotated[float, Meta(ge=0, le=1e6)] = "auto"

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        return mixed(estimates.best(estimates.derived.taken(self.alpha)), estimates, self.explore)

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """See `Rule`."""
        return scored(derived, derived.taken(self.alpha), arms, mean, width**2)

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return estimates.leading(estimates.derived.taken(self.alpha), k)


class EpsilonGreedy(Exploring, tag="epsilon-greedy", frozen=True, forbid_unknown_fields=True):
    """The largest mean, ties shared evenly, mixed with an even choice among the eligible arms."""

    def rule(self, slot_of: SlotOf) -> Rule:
        """LinUCB's, with nothing added for uncertainty."""
        rule: Rule = LinUCB(0.0, explore=self.explore, challengers=self.challengers).rule(slot_of)
        return rule
