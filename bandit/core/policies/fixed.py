"""Choices that nothing learned decides: evenly, or always the same arm."""

from __future__ import annotations

import msgspec
import numpy as np

from bandit.arrays import Int, Mask, Matrix
from bandit.core.features import Name
from bandit.core.policies.rule import Plain, Rule, Share, SlotOf, everywhere, mixed
from bandit.core.ridge.estimates import Estimates


class Uniform(Plain, tag="uniform", frozen=True, forbid_unknown_fields=True):
    """An even choice among the eligible arms, whatever has been learned."""

    @property
    def explore(self) -> float:
        """Every decision."""
        return 1.0

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        return mixed(everywhere(estimates), estimates, 0.0)

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return np.where(everywhere(estimates), 0.0, -np.inf)


class Fixed(msgspec.Struct, tag="fixed", frozen=True, forbid_unknown_fields=True):
    """One arm wherever it is eligible, mixed with an even choice; where it is not, an even choice.

    Attributes:
        arm: The arm to show.
        explore: The share of decisions that is spread evenly over all eligible arms, 0 to 1; default 0.
    """

    arm: Name
    explore: Share = 0.0

    def rule(self, slot_of: SlotOf) -> Rule:
        """The rule for estimates where each arm has this slot; -1 is none."""
        return Shown(np.array([slot_of(self.arm)]), self.explore)


class Shown(Plain, frozen=True):
    """`Fixed` where arms have slots: `arm` of all contexts, or of each, shape (1,) or (N,); -1 is no arm."""

    arm: Int
    explore: float

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        own = self._own(estimates)
        best = np.where(own.any(axis=1, keepdims=True), own, everywhere(estimates))
        return mixed(best, estimates, self.explore)

    def leading(self, estimates: Estimates, k: Int) -> Matrix:
        """See `Rule`."""
        return np.where(everywhere(estimates), self._own(estimates) * 1.0, -np.inf)

    def _own(self, estimates: Estimates) -> Mask:
        own: Mask = everywhere(estimates) & (np.arange(estimates.mean.shape[1]) == self.arm[:, None])
        return own
