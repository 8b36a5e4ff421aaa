"""What a policy is: a frozen msgspec struct, which turns estimates into probabilities.

Its tag is the `type` in an experiment's document, its fields are the parameters, with their limits, and its `rule` is
what the engine asks: most often itself with the methods of `Rule`, of which `Plain` has all but `probabilities`.
`Exploring` has what is said of exploring, and a policy that extends it knows nothing of challengers: they are added to
its probabilities. It draws nothing, keeps nothing, and knows nothing of logs or stores. To add one: a module beside
this one with the struct, and its name in `Policy` of the room. Documents, their faults, the schema, slices, previews
and the simulator's names follow from that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from bandit.arrays import Int, Mask, Matrix
from bandit.core.features import Name
from bandit.core.ridge.estimates import Derived, Estimates

SlotOf = Callable[[str], int]
Share = Annotated[float, Meta(ge=0, le=1)]
Explore = Literal["auto"] | Share
MOST, LEAST, EARLY = 0.02, 0.005, 1000  # of "auto": the share at first and in the end, impressions until it falls
RARE = 25  # p (1 - p) below one in so many: rewards so rare say less


class Rule(Protocol):
    """What the engine asks of a policy."""

    @property
    def explore(self) -> Explore:
        """The share that is spread over the eligible arms (`explored`); 0 makes a log that may evaluate nothing."""

    def probabilities(self, estimates: Estimates) -> Matrix:
        """(N, K): each arm's probability of being shown first; rows sum to 1, ineligible arms have exactly 0."""

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """What these arms are ranked by, from x'theta and width; for people to read."""

    def leading(self, estimates: Estimates, k: Int) -> Matrix | None:
        """(N, K): the scores by which a list of k[i] is ordered when it does not explore; -inf of arms below it.

        None: each place of a list is drawn for itself, from the probabilities among the arms left.
        """

    def explored_first(self, estimates: Estimates) -> Matrix | None:
        """(N, K): where what is explored is spread at the first place; rows sum to 1. None: evenly."""


class Plain(msgspec.Struct, frozen=True):
    """What a policy is that ranks by its estimates for people, and has no order of lists: its own rule."""

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """See `Rule`."""
        return mean

    def leading(self, estimates: Estimates, k: Int) -> Matrix | None:
        """See `Rule`."""
        return None

    def explored_first(self, estimates: Estimates) -> Matrix | None:
        """See `Rule`."""
        return None

    def rule(self, slot_of: SlotOf) -> Any:
        """Itself."""
        return self


class Exploring(Plain, frozen=True, kw_only=True):
    """What policies that explore have in common.

    Attributes:
        explore: The share of decisions that is spread evenly over all eligible arms, 0 to 1; "auto", the default,
            begins with 0.02 and falls to 0.005 as more is known.
        challengers: Arms that half of what is explored is spread over, where they are eligible: 1 to 64 of them, such
            as those that might become the only one; by default none.
    """

    explore: Explore = "auto"
    # unset, it is left out, so that servers that do not know it yet can read the document
    challengers: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)] | UnsetType = UNSET

    def rule(self, slot_of: SlotOf) -> Any:
        """Itself, or itself with its challengers for arms that have these slots; -1 is none."""
        rule: Any = self
        if not self.challengers:
            return rule
        return Aimed(rule, np.array(sorted(set(map(slot_of, self.challengers)) - {-1}), np.int64))


class Aimed(msgspec.Struct, frozen=True):
    """A policy with challengers, which have these slots, shape (challengers,), each once.

    p_a = the policy's p_a + explore / 2 (1[a in C] / |C| - 1 / |eligible|)    C: those that are eligible, if any
    """

    policy: Rule
    slots: Int

    @property
    def explore(self) -> Explore:
        """The policy's."""
        return self.policy.explore

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        own: Matrix = self.policy.probabilities(estimates)
        return own + explored(self.explore, estimates.derived) * self._moved(estimates)

    def explored_first(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        first = estimates.eligible / _count(estimates.eligible) + self._moved(estimates)
        return np.broadcast_to(first, estimates.mean.shape)

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """See `Rule`."""
        return self.policy.score(derived, arms, mean, width)

    def leading(self, estimates: Estimates, k: Int) -> Matrix | None:
        """See `Rule`."""
        return self.policy.leading(estimates, k)

    def _moved(self, estimates: Estimates) -> Matrix:
        """(N, K) or (1, K): half of an even choice taken away, and given to the challengers where there are any."""
        eligible, there = estimates.eligible, estimates.eligible[:, self.slots]
        count = _count(there)
        result: Matrix = eligible * (np.minimum(count, 1) * -0.5 / _count(eligible))
        result[:, self.slots] += there * (0.5 / np.maximum(count, 1))
        return result


def explored(explore: Explore, derived: Derived) -> float:
    """The share of decisions that explore: a number as it is, and "auto" by N, the impressions of all arms, of which
    fewer count where rewards are rare and so say little: p is where their mean lies in their range.

    explore_t = max(.005, .02 min(1, sqrt(1000 / N)))    N = impressions min(1, 25 p (1 - p)), p = (mu - lo) / R
    """
    if explore != "auto":
        return explore
    p = min(max((derived.mu - derived.low) / derived.span, 0.0), 1.0)
    N = derived.impressions * min(1.0, RARE * p * (1 - p))
    return MOST if N <= EARLY else max(LEAST, MOST * math.sqrt(EARLY / N))


def mixed(best: Mask, estimates: Estimates, explore: Explore) -> Matrix:
    """(N, K): the best, shared evenly, with probability 1 - explore, and else an even choice of the eligible."""
    e = explored(explore, estimates.derived)
    eligible, greedy = estimates.eligible, (1 - e) / _count(best)
    if estimates.everyone:
        even = e / best.shape[1]
        whole: Matrix = np.empty(best.shape)
        whole.fill(even)
        np.copyto(whole, greedy + even, where=best)
        return whole
    result: Matrix = best * greedy + eligible * (e / _count(eligible))
    return result


def shared(own: Matrix, estimates: Estimates, explore: Explore) -> Matrix:
    """(N, K): a policy's own probabilities with probability 1 - explore, and else an even choice of the eligible."""
    e, eligible = explored(explore, estimates.derived), estimates.eligible
    result: Matrix = (1 - e) * own + eligible * (e / _count(eligible))
    return result


def everywhere(estimates: Estimates) -> Mask:
    """(N, K): the eligible arms of each context."""
    return np.broadcast_to(estimates.eligible, estimates.mean.shape)


def _count(arms: Mask) -> Any:
    """How many arms of each row, shape (N, 1); of a single row a number."""
    return np.count_nonzero(arms) if len(arms) == 1 else np.count_nonzero(arms, axis=1)[:, None]
