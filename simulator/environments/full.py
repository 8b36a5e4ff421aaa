"""Environments made of data in which every arm's reward is known: the rounds are its rows in random order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit.arrays import Int, Matrix
from simulator.environments.datasets import FullInformation
from simulator.environments.episode import Episode, Grid, on_grid, stream

ORDER, GAMBLE = 0, 1  # streams of randomness under a seed


@dataclass(frozen=True, eq=False)
class FullEnvironment:
    """Rows of data in random order; more rounds than rows go through the data again, each time in another order.

    Attributes:
        name: what it goes by.
        document: features, arms and rewards as in an experiment's document.
        x: feature vectors on the grid, shape (N, d).
        mean: expected reward of each arm, shape (N, K).
        gamble: what the reward is off by, up or down with even chances, shape (N, K); None: rewards are certain.
        notes: what was done to the data, in words.
        rows: the contexts as they came, an Arrow struct of N with a field for each feature; None: not kept.
    """

    name: str
    document: Mapping[str, Any]
    x: Grid
    mean: Matrix
    gamble: Matrix | None = None
    notes: tuple[str, ...] = ()
    rows: Any = None

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The rows in the order of a seed."""
        order = self._order(seed, len(self.x) if rounds is None else rounds)
        mean = reward = self.mean[order]
        if self.gamble is not None:
            sign = stream(seed, GAMBLE).choice([-1.0, 1.0], len(order))
            reward = mean + sign[:, None] * self.gamble[order]
        return Episode(self.x[order], mean, reward, np.ones((1, mean.shape[1]), bool))

    def _order(self, seed: int, rounds: int) -> Int:
        rng, passes = stream(seed, ORDER), -(-rounds // len(self.x))
        orders = [rng.permutation(len(self.x)) for _ in range(passes)]
        return np.concatenate([*orders, np.zeros(0, np.int64)])[:rounds]


def from_data(data: FullInformation) -> FullEnvironment:
    """An environment of a data set."""
    return FullEnvironment(data.name, data.document(), on_grid(data.matrix()), data.reward)
