"""An environment made from a log: its contexts in their order, and what a model fitted on it says of every arm.

    q   (n, K)  predicted rewards, kept in [low, high], the possible rewards        R_a  rewards of the rows of arm a
    m_a (K,)    mean of R_a

    rewards all `low` or `high`     `high` with probability (q - low) / (high - low)
    others, where q <= m_a          low + (r - low) (q - low) / (m_a - low)        r: drawn evenly from R_a
    others, where q > m_a           high - (high - r) (high - q) / (high - m_a)

So a reward has the mean q and is possible, and varies as those of its arm did; what the arm's rewards varied with the
context is in it twice, which makes them harder to learn from, not easier. What a policy earns here is as good as the
model and no better: its bias is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from simulator.environments.episode import Episode, Grid, stream
from simulator.logs.log import Log, eligible_of
from simulator.policies.on_log import grid_of, task_of

REWARDS = 3000  # stream of randomness under a seed


@dataclass(frozen=True, eq=False)
class Fitted:
    """See the head of this file.

    Attributes:
        name: what it goes by.
        document: features, arms and rewards as in an experiment's document.
        x: feature vectors on the grid, shape (n, d).
        eligible: which arms could be shown, shape (n, K) or (1, K).
        q: expected rewards, shape (n, K), inside the possible ones.
        rewards: of each arm's rows; empty where it was never shown.
        span: the lowest and highest possible reward.
    """

    name: str
    document: Mapping[str, Any]
    x: Grid
    eligible: Mask
    q: Matrix
    rewards: tuple[Vector, ...]
    span: tuple[float, float]

    @property
    def notes(self) -> tuple[str, ...]:
        """A line that says what the environment was fitted to."""
        return ("rewards are those of a model fitted on the log: its bias is not seen",)

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The rows in their order, those of the first ones again where more rounds are asked for."""
        n = len(self.x)
        rows = np.arange(n if rounds is None else rounds) % n
        eligible = self.eligible if len(self.eligible) == 1 else self.eligible[rows]
        return Episode(self.x[rows], self.q[rows], self._drawn(rows, stream(seed, REWARDS)), eligible)

    def _drawn(self, rows: Int, rng: np.random.Generator) -> Matrix:
        low, high = self.span
        q = self.q[rows]
        if all(np.isin(seen, self.span).all() for seen in self.rewards):
            return low + (high - low) * (rng.random(q.shape) * (high - low) < q - low)
        columns = [moved(seen, mean, self.span, rng) for seen, mean in zip(self.rewards, q.T, strict=True)]
        return np.column_stack(columns)


def moved(seen: Vector, q: Vector, span: tuple[float, float], rng: np.random.Generator) -> Vector:
    """Rewards with the means q, shape (n,), drawn from those seen; q itself where none were."""
    low, high = span
    if not len(seen):
        return q
    r, m = rng.choice(seen, len(q)), float(seen.mean())
    below = (r - low) * ((q - low) / (m - low)) if m > low else np.zeros(len(q))
    above = (high - r) * ((high - q) / (high - m)) if m < high else np.zeros(len(q))
    result: Vector = np.where(q <= m, low + below, high - above)
    return result


def fitted(log: Log, q: Matrix, span: tuple[float, float], name: str = "fitted") -> Fitted:
    """The environment of a log with predictions of every row and arm, shape (n, K).

    Raises:
        ValueError: the log is empty.
    """
    if not len(log):
        raise ValueError("the log has no rows")
    task = task_of(log, span=span)
    seen = tuple(log.reward[log.arm == a] for a in range(log.K))
    eligible = eligible_of(log, slice(None))
    return Fitted(name, task.document, grid_of(log, slice(None)), eligible, np.clip(q, *span), seen, span)
