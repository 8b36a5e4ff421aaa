"""What a learner is asked for, and the draw that turns its probabilities into arms.

A learner returns probabilities and draws nothing: whoever draws keeps the number drawn with. All its methods take many
rounds at once; what it has been told counts from the next `refresh` on, as on a server that refreshes now and then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.draw import draw
from simulator.environments.episode import Grid


@dataclass(frozen=True, eq=False)
class Task:
    """The decision problem that a learner is made for.

    Attributes:
        document: features, arms and rewards as in an experiment's document.
        d: columns of x.
        seed: of whatever randomness is inside the learner.
        ranking: arms from the best to the worst in hindsight; None where that is not known.
    """

    document: Mapping[str, Any]
    d: int
    seed: int = 0
    ranking: Int | None = None

    @property
    def K(self) -> int:  # noqa: N802 - the papers' letter
        """How many arms there are."""
        return len(self.document["arms"])

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and highest possible reward."""
        (kind,) = self.document["rewards"].values()
        low, high = kind.get("range", (0.0, 1.0))
        return float(low), float(high)

    def unit(self, reward: Vector) -> Vector:
        """Rewards moved and scaled to [0, 1], for learners that need them there."""
        low, high = self.span
        result: Vector = (reward - low) / (high - low)
        return result


class Outcomes(NamedTuple):
    """Rounds whose reward is known (or, for `told`, is still to come), one row an arm shown."""

    x: Grid  # (n, d)
    arm: Int  # (n,)
    reward: Vector  # (n,)
    propensity: Vector  # (n,) with which the arm was drawn
    eligible: Mask  # (n, K) or (1, K)


class Learner(Protocol):
    """A policy that learns."""

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """(n, K): each arm's probability of being shown; rows sum to 1, ineligible arms have exactly 0."""

    def shown(self, outcomes: Outcomes) -> None:
        """These were shown; their reward is not known yet and counts for nothing (it is 0 here)."""

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """These rewards are known now. `told`: the rows have been given to `shown` before."""

    def refresh(self) -> None:
        """From now on probabilities are those of all that was told."""


@runtime_checkable
class Lister(Protocol):
    """A learner that can also fill several positions."""

    def lists(self, x: Grid, eligible: Mask, k: int, u: Vector) -> tuple[Int, Matrix]:
        """(arms, propensities given the positions before), both of shape (n, k), drawn with u, shape (n,)."""


class Drawn(NamedTuple):
    """n decisions."""

    arm: Int  # (n,)
    propensity: Vector  # (n,)
    probability: Matrix  # (n, K)


def decide(learner: Learner, x: Grid, eligible: Mask, u: Vector) -> Drawn:
    """Draw an arm for each round.

    Args:
        learner: whose probabilities to draw by.
        x: feature vectors on the grid, shape (n, d).
        eligible: which arms may be shown, shape (n, K) or (1, K).
        u: the numbers drawn with, in [0, 1), shape (n,).
    """
    P = learner.probabilities(x, eligible)
    arm = draw(P, u)
    return Drawn(arm, P[np.arange(len(u)), arm], P)


def greedy(scores: Matrix, eligible: Mask, explore: float) -> Matrix:
    """(n, K): the eligible arms with the largest score share 1 - explore, all eligible ones share the rest."""
    allowed = np.where(eligible, scores, -np.inf)
    best = allowed == allowed.max(axis=1, keepdims=True)
    share = (1 - explore) * best / best.sum(axis=1, keepdims=True)
    result: Matrix = share + explore * eligible / eligible.sum(axis=1, keepdims=True)
    return result


def only(options: Mapping[str, Any], known: Sequence[str], who: str) -> None:
    """Refuse options that a learner does not have.

    Raises:
        ValueError: with the ones that it has.
    """
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{who} takes {', '.join(known) or 'no options'}; unknown {unknown}")
