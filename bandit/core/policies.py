"""Policies turn estimates into probabilities; they draw nothing, keep nothing, and know nothing of logs or stores.

A policy is a frozen msgspec struct: its tag is the `type` in an experiment's document, its fields are the parameters,
with their limits, and its `rule` is what the engine asks. To add one: write the struct with `explore` and `rule`, most
often itself with the methods of `Rule`, and name it in `Policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
from msgspec import Meta

from bandit.arrays import Int, Mask, Matrix
from bandit.core.features import Name
from bandit.core.ridge.estimates import Derived, Estimates, scored

SlotOf = Callable[[str], int]


class Rule(Protocol):
    """What the engine asks of a policy: it shows the best, or else, by a coin, chooses evenly."""

    @property
    def explore(self) -> float:
        """The probability that the coin falls on exploring evenly; 0 makes a log that can evaluate nothing."""

    def probabilities(self, estimates: Estimates) -> Matrix:
        """(N, K): each arm's probability of being shown first; rows sum to 1, ineligible arms have exactly 0."""

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """What these arms are ranked by, from x'theta and width; for people to read."""

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """(N, K): the scores by which a list of k[i] is ordered when it does not explore; -inf of arms below it."""


class LinUCB(msgspec.Struct, tag="linucb", frozen=True, forbid_unknown_fields=True):
    """The largest upper bound, ties shared evenly, mixed with an even choice among the eligible arms.

        p_a = (1 - explore) 1[a in best] / |best| + explore / |eligible|

    Li et al. (2010), Algorithm 1, https://arxiv.org/abs/1003.0146, with a floor on every propensity.

    Attributes:
        alpha: How many standard deviations of uncertainty are added to an arm's estimate, 0 to 1,000,000; "auto", the
            default, takes a bound that knows the range of rewards and needs fewer of them as it learns.
        explore: The share of decisions that is spread evenly over all eligible arms, 0 to 1; default 0.02.
    """

    alpha: Literal["auto"] | Annotated[float, Meta(ge=0, le=1e6)] = "auto"
    explore: Annotated[float, Meta(ge=0, le=1)] = 0.02

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        return mixed(estimates.best(estimates.derived.taken(self.alpha)), estimates, self.explore)

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """See `Rule`."""
        return scored(derived, derived.taken(self.alpha), arms, mean, width**2)

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return estimates.leading(estimates.derived.taken(self.alpha), k)

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


class Uniform(msgspec.Struct, tag="uniform", frozen=True, forbid_unknown_fields=True):
    """An even choice among the eligible arms, whatever has been learned."""

    @property
    def explore(self) -> float:
        """Every decision."""
        return 1.0

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        return mixed(_everywhere(estimates), estimates, 0.0)

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """See `Rule`."""
        return mean

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return np.where(_everywhere(estimates), 0.0, -np.inf)

    def rule(self, slot_of: SlotOf) -> Rule:
        """Itself."""
        return self


class Fixed(msgspec.Struct, tag="fixed", frozen=True, forbid_unknown_fields=True):
    """One arm wherever it is eligible, mixed with an even choice; where it is not, an even choice.

    Attributes:
        arm: The arm to show.
        explore: The share of decisions that is spread evenly over all eligible arms, 0 to 1; default 0.
    """

    arm: Name
    explore: Annotated[float, Meta(ge=0, le=1)] = 0.0

    def rule(self, slot_of: SlotOf) -> Rule:
        """The rule for estimates where each arm has this slot; -1 is none."""
        return Shown(np.array([slot_of(self.arm)]), self.explore)


class Shown(msgspec.Struct, frozen=True):
    """`Fixed` where arms have slots: `arm` of all contexts, or of each, shape (1,) or (N,); -1 is no arm."""

    arm: Int
    explore: float

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        own = self._own(estimates)
        best = np.where(own.any(axis=1, keepdims=True), own, _everywhere(estimates))
        return mixed(best, estimates, self.explore)

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """See `Rule`."""
        return mean

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return np.where(_everywhere(estimates), self._own(estimates) * 1.0, -np.inf)

    def _own(self, estimates: Estimates) -> Mask:
        own: Mask = _everywhere(estimates) & (np.arange(estimates.mean.shape[1]) == self.arm[:, None])
        return own


def mixed(best: Mask, estimates: Estimates, explore: float) -> Matrix:
    """(N, K): the best, shared evenly, with probability 1 - explore, and else an even choice of the eligible."""
    eligible, greedy = estimates.eligible, (1 - explore) / _count(best)
    if estimates.everyone:
        even = explore / best.shape[1]
        whole: Matrix = np.empty(best.shape)
        whole.fill(even)
        np.copyto(whole, greedy + even, where=best)
        return whole
    result: Matrix = best * greedy + eligible * (explore / _count(eligible))
    return result


def _everywhere(estimates: Estimates) -> Mask:
    """(N, K): the eligible arms of each context."""
    return np.broadcast_to(estimates.eligible, estimates.mean.shape)


def _count(arms: Mask) -> Any:
    """How many arms of each row, shape (N, 1); of a single row a number."""
    return np.count_nonzero(arms) if len(arms) == 1 else np.count_nonzero(arms, axis=1)[:, None]


# `Rule` fits only what shows the best and else chooses evenly; any other shape also changes `draw_list` of `draw`.
Policy = LinUCB | EpsilonGreedy | Uniform | Fixed
