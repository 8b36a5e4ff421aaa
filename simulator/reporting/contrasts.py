"""The parts of a log that a report looks at one by one."""

from __future__ import annotations

import numpy as np

from bandit.arrays import Int, Vector
from simulator.logs.log import Log
from simulator.ope.checks.overlap import row_weights
from simulator.ope.differences import Data

BINS = 10  # of the calibration
WINDOWS = 2, 10  # the fewest and the most parts of a log over time
WINDOW = 400.0  # effective n of a part


def windows(log: Log, n_eff: float) -> list[Int]:
    """Row numbers of even parts of the log over time: 2 to 10, by how much the whole log says of the target."""
    order = np.arange(len(log)) if log.time_ms is None else np.argsort(log.time_ms, kind="stable")
    return np.array_split(order, min(len(log), int(np.clip(n_eff / WINDOW, *WINDOWS))))


def arms_of(log: Log, most: int) -> list[int]:
    """The arms shown most, the most shown first."""
    order: list[int] = np.argsort(-np.bincount(log.arm, minlength=log.K), kind="stable")[:most].tolist()
    return order


def calibration(data: Data) -> tuple[Vector, list[Int]]:
    """Predictions of the arms shown, shape (n,), and row numbers of ten even bins of them (fewer where they tie)."""
    predicted: Vector = data.q[np.arange(len(data.log)), data.log.arm]
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, predicted, side="right")
    return predicted, [np.flatnonzero(bins == b) for b in np.unique(bins).tolist()]


def average(values: Vector, log: Log) -> float:
    """The mean of values, shape (n,), by row weights."""
    return float(np.average(values, weights=row_weights(log)))
