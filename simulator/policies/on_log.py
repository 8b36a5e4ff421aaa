"""A log as the problem that a learner is made for, and its rows as learners take them."""

from __future__ import annotations

import numpy as np

from bandit.arrays import Matrix
from simulator.environments.episode import Grid, on_grid
from simulator.logs.log import Log, Rows, eligible_of, span_of
from simulator.policies.protocol import Learner, Task

PIECE = 4096  # rows that are asked for at once: what is computed for them stays in the processor's cache


def task_of(log: Log, seed: int = 0, span: tuple[float, float] | None = None) -> Task:
    """The decision problem of a log: its columns as numbers, its arms, and its range of rewards or the one given."""
    d = 1 if log.context is None else log.context.shape[1]
    low, high = span or log.reward_range or span_of(log.reward)
    columns = [{"type": "number", "name": f"x{j}", "mean": 0, "scale": 1} for j in range(1, d)]
    document = {"features": columns, "arms": list(log.arms), "rewards": {"reward": {"range": [low, high]}}}
    return Task(document, d, seed)


def grid_of(log: Log, rows: Rows) -> Grid:
    """Contexts of these rows as the engine takes them, shape (n, d): without contexts, the intercept alone."""
    return on_grid(np.ones((len(log.arm[rows]), 1)) if log.context is None else log.context[rows])


def frozen(learner: Learner, log: Log) -> Matrix:
    """Probabilities of every arm in every row, shape (n, K), of a learner that learns nothing meanwhile."""
    P = np.zeros((len(log), log.K))
    for start in range(0, len(log), PIECE):
        rows = slice(start, start + PIECE)
        P[rows] = learner.probabilities(grid_of(log, rows), eligible_of(log, rows))
    return P
