"""What a policy is: a frozen msgspec struct, which turns estimates into probabilities.

Its tag is the `type` in an experiment's document, its fields are the parameters, with their limits, and its `rule` is
what the engine asks: most often itself with the methods of `Rule`, of which `Plain` has all but `probabilities`. It
draws nothing, keeps nothing, and knows nothing of logs or stores. To add one: a module beside this one with the struct,
and its name in `Policy` of the room. Documents, their faults, the schema, slices, previews and the simulator's names
follow from that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from msgspec import Meta

from bandit.arrays import Int, Mask, Matrix
from bandit.core.ridge.estimates import Derived, Estimates

SlotOf = Callable[[str], int]
Share = Annotated[float, Meta(ge=0, le=1)]


class Rule(Protocol):
    """What the engine asks of a policy."""

    @property
    def explore(self) -> float:
        """The share that is spread evenly over the eligible arms; 0 makes a log that may evaluate nothing."""

    def probabilities(self, estimates: Estimates) -> Matrix:
        """(N, K): each arm's probability of being shown first; rows sum to 1, ineligible arms have exactly 0."""

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """What these arms are ranked by, from x'theta and width; for people to read."""

    def leading(self, estimates: Estimates, k: Int) -> Matrix | None:
        """(N, K): the scores by which a list of k[i] is ordered when it does not explore; -inf of arms below it.

        None: each place of a list is drawn for itself, from the probabilities among the arms left.
        """


class Plain(msgspec.Struct, frozen=True):
    """What a policy is that ranks by its estimates for people, and has no order of lists: its own rule."""

    def score(self, derived: Derived, arms: Any, mean: Any, width: Any) -> Any:
        """See `Rule`."""
        return mean

    def leading(self, estimates: Estimates, k: Int) -> Matrix | None:
        """See `Rule`."""
        return None

    def rule(self, slot_of: SlotOf) -> Any:
        """Itself."""
        return self


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


def shared(own: Matrix, estimates: Estimates, explore: float) -> Matrix:
    """(N, K): a policy's own probabilities with probability 1 - explore, and else an even choice of the eligible."""
    eligible = estimates.eligible
    result: Matrix = (1 - explore) * own + eligible * (explore / _count(eligible))
    return result


def everywhere(estimates: Estimates) -> Mask:
    """(N, K): the eligible arms of each context."""
    return np.broadcast_to(estimates.eligible, estimates.mean.shape)


def _count(arms: Mask) -> Any:
    """How many arms of each row, shape (N, 1); of a single row a number."""
    return np.count_nonzero(arms) if len(arms) == 1 else np.count_nonzero(arms, axis=1)[:, None]
