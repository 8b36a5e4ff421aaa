"""The better an arm the likelier, each step ahead by the same factor."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from bandit.arrays import Matrix
from bandit.core.policies.rule import Exploring, shared
from bandit.core.ridge.estimates import Estimates


class Softmax(Exploring, tag="softmax", frozen=True, forbid_unknown_fields=True):
    """Boltzmann exploration, mixed with an even choice among the eligible arms.

        p_a = (1 - explore) exp(mean_a / (temperature sigma_pool)) / sum_b exp(...) + explore / |eligible|

    A temperature in reward units, as most have it, means another thing for each reward; in standard deviations of the
    rewards it is the same for clicks, cents and millions. Luce (1959); Sutton and Barto (2018), section 2.8.

    Attributes:
        temperature: How many standard deviations of rewards an estimate has to be ahead to be e times as likely, above
            0 and up to 1,000,000; default 0.05.
    """

    temperature: Annotated[float, Meta(gt=0, le=1e6)] = 0.05

    def probabilities(self, estimates: Estimates) -> Matrix:
        """See `Rule`."""
        mean, unit = estimates.mean, max(self.temperature * estimates.derived.pool, 5e-324)
        with np.errstate(over="ignore"):
            odds = np.exp((mean - mean.max(axis=1, keepdims=True)) / unit)
        return shared(odds / odds.sum(axis=1, keepdims=True), estimates, self.explore)
