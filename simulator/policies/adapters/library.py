"""What the adapters share: a library that may be missing, and scores turned into probabilities."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from bandit.arrays import Mask, Matrix
from bandit.core.sums import ONE
from simulator.environments.episode import Grid
from simulator.policies.protocol import Outcomes, greedy


class MissingLibraryError(ImportError):
    """A library that an adapter needs is not installed here, or does not run here."""


def library(module: str, how: str) -> ModuleType:
    """Import a library.

    Args:
        module: what to import.
        how: how to get it, in words.

    Raises:
        MissingLibraryError: it cannot be imported; the message says what is needed.
    """
    try:
        return import_module(module)
    except Exception as error:  # a library may also fail at import: built for another numpy, or with its own warnings
        raise MissingLibraryError(f"{module} is needed and cannot be imported ({error}); {how}") from error


class Scored:
    """An adapter whose library ranks the arms; the best gets 1 - explore, ties shared, explore is spread evenly."""

    explore: float = 0.0

    def scores(self, X: Matrix) -> Matrix:
        """(n, K): what arms are ranked by, for contexts with the intercept first."""
        raise NotImplementedError

    def update(self, X: Matrix, outcomes: Outcomes) -> None:
        """Learn from rewards that are known."""
        raise NotImplementedError

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """See `Learner`."""
        return greedy(self.scores(x / float(ONE)), eligible, self.explore)

    def shown(self, outcomes: Outcomes) -> None:
        """Nothing is learned before the reward is known."""

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """See `Learner`."""
        if len(outcomes.arm):
            self.update(outcomes.x / float(ONE), outcomes)

    def refresh(self) -> None:
        """Nothing waits: probabilities are asked for once an interval, and learning comes after."""
